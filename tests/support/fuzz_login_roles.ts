/** Who meets before login: the endpoint and the handshake of the shim, and ssh2 as their peers. */

import assert from "node:assert/strict";
import type ssh2Types from "ssh2";
import { Acquaintance } from "../../lib/acquaintance.ts";
import type { ByteConnection } from "../../lib/byte_connection.ts";
import {
  AuthenticationError,
  HostKeyError,
  NegotiationError,
  NobodyToAskError,
  UpstreamLostError,
} from "../../lib/errors.ts";
import { handshake } from "../../lib/handshake.ts";
import { LocalClient } from "../../lib/local_client.ts";
import { generateKey } from "../../lib/local_host_key.ts";
import type { LoginKeys } from "../../lib/login_keys.ts";
import type { Relay } from "../../lib/relay.ts";
import { ssh2 } from "../../lib/ssh2.ts";
import { clientAlgorithms, serverAlgorithms } from "../../lib/ssh2_algorithms.ts";
import { Ssh2Client } from "../../lib/ssh2_client.ts";
import { Ssh2Server } from "../../lib/ssh2_server.ts";
import { ByteSocket } from "../../lib/ssh2_socket.ts";
import type { Random } from "./models.ts";
import { makePeer } from "./ssh2_peer.ts";

const kex = ["curve25519-sha256"];
const offeredByClients = clientAlgorithms({ kexAlgorithms: kex[0]! }, []);
const offeredByServers = serverAlgorithms();
const hostKey = generateKey();
const servingVictims = new Ssh2Server({ hostKeys: [hostKey.privateKey], answersPings: () => true });

/** The secret of the user of the handshake. */
export const password = "open-sesame";

const ourErrors = [
  AuthenticationError,
  HostKeyError,
  NegotiationError,
  NobodyToAskError,
  UpstreamLostError,
];

/** The side of a connection that is tested. */
export interface Victim {
  /** Whether its connection is closed. */
  isClosed(): boolean;
  /** Resolves after the end, once all is known. */
  verdict: Promise<void>;
}

/** The side that does what it is told. */
export interface Attacker {
  /** Called once messages are encrypted. */
  onEncrypted: () => void;
  /** Sends a message; from then on. */
  send?: (payload: Uint8Array) => void;
  /** Begins another key exchange; from then on. */
  rekey?: () => void;
  close(): void;
}

/** Every key counts, and nobody here can sign with one. */
const everyKey: LoginKeys = {
  gather: () =>
    Promise.resolve({
      judge: () => ({
        kind: "accepted",
        key: { name: "", needsTouch: true, needsVerification: false, permissions: undefined },
      }),
    }),
};

/**
 * The endpoint of the shim meets one client; who is not admitted must not reach the relay, and
 * where keys are asked for nobody is.
 */
export function serveVictim(connection: ByteConnection, random: Random): Victim {
  const demandsKeys = random.chance(0.5);
  const closed = Promise.withResolvers<void>();
  let isClosed = false;
  let clients = 0;
  const relay = {
    addClient() {
      clients++;
      return { receive() {}, drained() {}, leave() {} };
    },
  } as unknown as Relay;
  const client = new LocalClient(servingVictims.receive(connection), {
    id: 1,
    endpoints: { remoteHost: "127.0.0.1", remotePort: 1, localHost: "127.0.0.1", localPort: 2 },
    relay,
    keys: demandsKeys ? everyKey : undefined,
    onFailedLogin: () => {},
    onAuthenticated: () => {},
    onGone() {
      isClosed = true;
      closed.resolve();
    },
  });
  client.start();
  const verdict = closed.promise.then(() => {
    if (demandsKeys) assert.equal(clients, 0, "let in without a key");
    else assert(clients <= 1, "let in twice");
  });
  return { isClosed: () => isClosed, verdict };
}

/** ssh2 as a client, which asks for nothing but to be let in. */
export function connectAttacker(connection: ByteConnection, random: Random): Attacker {
  const socket = new ByteSocket(connection, { role: "client" });
  const client = new ssh2.Client();
  client.on("error", () => {});
  client.connect({
    sock: socket as never,
    username: "jane",
    authHandler: random.chance(0.5) ? ["none"] : () => undefined,
    algorithms: offeredByClients.forSsh2,
    readyTimeout: 0,
  });
  const attacker: Attacker = { onEncrypted() {}, close: () => void socket.destroy() };
  arm(attacker, client, offeredByClients);
  return attacker;
}

