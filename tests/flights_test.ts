/** How many round trips a login takes, and what becomes of servers that take nothing ahead. */

import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import type ssh2Types from "ssh2";
import { Acquaintance } from "../lib/acquaintance.ts";
import type { CredentialSource } from "../lib/credential_source.ts";
import { handshake, type HandshakeOptions } from "../lib/handshake.ts";
import { publicKeyOf, signWith } from "../lib/key_object.ts";
import { generateKey } from "../lib/local_host_key.ts";
import { algorithmsFor, fingerprint, keyTypeOf } from "../lib/public_key.ts";
import type { Signer } from "../lib/signer.ts";
import { ssh2 } from "../lib/ssh2.ts";
import { clientAlgorithms, serverAlgorithms } from "../lib/ssh2_algorithms.ts";
import { Ssh2Client } from "../lib/ssh2_client.ts";
import { ByteSocket } from "../lib/ssh2_socket.ts";
import { PinnedTrust } from "../lib/trust.ts";
import { CountedNetwork } from "./support/flights.ts";
import { makePeer } from "./support/ssh2_peer.ts";

const hostKey = generateKey();
const openssh = "OpenSSH_9.2";

function makeSigner(more: Partial<Signer> = {}): Signer {
  const { privateKey } = generateKeyPairSync("ed25519");
  const publicKey = publicKeyOf(privateKey);
  return {
    ...{ name: "a key", publicKey, algorithms: algorithmsFor(keyTypeOf(publicKey)) },
    ...{ needsTouch: false, isOurs: true },
    sign: (data, algorithm) => Promise.resolve(signWith(privateKey, data, algorithm)),
    ...more,
  };
}

/** What a login is made with. */
function sourceOf(signers: readonly Signer[], password?: string): CredentialSource {
  return {
    bindsToHost: true,
    async *keys() {
      for (const signer of signers) yield { ...signer, unlock: () => Promise.resolve(signer) };
    },
    numberOfPasswordPrompts: 1,
    password: (attempt) => Promise.resolve(attempt === 0 ? password : undefined),
    answer: () => Promise.resolve(undefined),
    newPassword: () => Promise.resolve(undefined),
  };
}

/** How a server behaves. */
interface ServerOptions {
  ident?: string;
  kex?: readonly string[];
  hostKey?: { privateKey: string; publicKey: Uint8Array };
  /** Whether it lets somebody in; its methods are these otherwise. */
  admits(context: ssh2Types.AuthContext): boolean;
  methods?: ssh2Types.AuthenticationType[];
  onConnection?(connection: ssh2Types.Connection): void;
}

/** A server whose users have one of these keys. */
function acceptingKeys(...signers: readonly Signer[]): ServerOptions {
  return {
    methods: ["publickey"],
    admits: (context) =>
      context.method === "publickey" &&
      signers.some(({ publicKey }) =>
        fingerprint(publicKey) === fingerprint(new Uint8Array(context.key.data))
      ),
  };
}

/** What came of a login. */
interface Outcome {
  flights: number;
  /** The methods that the server was asked for, with whether a signature came along. */
  requests: string[];
  error: Error | undefined;
  exchange: string | undefined;
}

/** Logs in once. */
async function logIn(
  server: ServerOptions,
  { source, acquaintance }: { source: CredentialSource; acquaintance: Acquaintance },
): Promise<Outcome> {
  const network = new CountedNetwork();
  const requests: string[] = [];
  const socket = serve(network, server, requests);
  const client = new Ssh2Client(network.client);
  const ended = Promise.withResolvers<void>();
  let exchange: string | undefined;
  const key = (server.hostKey ?? hostKey).publicKey;
  const ready = handshake(
    client,
    {
      ...{ name: "jane@upstream.test", isJump: false, isAttended: false, username: "jane" },
      ...{ identificationTimeoutMs: 30_000, requiredRsaSize: 1024, notify: () => {} },
      methods: { first: ["publickey", "password"], afterwards: ["publickey", "password"] },
      ...{ credentials: source, acquaintance },
      trust: new PinnedTrust("upstream.test", fingerprint(key)),
      algorithms: clientAlgorithms({}, []),
      onReady: (transport, session) => {
        exchange = session.exchange?.keyExchange;
        transport.start({
          ...{ onPayload: () => {}, onDrain: () => {}, onDisconnect: () => {} },
        });
      },
      onLost: () => ended.resolve(),
    } satisfies HandshakeOptions,
  );
  let error: Error | undefined;
  await network.until(ready.catch((reason) => error = reason));
  client.destroy();
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.destroy();
  await closed;
  if (error === undefined) await ended.promise;
  return { flights: network.flights, requests, error, exchange };
}

function serve(
  { server: end }: CountedNetwork,
  { ident = openssh, kex, hostKey: key = hostKey, admits, methods = [], onConnection }:
    ServerOptions,
  requests: string[],
): ByteSocket {
  Object.assign(ssh2.Server, { KEEPALIVE_CLIENT_INTERVAL: 0 });
  const algorithms = { ...serverAlgorithms(), ...kex && { kex } };
  const server = new ssh2.Server({
    ...{ hostKeys: [key.privateKey], ident },
    algorithms: kex
      ? { ...algorithms.forSsh2, kex: kex as ssh2Types.KexAlgorithm[] }
      : algorithms.forSsh2,
  }, (connection) => {
    connection.on("error", () => {});
    makePeer(connection, algorithms);
    connection.on("authentication", (context) => {
      const isSigned = context.method === "publickey" && context.signature !== undefined;
      requests.push(isSigned ? "signature" : context.method);
      if (admits(context)) context.accept();
      else context.reject(methods);
    });
    onConnection?.(connection);
  });
  const socket = new ByteSocket(end, { role: "server" });
  server.injectSocket(socket as never);
  return socket;
}

for (const kex of [["curve25519-sha256"], undefined]) {
  const name = kex?.[0] ?? "the hybrid exchange";
  Deno.test(`with ${name}, the first login with a key takes 5 round trips, the next one 2`, async () => {
    const signer = makeSigner();
    const server: ServerOptions = { ...acceptingKeys(signer), ...kex && { kex } };
    const acquaintance = new Acquaintance();
    const source = sourceOf([makeSigner(), signer]);
    const first = await logIn(server, { source: sourceOf([signer]), acquaintance });
    assert.deepEqual(first.requests, ["none", "publickey", "signature"]);
    assert.equal(first.flights, 5);

    for (let count = 0; count < 2; count++) {
      const next = await logIn(server, { source, acquaintance });
      assert.equal(next.error, undefined);
      assert.deepEqual(next.requests, ["signature"]);
      assert.equal(next.flights, 2);
      assert.equal(next.exchange, first.exchange);
    }
  });
}
