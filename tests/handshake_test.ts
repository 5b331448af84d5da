/** What a server may send during a handshake and after it, and what comes of anything else. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createDiffieHellmanGroup } from "node:crypto";
import type ssh2Types from "ssh2";
import protocolUtils from "ssh2/lib/protocol/utils.js";
import { resetSync } from "@logtape/logtape";
import { Acquaintance } from "../lib/acquaintance.ts";
import type { ByteConnection } from "../lib/byte_connection.ts";
import {
  EarlyMessagesError,
  HostKeyError,
  NegotiationError,
  UpstreamLostError,
} from "../lib/errors.ts";
import {
  handshake,
  type HandshakeOptions,
  type HostTrust,
  type TrustVerdict,
} from "../lib/handshake.ts";
import { publicKeyInside } from "../lib/key_text.ts";
import { generateKey } from "../lib/local_host_key.ts";
import { configureLogging } from "../lib/log.ts";
import { fingerprint } from "../lib/public_key.ts";
import { buildMessage, encodeFields } from "../lib/ssh_data.ts";
import { ssh2 } from "../lib/ssh2.ts";
import { clientAlgorithms, serverAlgorithms } from "../lib/ssh2_algorithms.ts";
import { Ssh2Client } from "../lib/ssh2_client.ts";
import { ByteSocket } from "../lib/ssh2_socket.ts";
import { Ssh2Transport } from "../lib/ssh2_transport.ts";
import type { ConnectionEnd, StartableTransport } from "../lib/transport.ts";
import { PinnedTrust } from "../lib/trust.ts";
import { FakeTime } from "./support/fake_time.ts";
import { settled } from "./support/scripted_connector.ts";
import { makePeer } from "./support/ssh2_peer.ts";

const ignore = 2;
const globalRequest = 80;
const serviceAccept = buildMessage(6, "ssh-userauth");
const failure = buildMessage(51, "password", false);
const success = buildMessage(52);

/** The private part of ssh2 1.17.0 that is used here. */
interface Protocol {
  _hostKeys: Record<string, unknown>;
  _onPacket(): void;
  _onPayload(payload: Uint8Array): unknown;
  _packetRW: {
    write: {
      allocStartKEX: number;
      alloc(payloadLength: number, force: boolean): Uint8Array;
      finalize(packet: Uint8Array, force: boolean): Uint8Array;
    };
  };
}

const { sendPacket } = protocolUtils as {
  sendPacket(protocol: Protocol, packet: Uint8Array, bypass: boolean): boolean;
};

/** The server's end of a connection. */
interface Peer {
  connection: ssh2Types.Connection;
  transport: Ssh2Transport;
  protocol: Protocol;
  /** What came since keys were exchanged, but for key exchanges. */
  received: Received;
}

/** The types of the messages that came. */
class Received {
  readonly #types: number[] = [];
  #onMessage: () => void = () => {};

  add(type: number): void {
    this.#types.push(type);
    this.#onMessage();
  }