/** The server has let us in before, with the key that it has: much is sent ahead of its answers. */
function acquaint(): Acquaintance {
  const acquaintance = new Acquaintance();
  const login = { methods: ["password"], key: undefined, isEnough: false };
  const lesson = { keyExchange: kex[0], hostKey: hostKey.publicKey, login };
  acquaintance.onReady(lesson, { isTaken: false });
  return acquaintance;
}

/** The handshake of the shim meets one server, whose key is believed or not. */
export function handshakeVictim(
  connection: ByteConnection,
  random: Random,
): Victim & { isTrusting: boolean } {
  const belief = random.chance(0.6)
    ? "trusted"
    : random.pick(["doubted", "refused", "asking"] as const);
  const isTrusting = belief === "trusted";
  let isClosed = false;
  let isReady = false;
  const lost = Promise.withResolvers<void>();
  const client = new Ssh2Client({
    read: (buffer) => connection.read(buffer),
    write: (data) => connection.write(data),
    close() {
      isClosed = true;
      connection.close();
    },
  });
  const whenReady = handshake(client, {
    name: "jane@upstream.test",
    isJump: false,
    isAttended: false,
    identificationTimeoutMs: undefined,
    username: "jane",
    methods: { first: ["publickey", "keyboard-interactive", "password"], afterwards: ["password"] },
    credentials: {
      bindsToHost: true,
      async *keys() {},
      password: (attempt) => Promise.resolve(attempt < 3 ? password : undefined),
      answer: () => Promise.resolve([password]),
      numberOfPasswordPrompts: 3,
      newPassword: () => Promise.resolve(undefined),
    },
    acquaintance: random.chance(0.5) ? acquaint() : new Acquaintance(),
    trust: {
      keyTypes: [],
      verify(_key, signal) {
        if (belief === "trusted" || belief === "doubted") return Promise.resolve(belief);
        const error = new HostKeyError("the key is not believed");
        if (belief === "refused") return Promise.reject(error);
        return new Promise((_resolve, reject) =>
          signal.addEventListener("abort", () => reject(error))
        );
      },
    },
    requiredRsaSize: 1024,
    algorithms: offeredByClients,
    notify: () => {},
    onReady(transport) {
      isReady = true;
      transport.start({ onPayload() {}, onDrain() {}, onDisconnect() {} });
    },
    onLost: () => lost.resolve(),
  });
  const verdict = whenReady.then(
    () => {
      assert(isReady && (belief === "trusted" || belief === "doubted"), "went on without trust");
      return lost.promise;
    },
    (error) => {
      if (ourErrors.some((type) => error instanceof type)) return;
      throw new Error("a handshake ended with no error of ours", { cause: error });
    },
  );
  return { isClosed: () => isClosed, verdict, isTrusting };
}

/** ssh2 as a server; `onPassword` is told each password that comes. */
export function serveAttacker(
  connection: ByteConnection,
  random: Random,
  onPassword: (password: string) => void,
): Attacker {
  const socket = new ByteSocket(connection, { role: "server" });
  const lets = random.pick(["in", "on", "on", "out"]);
  const attacker: Attacker = { onEncrypted() {}, close: () => void socket.destroy() };
  const server = new ssh2.Server({
    hostKeys: [hostKey.privateKey],
    algorithms: offeredByServers.forSsh2,
  }, (accepted) => {
    accepted.on("error", () => {});
    arm(attacker, accepted, offeredByServers);
    accepted.on("authentication", (context) => {
      if (context.method === "password") onPassword(context.password);
      if (lets === "in") context.accept();
      else if (lets === "on" && (context.method === "none" || random.chance(0.5))) {
        context.reject(["password", "keyboard-interactive"]);
      }
    });
  });
  server.injectSocket(socket as never);
  return attacker;
}

/** Gives an attacker its connection, once keys are exchanged. */
function arm(
  attacker: Attacker,
  connection: ssh2Types.Client | ssh2Types.Connection,
  algorithms: typeof offeredByClients,
): void {
  const transport = makePeer(connection, algorithms);
  const { _protocol: protocol } = connection as unknown as { _protocol: { rekey(): void } };
  (connection as ssh2Types.Client).once("handshake", () => {
    attacker.send = (payload) => transport.send(payload);
    attacker.rekey = () => protocol.rekey();
    attacker.onEncrypted();
  });
}
