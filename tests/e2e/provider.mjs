// The OpenID provider under a test's control: `node provider.mjs [--port N] SETTINGS`; port 0 is any free.
//
// SETTINGS is a JSON file of {jwks, clientSecret}, written by the test at run time. On SIGHUP it is read anew
// and a provider with the new keys takes over behind the same port: a key rotation as clients see it.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

import Provider, { errors } from 'oidc-provider';

const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA'];
const AUDIENCE = 'https://api.example.test';
const { values, positionals } = parseArgs({
  options: { port: { type: 'string', default: '0' } },
  allowPositionals: true,
});
const [settingsFile] = positionals;

let handler;

// One resource for each algorithm, so that a client can choose how its token is signed, and one for opaque
// tokens. Any other is refused: the library would sign for it by its own default, and a slip would go unseen.
function resourceServer(_ctx, resource) {
  const name = resource.startsWith(`${AUDIENCE}/`) ? resource.slice(AUDIENCE.length + 1) : '';
  const common = { scope: 'read:pets write:pets', audience: AUDIENCE, accessTokenTTL: 300 };
  if (name === 'opaque') return { ...common, accessTokenFormat: 'opaque' };
  if (ALGORITHMS.includes(name)) return { ...common, accessTokenFormat: 'jwt', jwt: { sign: { alg: name } } };
  throw new errors.InvalidTarget();
}

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
      resourceIndicators: { enabled: true, getResourceServerInfo: resourceServer },
    },
    ttl: { ClientCredentials: 300 },
  });
  handler = provider.callback();
}

const server = createServer((request, response) => handler(request, response));
server.listen(Number(values.port), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  build(issuer);
  process.on('SIGHUP', () => {
    build(issuer);
    console.log(JSON.stringify({ issuer, rebuilt: true }));
  });
  console.log(JSON.stringify({ issuer, ready: true }));
});
process.on('SIGTERM', () => process.exit(0));