  /** Resolves with all of them as soon as one of this type is among them. */
  async until(type: number): Promise<readonly number[]> {
    while (!this.#types.includes(type)) {
      await new Promise<void>((resolve) => this.#onMessage = resolve);
    }
    return this.#types;
  }
}

/** Calls back when both KEXINITs of an exchange have been seen, each time. */
function whenExchanging(
  protocol: Protocol,
  onExchange: (exchange: { getPublicKey(): Buffer }) => void,
): void {
  const property = Object.getOwnPropertyDescriptor(protocol, "_kex")!;
  Object.defineProperty(protocol, "_kex", {
    configurable: true,
    get: () => property.get!.call(protocol),
    set: (exchange) => {
      property.set!.call(protocol, exchange);
      onExchange(exchange);
    },
  });
}

/** Sends a message that does not wait for the end of the exchange. */
function sendWithinExchange(protocol: Protocol, payload: Uint8Array): void {
  const { write } = protocol._packetRW;
  const packet = write.alloc(payload.length, true);
  packet.set(payload, write.allocStartKEX);
  sendPacket(protocol, write.finalize(packet, true), true);
}

/** What a handshake needs and no test here is about. */
const usual = {
  name: "jane@upstream.test",
  isJump: false,
  isAttended: false,
  identificationTimeoutMs: 30_000,
  username: "jane",
  methods: { first: ["password"], afterwards: [] },
  credentials: {
    bindsToHost: true,
    async *keys() {},
    password: () => Promise.resolve("wrong"),
    answer: () => Promise.resolve(undefined),
    numberOfPasswordPrompts: 3,
    newPassword: () => Promise.resolve(undefined),
  },
  requiredRsaSize: 1024,
  notify: () => {},
} satisfies Partial<HandshakeOptions>;

/** What a test makes of the server. */
interface ServerOptions {
  isAttended?: boolean;
  kex?: string[];
  /** What it says it is. */
  ident?: string;
  /** Makes each end of the connection another one. */
  way?(end: ByteConnection): ByteConnection;
  /** Its host key; by default one that is made for it. */
  hostKey?: { privateKey: string; publicKey: Uint8Array };
  /** Who decides about its key; by default the key is the one that is expected. */
  verify?(signal: AbortSignal, peer: Peer): Promise<TrustVerdict>;
  onConnection?(peer: Peer): void;
  /** Called for each request; by default `none` is enough. */
  onAuthentication?(context: ssh2Types.AuthContext, peer: Peer): void;
}

/** One connection to a server of the test's. Leaving its scope ends it. */
class Ground implements AsyncDisposable {
  readonly ended = Promise.withResolvers<ConnectionEnd>();
  /** What came of the connection protocol. */
  readonly received = new Received();
  readonly unimplemented = Promise.withResolvers<number>();
  peer: Peer | undefined;
  transport: StartableTransport | undefined;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #key: { privateKey: string; publicKey: Uint8Array };
  readonly #options: ServerOptions;
  #client: Ssh2Client | undefined;
  #socket: ByteSocket | undefined;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#key = options.hostKey ?? generateKey();
  }

