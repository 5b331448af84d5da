/** How many round trips a login takes, and what becomes of servers that take nothing ahead. */

import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import type ssh2Types from "ssh2";
import { Acquaintance } from "../lib/acquaintance.ts";
import type { CredentialSource } from "../lib/credential_source.ts";
import { EarlyMessagesError, HostKeyError } from "../lib/errors.ts";
import { handshake, type HandshakeOptions } from "../lib/handshake.ts";
import { publicKeyOf, signWith } from "../lib/key_object.ts";
import { generateKey } from "../lib/local_host_key.ts";
import { algorithmsFor, fingerprint, keyTypeOf } from "../lib/public_key.ts";
import type { Signer } from "../lib/signer.ts";
import { buildMessage, concatenate, encodeFields } from "../lib/ssh_data.ts";
import { ssh2 } from "../lib/ssh2.ts";
import { clientAlgorithms, serverAlgorithms } from "../lib/ssh2_algorithms.ts";
import { Ssh2Client } from "../lib/ssh2_client.ts";
import { ByteSocket } from "../lib/ssh2_socket.ts";
import type { Ssh2Transport } from "../lib/ssh2_transport.ts";
import { PinnedTrust } from "../lib/trust.ts";
import { FakeTime } from "./support/fake_time.ts";
import { CountedNetwork } from "./support/flights.ts";
import { settled } from "./support/scripted_connector.ts";
import { clearMessagesOf } from "./support/impostor.ts";
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
  /** Whether it lets somebody in, or half-way; its methods are these otherwise. */
  admits(context: ssh2Types.AuthContext): boolean | "half";
  methods?: ssh2Types.AuthenticationType[];
  onConnection?(
    connection: ssh2Types.Connection,
    protocol: Protocol,
    transport: Ssh2Transport,
  ): void;
}

/** The private part of ssh2 1.17.0 that is used here. */
interface Protocol {
  _kexinit: Uint8Array;
  _cipher: { encrypt(packet: Uint8Array): void };
  _onPayload(payload: Uint8Array): unknown;
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
  /** The messages that left unencrypted. */
  clear: number[];
  /** The methods that the server was asked for, with whether a signature came along. */
  requests: string[];
  error: Error | undefined;
  exchange: string | undefined;
  /** What was told of the login, in order. */
  events: string[];
}

