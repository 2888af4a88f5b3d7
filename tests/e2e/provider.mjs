// The OpenID provider under a test's control: `node provider.mjs SETTINGS`.
//
// SETTINGS is a JSON file of {port, jwks, clientSecret}, written by the test at run time. On SIGHUP it is read again
// and a provider with the new keys takes over behind the same port: that is a key rotation as clients see it.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA'];
const AUDIENCE = 'https://api.example.test';
const [settingsFile] = process.argv.slice(2);

let handler;

function build(issuer) {
  const { jwks, clientSecret } = JSON.parse(readFileSync(settingsFile, 'utf8'));
  const provider = new Provider(issuer, {
    jwks,
    clients: [
      {
        client_id: 'e2e',
        client_secret: clientSecret,
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      },
    ],
    scopes: ['read:pets', 'write:pets'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      // One resource for each algorithm, so that a client can choose how its token is signed.
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, resource) => ({
          scope: 'read:pets write:pets',
          audience: AUDIENCE,
          accessTokenFormat: 'jwt',
          accessTokenTTL: 300,
          jwt: { sign: { alg: ALGORITHMS.find((name) => resource.endsWith(`/${name}`)) } },
        }),
      },
    },
    ttl: { ClientCredentials: 300 },
  });
  handler = provider.callback();
}

const { port } = JSON.parse(readFileSync(settingsFile, 'utf8'));
const server = createServer((request, response) => handler(request, response));
server.listen(port, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  build(issuer);
  process.on('SIGHUP', () => {
    build(issuer);
    console.log(JSON.stringify({ issuer, rebuilt: true }));
  });
  console.log(JSON.stringify({ issuer, ready: true }));
});
process.on('SIGTERM', () => process.exit(0));