  /** Logs in, as far as the server lets it. */
  async connect(): Promise<void> {
    const { kex = ["curve25519-sha256"], verify } = this.#options;
    const trust: HostTrust = verify
      ? { keyTypes: [], verify: (_key, signal) => verify(signal, this.peer!) }
      : new PinnedTrust("upstream.test", fingerprint(this.#key.publicKey));
    const accepted = this.#listener.accept();
    const outgoing = await Deno.connect({ hostname: "127.0.0.1", port: this.#listener.addr.port });
    this.#serve(await accepted, kex);
    this.#client = new Ssh2Client(this.#options.way?.(outgoing) ?? outgoing);
    await handshake(this.#client, {
      ...usual,
      isAttended: this.#options.isAttended ?? false,
      trust,
      algorithms: clientAlgorithms({ kexAlgorithms: kex.join(",") }, []),
      acquaintance: new Acquaintance(),
      onReady: (transport) => {
        this.transport = transport;
        transport.start({
          onPayload: ([type]) => this.received.add(type!),
          onUnimplemented: (sequenceNumber) => this.unimplemented.resolve(sequenceNumber),
          onDrain: () => {},
          onDisconnect: () => {},
        });
      },
      onLost: (end) => this.ended.resolve(end),
    });
  }

  #serve(incoming: Deno.Conn, kex: string[]): void {
    // Else it gives up a client who waits, by the clock of the test.
    Object.assign(ssh2.Server, { KEEPALIVE_CLIENT_INTERVAL: 0 });
    const algorithms = { ...serverAlgorithms(), kex };
    const { ident, onConnection, onAuthentication = (context) => context.accept() } = this.#options;
    const server = new ssh2.Server({
      ...ident && { ident },
      hostKeys: [this.#key.privateKey],
      algorithms: { ...algorithms.forSsh2, kex: kex as ssh2Types.KexAlgorithm[] },
    }, (connection) => {
      connection.on("error", () => {});
      const { _protocol: protocol } = connection as unknown as { _protocol: Protocol };
      const transport = makePeer(connection, algorithms);
      const received = new Received();
      const onPayload = protocol._onPayload;
      protocol._onPayload = (payload) => {
        received.add(payload[0]!);
        return onPayload(payload);
      };
      const peer = { connection, transport, protocol, received };
      this.peer = peer;
      connection.on("authentication", (context) => onAuthentication(context, peer));
      onConnection?.(peer);
    });
    this.#socket = new ByteSocket(this.#options.way?.(incoming) ?? incoming, { role: "server" });
    server.injectSocket(this.#socket as never);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.#client?.destroy();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#socket?.once("close", resolve);
    if (!this.#socket?.writable) resolve();
    this.#socket?.destroy();
    await promise;
  }
}

const unasked: [string, ServerOptions, RegExp][] = [
  [
    "a success before authentication began",
    {
      onConnection: ({ connection, transport }) =>
        connection.on("handshake", () => transport.send(success)),
    },
    /USERAUTH_SUCCESS before authentication began/,
  ],
  [
    "a second SERVICE_ACCEPT",
    { onAuthentication: (_context, { transport }) => transport.send(serviceAccept) },
    /SERVICE_ACCEPT during authentication/,
  ],
  [
    "a message of the connection protocol",
    { onAuthentication: (_context, { transport }) => transport.send(buildMessage(94, 0, "data")) },
    /CHANNEL_DATA during authentication/,
  ],
  [
    "a number that means nothing",
    { onAuthentication: (_context, { transport }) => transport.send(buildMessage(40)) },
    /message 40 during authentication/,
  ],
  [
    "two answers to one request",
    {
      onAuthentication: (_context, { transport }) => {
        transport.send(failure);
        transport.send(failure);
      },
    },
    /message 51 answers no request/,
  ],
];

for (const [name, options, complaint] of unasked) {
  Deno.test(`during a login, ${name} ends the connection and is named`, async () => {
    await using ground = new Ground(options);
    await assert.rejects(ground.connect(), (error) => {
      assert(error instanceof UpstreamLostError);
      assert.match(error.message, complaint);
      return true;
    });
  });
}

Deno.test("after a login, what belongs to it is the receiver's affair", async () => {
  await using ground = new Ground({});
  await ground.connect();
  const { transport } = ground.peer!;
  const unlawful = [
    success,
    failure,
    serviceAccept,
    buildMessage(53, "again", ""),
    buildMessage(40),
  ];
  for (const message of unlawful) transport.send(message);
  transport.send(buildMessage(globalRequest, "keepalive@openssh.com", false));
  const received = await ground.received.until(globalRequest);
  assert.deepEqual(received, [...unlawful.map(([type]) => type), globalRequest]);
});

Deno.test("a message that the server does not know is named by the number that it has", async () => {
  await using ground = new Ground({
    onConnection: ({ protocol, transport }) => {
      const onPayload = protocol._onPayload;
      protocol._onPayload = (payload) => {
        if (payload[0] !== globalRequest) return onPayload(payload);
        protocol._onPacket();
        transport.sendUnimplemented();
      };
    },
  });
  await ground.connect();
  ground.transport!.send(buildMessage(ignore, "one more"));
  ground.transport!.send(buildMessage(globalRequest, "keepalive@openssh.com", true));
  assert.equal(await ground.unimplemented.promise, ground.transport!.lastSequenceNumber);
});

for (const reasonCode of [2, 3, 7, 8, 9, 11, 14, 15]) {
  Deno.test(`a connection that was ready and ends with reason ${reasonCode} is lost`, async () => {
    await using ground = new Ground({});
    await ground.connect();
    ground.peer!.transport.disconnect(reasonCode, "enough");
    const { reason, endedBy } = await ground.ended.promise;
    assert(reason instanceof UpstreamLostError, `${reason}`);
    assert.equal(endedBy, "server");
  });
}

Deno.test("a server that ends the connection at its beginning is named, with its words", async () => {
  await using ground = new Ground({
    onConnection: ({ transport }) => transport.disconnect(12, "enough are here"),
  });
  await assert.rejects(ground.connect(), {
    name: "UpstreamLostError",
    message: /^\S+@\S+: enough are here\. Look into the host's log\.$/,
  });
});

Deno.test("a key exchange that shows another host key ends the connection as that", async () => {
  await using ground = new Ground({});
  await ground.connect();
  const { connection, protocol } = ground.peer!;
  const other = ssh2.utils.parseKey(generateKey().privateKey);
  assert(!(other instanceof Error));
  protocol._hostKeys["ssh-ed25519"] = other;
  connection.rekey();
  const { reason, endedBy } = await ground.ended.promise;
  assert(reason instanceof HostKeyError, `${reason}`);
  assert.match(reason.message, /changed within a connection/);
  assert.equal(endedBy, "network");
});

async function readLongRsaKey(): Promise<{ privateKey: string; publicKey: Uint8Array }> {
  const file = new URL("support/keys/rsa_8192", import.meta.url);
  const privateKey = await Deno.readTextFile(file);
  return { privateKey, publicKey: publicKeyInside(privateKey)! };
}

Deno.test("a signature that a long RSA host key did not make is refused", async () => {
  const hostKey = await readLongRsaKey();
  for (const at of [undefined, 0, 1023]) {
    await using ground = new Ground({
      hostKey,
      onConnection({ protocol }) {
        const key = protocol._hostKeys["rsa-sha2-512"] as { sign(...args: unknown[]): Buffer };
        const sign = key.sign.bind(key);
        key.sign = (...args) => {
          const signature = sign(...args);
          if (at !== undefined) signature[at]! ^= 1;
          return signature;
        };
      },
    });
    if (at === undefined) await ground.connect();
    else await assert.rejects(ground.connect(), /signature verification failed/, `byte ${at}`);
  }
});

Deno.test("an RSA host key that is longer than SSH takes is refused before anybody is asked", async () => {
  const hostKey = await readLongRsaKey();
  await using ground = new Ground({
    hostKey,
    verify: () => Promise.reject(new Error("it is asked")),
    onConnection({ protocol }) {
      const key = protocol._hostKeys["rsa-sha2-512"] as { getPublicSSH(): Uint8Array };
      const modulus = new Uint8Array(16_392 / 8).fill(0x7f);
      const longer = Buffer.from(encodeFields("ssh-rsa", Uint8Array.of(1, 0, 1), modulus));
      key.getPublicSSH = () => longer;
    },
  });
  await assert.rejects(
    ground.connect(),
    (error) => error instanceof HostKeyError && /has 16391 bits/.test(error.message),
  );
});

Deno.test("between two KEXINITs of a later exchange, IGNORE and DEBUG are no violation", async () => {
  await using ground = new Ground({});
  await ground.connect();
  const { connection, protocol } = ground.peer!;
  const keysExchanged = new Promise<void>((resolve) =>
    connection.once("handshake", () => resolve())
  );
  whenExchanging(protocol, () => {
    for (const chatter of [buildMessage(ignore, "x"), buildMessage(4, true, "words", "")]) {
      sendWithinExchange(protocol, chatter);
    }
  });
  connection.rekey();
  await keysExchanged;
  ground.peer!.transport.send(buildMessage(globalRequest, "keepalive@openssh.com", false));
  await ground.received.until(globalRequest);
});

Deno.test("between its KEXINIT and its NEWKEYS, a server that has let us in may go on, in order", async () => {
  await using ground = new Ground({});
  await ground.connect();
  const { connection, protocol, transport } = ground.peer!;
  const sent = [94, 95, 93];
  whenExchanging(protocol, () => {
    for (const type of sent) sendWithinExchange(protocol, buildMessage(type, 0));
  });
  connection.rekey();
  transport.send(buildMessage(globalRequest, "keepalive@openssh.com", false));
  assert.deepEqual(await ground.received.until(globalRequest), [...sent, globalRequest]);
});

/** A way that may be away, on which nothing comes then. */
class CarriedWay {
  carriedSince = 0;
  writtenBytes = 0;
  #isQuiet = false;
  readonly #speaks = Promise.withResolvers<void>();

  goAway(): void {
    this.carriedSince = Infinity;
    this.#isQuiet = true;
  }

  comeBack(): void {
    this.carriedSince = performance.now();
  }

  speak(): void {
    this.#isQuiet = false;
    this.#speaks.resolve();
  }

  /** One end of it. */
  end(connection: ByteConnection): ByteConnection {
    const since = () => this.carriedSince;
    return {
      get carriedSince() {
        return since();
      },
      read: async (buffer) => {
        const count = await connection.read(buffer);
        if (this.#isQuiet) await this.#speaks.promise;
        return count;
      },
      write: (data) => {
        this.writtenBytes += data.length;
        return connection.write(data);
      },
      close: () => {
        this.speak();
        connection.close();
      },
    };
  }
}

for (const speaks of [true, false]) {
  const outcome = speaks ? "goes on" : "has 30 s";
  Deno.test(`a key exchange that the network is lost in ${outcome} once that is back`, async () => {
    using time = new FakeTime();
    const way = new CarriedWay();
    await using ground = new Ground({ way: (end) => way.end(end) });
    await ground.connect();
    const { connection, protocol, transport } = ground.peer!;
    // Both KEXINITs have come, and nothing that follows them does.
    const begun = Promise.withResolvers<void>();
    whenExchanging(protocol, () => {
      way.goAway();
      begun.resolve();
    });
    connection.rekey();
    await begun.promise;
    time.advance(1_800_000);
    way.comeBack();
    if (speaks) {
      way.speak();
      transport.send(buildMessage(globalRequest, "keepalive@openssh.com", false));
      await ground.received.until(globalRequest);
    } else {
      time.advance(29_999);
      await settled();
      assert(transport.socket.writable);
      time.advance(1);
      await ground.ended.promise;
    }
  });
}

Deno.test("a key exchange that is due while the network is away begins once that is back", async () => {
  using time = new FakeTime();
  const way = new CarriedWay();
  await using ground = new Ground({ way: (end) => way.end(end) });
  await ground.connect();
  await settled();
  way.goAway();
  const { writtenBytes } = way;
  time.advance(7_200_000);
  await settled();
  // It would be taken for something that is wanted.
  assert.equal(way.writtenBytes, writtenBytes);
  way.comeBack();
  way.speak();
  time.advance(30_000);
  await ground.peer!.received.until(20);
});

Deno.test("before the login, data within a later key exchange ends the connection", async () => {
  await using ground = new Ground({
    onAuthentication(_context, { connection, protocol }) {
      whenExchanging(protocol, () => sendWithinExchange(protocol, buildMessage(94, 0, "data")));
      connection.rekey();
    },
  });
  await assert.rejects(ground.connect(), /unexpected packet type 94/);
});

for (const kex of ["diffie-hellman-group14-sha256", "diffie-hellman-group16-sha512"]) {
  Deno.test(`${kex}: public values whose secret everybody knows are refused`, async () => {
    const group = kex.includes("16") ? "modp16" : "modp14";
    const prime = BigInt(`0x${createDiffieHellmanGroup(group).getPrime("hex")}`);
    for (const value of [0n, 1n, prime - 1n, prime, prime + 1n]) {
      const hex = value.toString(16);
      const bytes = Buffer.from(`00${hex.length % 2 === 0 ? "" : "0"}${hex}`, "hex");
      await using ground = new Ground({
        kex: [kex],
        onConnection: ({ protocol }) =>
          whenExchanging(protocol, (it) => it.getPublicKey = () => bytes),
      });
      await assert.rejects(ground.connect(), /public value is out of range/);
    }
    await using ground = new Ground({ kex: [kex] });
    await ground.connect();
  });
}

Deno.test("a server that chooses a group of 1024 bits has no common way to talk", async () => {
  const prime = createDiffieHellmanGroup("modp2").getPrime();
  const group = buildMessage(31, Buffer.concat([Buffer.of(0), prime]), Buffer.of(2));
  await using ground = new Ground({
    kex: ["diffie-hellman-group-exchange-sha256"],
    onConnection: ({ protocol }) =>
      whenExchanging(protocol, (exchange) => {
        Object.assign(exchange, { parse: () => sendWithinExchange(protocol, group) });
      }),
  });
  await assert.rejects(
    ground.connect(),
    (error) =>
      error instanceof NegotiationError &&
      /no matching Diffie-Hellman group: the server's has 1024 bits/.test(error.message),
  );
});

Deno.test("an X25519 public value has 32 bytes (RFC 8731, section 3)", async () => {
  for (const length of [0, 31, 33, 20_000]) {
    await using ground = new Ground({
      kex: ["curve25519-sha256"],
      onConnection: ({ protocol }) =>
        whenExchanging(protocol, (it) => it.getPublicKey = () => Buffer.alloc(length, 1)),
    });
    await assert.rejects(ground.connect(), new RegExp(`a public value of ${length} bytes`));
  }
});

Deno.test("nothing but the transport's own messages can leave before both sides have keys", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepted = listener.accept();
  const client = new ssh2.Client();
  client.on("error", () => {});
  const algorithms = clientAlgorithms({}, []);
  const outgoing = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  using _incoming = await accepted;
  const socket = new ByteSocket(outgoing, { role: "client" });
  client.connect({ sock: socket as never, username: "jane", algorithms: algorithms.forSsh2 });
  const transport = new Ssh2Transport(client, algorithms);
  for (const type of [5, 50, 60, 80, 94]) {
    assert.throws(() => transport.send(Uint8Array.of(type, 0)), /must not leave unencrypted/);
  }
  transport.send(buildMessage(ignore, ""));
  socket.destroy();
});

for (const answer of ["no", "yes"]) {
  Deno.test(`a server that leaves while a person is asked about its key, who says ${answer} then, ends the handshake alone`, async () => {
    await using ground = new Ground({
      verify: (signal, { transport }) => {
        transport.abort();
        return new Promise((resolve, reject) =>
          signal.addEventListener("abort", () => {
            if (answer === "yes") resolve("trusted");
            else reject(new HostKeyError("not believed"));
          })
        );
      },
    });
    await assert.rejects(ground.connect(), UpstreamLostError);
  });
}

/** Resolves when the server has been asked to let somebody in; it waits for `approve`. */
function slowServer(isAttended: boolean) {
  const asked = Promise.withResolvers<() => void>();
  const ground = new Ground({
    isAttended,
    onAuthentication: (context) => asked.resolve(() => context.accept()),
  });
  return { ground, asked: asked.promise };
}

Deno.test("a log-in that is approved elsewhere after 75 s succeeds, and after an hour if somebody watches", async () => {
  for (const [isAttended, waitMs] of [[false, 75_000], [true, 3_600_000]] as const) {
    using time = new FakeTime();
    const { ground, asked } = slowServer(isAttended);
    await using _ground = ground;
    const connected = ground.connect();
    const approve = await Promise.race([asked, connected.then(() => assert.fail())]);
    time.advance(waitMs);
    approve();
    await connected;
  }
});

Deno.test("a server that answers no request to log in is given up after 10 minutes if nobody watches", async () => {
  using time = new FakeTime();
  const { ground, asked } = slowServer(false);
  await using _ground = ground;
  const refused = assert.rejects(ground.connect(), (error) => {
    assert(error instanceof UpstreamLostError);
    assert.match(error.message, /no answer within 10 min during authentication.* approval/);
    assert.doesNotMatch(error.message, /busy/);
    return true;
  });
  await asked;
  time.advance(599_999);
  await settled();
  time.advance(1);
  await refused;
});

Deno.test("a server that leaves unanswered what was sent ahead is given up after 30 s, whoever watches", async () => {
  using time = new FakeTime();
  const asked = Promise.withResolvers<void>();
  await using ground = new Ground({
    ...{ isAttended: true, ident: "OpenSSH_9.2" },
    onAuthentication: () => asked.resolve(),
  });
  const refused = assert.rejects(ground.connect(), (error) => {
    assert(error instanceof EarlyMessagesError);
    assert.match(error.message, /no answer within 30 s during authentication/);
    return true;
  });
  await asked.promise;
  time.advance(29_999);
  await settled();
  time.advance(1);
  await refused;
});

Deno.test("a server's words before the log-in do not fill the log", async () => {
  const lines: string[] = [];
  configureLogging({
    verbosity: "normal",
    format: "text",
    write: (line) => lines.push(line),
    columns: () => Infinity,
  });
  try {
    await using ground = new Ground({
      onAuthentication: (context, { transport }) => {
        for (let count = 0; count < 200; count++) transport.send(buildMessage(53, "Welcome", ""));
        context.accept();
      },
    });
    await ground.connect();
  } finally {
    resetSync();
  }
  assert.equal(lines.filter((line) => line.includes("says: Welcome")).length, 20);
});

/** A server that sends these bytes and waits; leaving its scope ends it. */
class RawServer implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #connections = new AsyncDisposableStack();
  /** Resolves when the client has said something. */
  readonly #heard = Promise.withResolvers<void>();

  get whenHeard(): Promise<void> {
    return this.#heard.promise;
  }

  /** Shakes hands with it. */
  async connect(
    bytes: Uint8Array,
    options: Partial<HandshakeOptions> = {},
  ): Promise<void> {
    const accepted = this.#listener.accept();
    const client = new Ssh2Client(
      await Deno.connect({ hostname: "127.0.0.1", port: this.#listener.addr.port }),
    );
    const incoming = await accepted;
    this.#connections.defer(() => client.destroy());
    this.#connections.defer(() => incoming.close());
    if (bytes.length > 0) await incoming.write(bytes);
    void incoming.read(new Uint8Array(1)).then(() => this.#heard.resolve(), () => {});
    await handshake(client, {
      ...usual,
      trust: { keyTypes: [], verify: () => Promise.resolve("trusted") },
      algorithms: clientAlgorithms({}, []),
      acquaintance: new Acquaintance(),
      onReady: () => {},
      onLost: () => {},
      ...options,
    });
  }

  /** May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#connections.disposed) this.#listener.close();
    await this.#connections.disposeAsync();
  }
}

Deno.test("a server that does not identify itself is given up after its time, or never", async () => {
  const ways: [identificationTimeoutMs: number | undefined, outcome: RegExp][] = [
    [5000, /has not identified itself within 5 s\. Check the port/],
    [undefined, /closed the connection/],
  ];
  for (const [identificationTimeoutMs, outcome] of ways) {
    await using server = new RawServer();
    using time = new FakeTime();
    const refused = assert.rejects(
      server.connect(new Uint8Array(), { identificationTimeoutMs, isAttended: true }),
      outcome,
    );
    await server.whenHeard;
    time.advance(3_600_000);
    await settled();
    await server[Symbol.asyncDispose]();
    await refused;
  }
});

/** An unencrypted packet (RFC 4253, section 6). */
function packet(payload: Uint8Array, paddingLength = 16 - (5 + payload.length) % 8): Uint8Array {
  const padding = Buffer.alloc(paddingLength);
  const length = 1 + payload.length + paddingLength;
  return Buffer.concat([encodeFields(length), Buffer.of(paddingLength), payload, padding]);
}

/** A server's part of a key exchange, with a host key and a signature that may be anything. */
function keyExchange(type: string, key: Uint8Array, signature: Uint8Array): Uint8Array {
  const names = ["curve25519-sha256", type, "aes128-ctr", "aes128-ctr"];
  const lists = [...names, "hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""];
  const kexInit = buildMessage(20, { raw: new Uint8Array(16) }, ...lists, false, 0);
  const publicValue = Buffer.alloc(32, 9);
  const reply = buildMessage(31, key, publicValue, signature);
  return Buffer.concat([kexInit, reply, Buffer.of(21)].map((payload) => packet(payload)));
}

/** What servers can send first of all, and what is said about it. */
const nonsense: [name: string, packets: Uint8Array, complaint: RegExp][] = [
  ["NEWKEYS before anything", packet(Buffer.of(21)), /key exchange\. /],
  [
    "more padding than packet",
    Buffer.concat([encodeFields(12), Buffer.of(255), Buffer.alloc(30)]),
    /key exchange\. /,
  ],
  [
    "a DISCONNECT that is cut short",
    packet(Buffer.of(1, 0)),
    /key exchange: .*DISCONNECT packet\. /,
  ],
  [
    "a host key that is no point of its curve",
    keyExchange(
      "ecdsa-sha2-nistp256",
      encodeFields("ecdsa-sha2-nistp256", "nistp256", ""),
      encodeFields("ecdsa-sha2-nistp256", encodeFields(encodeFields("r"), encodeFields("s"))),
    ),
    /key exchange\. /,
  ],
  [
    "a signature that does not verify",
    keyExchange(
      "ssh-ed25519",
      encodeFields("ssh-ed25519", Buffer.alloc(32, 1)),
      encodeFields("ssh-ed25519", Buffer.alloc(64, 1)),
    ),
    /key exchange: signature verification failed\. /,
  ],
];

for (const [name, bytes, complaint] of nonsense) {
  Deno.test(`${name} is a breach of the protocol, in our own words`, async () => {
    await using server = new RawServer();
    const identification = new TextEncoder().encode("SSH-2.0-OpenSSH_9.2\r\n");
    await assert.rejects(server.connect(Buffer.concat([identification, bytes])), (error) => {
      assert(error instanceof UpstreamLostError);
      assert.match(
        error.message,
        /^jane@upstream\.test broke the protocol during the key exchange/,
      );
      assert.match(error.message, complaint);
      assert.match(error.message, /is at fault: look into its log\.$/);
      assert.doesNotMatch(error.message, /undefined|typed array|assert|busy/);
      assert(error.cause instanceof Error);
      return true;
    });
  });
}
