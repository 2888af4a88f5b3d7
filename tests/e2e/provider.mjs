// The OpenID provider under a test's control: `node provider.mjs [--port N] SETTINGS`; port 0 is any free.
//
// SETTINGS is a JSON file of {jwks, clientSecret, clients, remembersJwts}, written by the test at run time; `clients`
// are further registrations (RFC 7591). On SIGHUP it is read anew and a provider with the new keys takes over behind the same
// port: a key rotation as clients see it. On SIGUSR2 it prints the introspections that it was asked for.
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
const introspections = [];

// One resource for each algorithm, so that a client can choose how its token is signed, and two for opaque
// tokens, of which one soon expires. Any other is refused: the library would sign for it by its own default, and a slip would go unseen.
function resourceServer(_ctx, resource) {
  const name = resource.startsWith(`${AUDIENCE}/`) ? resource.slice(AUDIENCE.length + 1) : '';
  const common = { scope: 'read:pets write:pets', audience: AUDIENCE, accessTokenTTL: 300 };
  if (name === 'opaque') return { ...common, accessTokenFormat: 'opaque' };
  if (name === 'brief') return { ...common, accessTokenFormat: 'opaque', accessTokenTTL: 3 };
  if (ALGORITHMS.includes(name)) return { ...common, accessTokenFormat: 'jwt', jwt: { sign: { alg: name } } };
  throw new errors.InvalidTarget();
}

// How the client of a request said who it is.
function authentication({ headers, oidc }) {
  if (headers.authorization !== undefined) return 'client_secret_basic';
  if (oidc.params?.client_assertion !== undefined) return 'private_key_jwt';
  return oidc.params?.client_secret === undefined ? 'none' : 'client_secret_post';
}

async function note(ctx, next) {
  await next();
  if (ctx.oidc?.route !== 'introspection') return;
  introspections.push({
    client: ctx.oidc.authorization.clientId ?? null,
    auth: authentication(ctx),
    status: ctx.status,
  });
}

// The library keeps no JWT that it issues, and so calls each of them inactive. What a deployment would do about it,
// with the library's own events: its answers, and what its revocation endpoint does, then are those to other tokens.
function rememberJwts(provider) {
  const { ClientCredentials } = provider;
  const issued = new Map();
  const find = ClientCredentials.find.bind(ClientCredentials);
  provider.on('client_credentials.issued', (token) => issued.set(token.jti, token));
  provider.on('client_credentials.destroyed', (token) => issued.delete(token.jti));
  ClientCredentials.find = async (value, options) => {
    const [, payload] = value.split('.');
    if (payload === undefined) return find(value, options);
    const { jti, iat, exp } = JSON.parse(Buffer.from(payload, 'base64url'));
    const token = issued.get(jti);
    return token && Object.assign(token, { iat, exp });
  };
}

function build(issuer) {
  const { jwks, clientSecret, clients, remembersJwts } = JSON.parse(readFileSync(settingsFile, 'utf8'));
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
      ...clients,
    ],
    scopes: ['read:pets', 'write:pets'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      dPoP: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: { enabled: true, getResourceServerInfo: resourceServer },
    },
    ttl: { ClientCredentials: (_ctx, { resourceServer }) => resourceServer.accessTokenTTL },
  });
  if (remembersJwts) rememberJwts(provider);
  provider.use(note);
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
  process.on('SIGUSR2', () => console.log(JSON.stringify({ introspections })));
  console.log(JSON.stringify({ issuer, ready: true }));
});
process.on('SIGTERM', () => process.exit(0));