/** Logs in once. */
async function logIn(
  server: ServerOptions,
  { source, acquaintance, expected = server.hostKey ?? hostKey, opensAhead = false }: {
    source: CredentialSource;
    acquaintance: Acquaintance;
    /** The host key that is believed; the server's by default. */
    expected?: { publicKey: Uint8Array };
    /** Whether a session is opened as soon as that may be of use. */
    opensAhead?: boolean;
  },
): Promise<Outcome> {
  const network = new CountedNetwork();
  const requests: string[] = [];
  const socket = serve(network, server, requests);
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  const client = new Ssh2Client(network.client);
  const ended = Promise.withResolvers<void>();
  let exchange: string | undefined;
  const events: string[] = [];
  const ready = handshake(
    client,
    {
      ...{ name: "jane@upstream.test", isJump: false, isAttended: false, username: "jane" },
      ...{ identificationTimeoutMs: 30_000, requiredRsaSize: 1024, notify: () => {} },
      methods: { first: ["publickey", "password"], afterwards: ["publickey", "password"] },
      ...{ credentials: source, acquaintance },
      trust: new PinnedTrust("upstream.test", fingerprint(expected.publicKey)),
      algorithms: clientAlgorithms({}, []),
      onPresumed: (transport) => {
        events.push("presumed");
        if (opensAhead) transport.send(buildMessage(90, "session", 0, 1000, 1000));
      },
      onRefuted: () => events.push("refuted"),
      onReady: (transport, session) => {
        events.push("ready");
        exchange = session.exchange?.keyExchange;
        transport.start({
          onPayload: ([type]) => events.push(`message ${type}`),
          ...{ onDrain: () => {}, onDisconnect: () => {} },
        });
      },
      onLost: () => ended.resolve(),
    } satisfies HandshakeOptions,
  );
  let error: Error | undefined;
  await network.until(ready.catch((reason) => error = reason));
  const { flights } = network;
  // What the server has sent with its verdict.
  await settled();
  client.destroy();
  socket.destroy();
  await closed;
  if (error === undefined) await ended.promise;
  const clear = clearMessagesOf(network.sentByClient);
  return { flights, clear, requests, error, exchange, events };
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
    const transport = makePeer(connection, algorithms);
    const { _protocol: protocol } = connection as unknown as { _protocol: Protocol };
    connection.on("authentication", (context) => {
      const isSigned = context.method === "publickey" && context.signature !== undefined;
      requests.push(isSigned ? "signature" : context.method);
      const verdict = admits(context);
      if (verdict === true) context.accept();
      else context.reject(methods, verdict === "half");
    });
    onConnection?.(connection, protocol, transport);
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

Deno.test("a server that is no OpenSSH gets nothing ahead before it is known", async () => {
  const signer = makeSigner();
  const [source, acquaintance] = [sourceOf([signer]), new Acquaintance()];
  const server = { ...acceptingKeys(signer), ident: "other_1" };
  assert.equal((await logIn(server, { source, acquaintance })).flights, 6);
  assert.equal((await logIn(server, { source, acquaintance })).flights, 2);
});

Deno.test("a password is sent at once to a host that has taken it, with the key that it had", async () => {
  const server: ServerOptions = {
    methods: ["password"],
    admits: (context) => context.method === "password" && context.password === "secret",
  };
  const [source, acquaintance] = [sourceOf([], "secret"), new Acquaintance()];
  const first = await logIn(server, { source, acquaintance });
  assert.deepEqual([first.requests, first.flights], [["none", "password"], 4]);
  const next = await logIn(server, { source, acquaintance });
  assert.deepEqual([next.requests, next.flights], [["password"], 2]);

  const other = { ...server, hostKey: generateKey() };
  const elsewhere = await logIn(other, { source, acquaintance });
  assert.deepEqual([elsewhere.requests, elsewhere.flights], [["none", "password"], 3]);
});

Deno.test("before the host key is accepted nothing but the exchange is sent ahead", async () => {
  const server: ServerOptions = {
    methods: ["password"],
    admits: (context) => context.method === "password",
  };
  const [source, acquaintance] = [sourceOf([], "secret"), new Acquaintance()];
  await logIn(server, { source, acquaintance });
  const expected = generateKey();
  const { error, clear, requests } = await logIn(server, { source, acquaintance, expected });
  assert.ok(error instanceof HostKeyError);
  // KEXINIT, the first message of the exchange, DISCONNECT.
  assert.deepEqual([clear, requests], [[20, 30, 1], []]);
  const { clear: next } = await logIn(server, { source, acquaintance });
  assert.deepEqual(next, [20, 30, 21]);
});

Deno.test("a key for whose signature a person may have been asked is offered without one first", async () => {
  const ours = makeSigner();
  const slow: Signer["sign"] = async (data, algorithm) => {
    await new Promise((resolve) => setTimeout(resolve, 250));
    return await ours.sign(data, algorithm);
  };
  const ways: [Partial<Signer>, requests: string[]][] = [
    [{ isOurs: false }, ["signature"]],
    [{ isOurs: false, sign: slow }, ["publickey", "signature"]],
    [{ isOurs: false, needsTouch: true }, ["publickey", "signature"]],
  ];
  for (const [more, requests] of ways) {
    const [source, acquaintance] = [sourceOf([{ ...ours, ...more }]), new Acquaintance()];
    const server = acceptingKeys(ours);
    await logIn(server, { source, acquaintance });
    const next = await logIn(server, { source, acquaintance });
    assert.deepEqual(next.requests, requests);
  }
});

Deno.test("a person who is asked on the way to a known host has any time", async () => {
  using time = new FakeTime();
  const signer = makeSigner();
  const asking: Signer["sign"] = async (data, algorithm) => {
    time.advance(3_600_000);
    await settled();
    return await signer.sign(data, algorithm);
  };
  const acquaintance = new Acquaintance();
  const server = acceptingKeys(signer);
  await logIn(server, { source: sourceOf([signer]), acquaintance });
  const source = sourceOf([{ ...signer, sign: asking }]);
  const next = await logIn(server, { source, acquaintance });
  assert.equal(next.error, undefined);
  assert.deepEqual(next.requests, ["signature"]);
});

Deno.test("to OpenSSH's server what follows the login goes with it, and is answered with it", async () => {
  const signer = makeSigner();
  const [source, acquaintance] = [sourceOf([signer]), new Acquaintance()];
  const server = acceptingKeys(signer);
  assert.deepEqual((await logIn(server, { source, acquaintance })).events, ["ready"]);
  const next = await logIn(server, { source, acquaintance, opensAhead: true });
  assert.equal(next.flights, 2);
  // CHANNEL_OPEN_FAILURE: nobody serves sessions there.
  assert.deepEqual(next.events, ["presumed", "ready", "message 92"]);

  const other = { ...server, ident: "other_1" };
  const strangers = new Acquaintance();
  for (let count = 0; count < 2; count++) {
    const { events } = await logIn(other, { source, acquaintance: strangers });
    assert.deepEqual(events, ["ready"]);
  }
});

Deno.test("a server that ends the connection for what was to follow a login is asked step by step", async () => {
  const [first, second] = [makeSigner(), makeSigner()];
  const [source, acquaintance] = [sourceOf([first, second]), new Acquaintance()];
  await logIn(acceptingKeys(first), { source, acquaintance });
  // ssh2's server does, as RFC 4252, section 6, demands.
  const refused = await logIn(acceptingKeys(second), { source, acquaintance, opensAhead: true });
  assert.match(String(refused.error), /UpstreamLostError/);
  assert.deepEqual(refused.events, ["presumed", "refuted"]);
  const next = await logIn(acceptingKeys(second), { source, acquaintance, opensAhead: true });
  assert.deepEqual(next.requests, ["none", "publickey", "publickey", "signature"]);
  assert.deepEqual(next.events, ["ready"]);
});

Deno.test("a login that took more than a key is not presumed", async () => {
  const [first, second] = [makeSigner(), makeSigner()];
  const [source, acquaintance] = [sourceOf([first, second]), new Acquaintance()];
  for (const requests of [["none", "publickey", "signature"], ["signature"]]) {
    let signatures = 0;
    const server: ServerOptions = {
      methods: ["publickey"],
      admits: (context) => {
        if (context.method !== "publickey") return false;
        return context.signature === undefined || ++signatures === 2 || "half";
      },
    };
    const outcome = await logIn(server, { source, acquaintance });
    assert.deepEqual(outcome.requests, [...requests, "publickey", "signature"]);
    assert.deepEqual(outcome.events, ["ready"]);
  }
});

Deno.test("a key that is not accepted any more is not tried twice, and the others are, in order", async () => {
  const [first, known, last] = [makeSigner(), makeSigner(), makeSigner()];
  const [source, acquaintance] = [sourceOf([first, known, last]), new Acquaintance()];
  await logIn(acceptingKeys(known), { source, acquaintance });
  const next = await logIn(acceptingKeys(last), { source, acquaintance });
  assert.equal(next.error, undefined);
  assert.deepEqual(next.requests, ["signature", "publickey", "publickey", "signature"]);
  assert.deepEqual(next.events, ["presumed", "refuted", "ready"]);
  const afterThat = await logIn(acceptingKeys(last), { source, acquaintance });
  assert.deepEqual(afterThat.requests, ["signature"]);
});

Deno.test("where nothing is left to try of what a host had, it is asked what it has", async () => {
  const signer = makeSigner();
  const [acquaintance, passwords] = [new Acquaintance(), sourceOf([], "secret")];
  await logIn(acceptingKeys(signer), { source: sourceOf([signer]), acquaintance });
  // The key is gone here, and passwords are new there.
  const server: ServerOptions = {
    methods: ["password"],
    admits: (context) => context.method === "password",
  };
  const { requests } = await logIn(server, { source: passwords, acquaintance });
  assert.deepEqual(requests, ["none", "password"]);
});

Deno.test("a host that agrees on another exchange than before ends one attempt, and no more", async () => {
  const signer = makeSigner();
  const [source, acquaintance] = [sourceOf([signer]), new Acquaintance()];
  const server = acceptingKeys(signer);
  const classical = { ...server, kex: ["curve25519-sha256"] };
  await logIn(server, { source, acquaintance });
  const { error, requests, clear } = await logIn(classical, { source, acquaintance });
  assert.ok(error instanceof EarlyMessagesError);
  assert.deepEqual([requests, clear], [[], [20, 30, 1]]);
  const careful = await logIn(classical, { source, acquaintance });
  assert.deepEqual([careful.flights, careful.exchange], [6, "curve25519-sha256"]);
  assert.equal((await logIn(classical, { source, acquaintance })).flights, 2);
});

Deno.test("a server that ends a connection with something ahead is asked step by step, for good", async () => {
  const signer = makeSigner();
  const [source, acquaintance] = [sourceOf([signer]), new Acquaintance()];
  const server = { ...acceptingKeys(signer), onConnection: refuseAhead };
  const first = await logIn(server, { source, acquaintance });
  assert.ok(first.error instanceof EarlyMessagesError);
  for (let count = 0; count < 3; count++) {
    const { error, flights, requests } = await logIn(server, { source, acquaintance });
    assert.equal(error, undefined);
    assert.deepEqual([flights, requests], [6, ["none", "publickey", "signature"]]);
  }
});

/** Ends the connection when a request of authentication comes with SERVICE_REQUEST. */
function refuseAhead(connection: ssh2Types.Connection, protocol: Protocol): void {
  const onPayload = protocol._onPayload;
  let isBusy = false;
  protocol._onPayload = (payload) => {
    if (payload[0] === 5) {
      isBusy = true;
      queueMicrotask(() => isBusy = false);
    }
    if (payload[0] === 50 && isBusy) return void connection.end();
    return onPayload(payload);
  };
}

const answersAhead: Record<string, Uint8Array> = {
  "USERAUTH_SUCCESS": buildMessage(52),
  "USERAUTH_FAILURE": buildMessage(51, "password", false),
  "message 60": buildMessage(60, "ssh-ed25519", "a key"),
};

for (const [name, answer] of Object.entries(answersAhead)) {
  Deno.test(`before SERVICE_ACCEPT, ${name} answers nothing, though the request was sent`, async () => {
    const signer = makeSigner();
    const server: ServerOptions = {
      ...acceptingKeys(signer),
      onConnection: (connection, _protocol, transport) =>
        connection.on("handshake", () => transport.send(answer)),
    };
    const acquaintance = new Acquaintance();
    const { error } = await logIn(server, { source: sourceOf([signer]), acquaintance });
    assert.ok(error instanceof EarlyMessagesError);
    assert.match(error.message, new RegExp(`${name} before authentication began`));
  });
}

Deno.test("a server that guesses another exchange is not believed, and not in the way", async () => {
  const signer = makeSigner();
  const [source, acquaintance] = [sourceOf([signer]), new Acquaintance()];
  const server: ServerOptions = {
    ...acceptingKeys(signer),
    kex: ["ecdh-sha2-nistp256", "curve25519-sha256"],
    onConnection: (_connection, protocol) =>
      onSending(protocol, (packet, send) => {
        const isKexinit = packet[5] === 20;
        if (isKexinit) claimGuess(protocol, packet);
        send(packet);
        if (isKexinit) send(packetOf(buildMessage(31, "no", "such", "reply")));
      }),
  };
  for (const flights of [5, 2]) {
    const outcome = await logIn(server, { source, acquaintance });
    assert.equal(outcome.error, undefined);
    assert.deepEqual([outcome.flights, outcome.exchange], [flights, "curve25519-sha256"]);
  }
});

Deno.test("a reply that comes before the server's KEXINIT leads nowhere", async () => {
  const signer = makeSigner();
  const [source, acquaintance] = [sourceOf([signer]), new Acquaintance()];
  const server = acceptingKeys(signer);
  await logIn(server, { source, acquaintance });
  const { error, requests } = await logIn({
    ...server,
    onConnection: (_connection, protocol) => {
      let kexinit: Uint8Array | undefined;
      onSending(protocol, (packet, send) => {
        if (packet[5] === 20) return void (kexinit = packet.slice());
        send(packet);
        if (packet[5] === 31) send(kexinit!);
      });
    },
  }, { source, acquaintance });
  assert.ok(error instanceof EarlyMessagesError);
  assert.deepEqual(requests, []);
});

/** Changes what a server sends before it encrypts. */
function onSending(
  protocol: Protocol,
  change: (packet: Uint8Array, send: (packet: Uint8Array) => void) => void,
): void {
  const cipher = protocol._cipher;
  const send = cipher.encrypt.bind(cipher);
  cipher.encrypt = (packet) => change(packet, send);
}

/** Says in a KEXINIT that a guess follows (RFC 4253, section 7.1). */
function claimGuess({ _kexinit: kexinit }: Protocol, packet: Uint8Array): void {
  packet[5 + kexinit.length - 5] = 1;
  kexinit[kexinit.length - 5] = 1;
}

/** A packet before there are keys (RFC 4253, section 6). */
function packetOf(payload: Uint8Array): Uint8Array {
  const padding = 8 + 8 - (5 + payload.length) % 8;
  return encodeFields(1 + payload.length + padding, {
    raw: concatenate([Uint8Array.of(padding), payload, new Uint8Array(padding)]),
  });
}
