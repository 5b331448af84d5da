/**
 * Raw payloads in and out of an ssh2 connection.
 *
 * This file and its neighbours `ssh2_*.ts` are the only ones that know ssh2's private fields; they
 * were read in version 1.17.0, which is why that version is pinned. ssh2 does key exchange, encryption and authentication; the
 * messages of the connection protocol (80 and above) never reach its handlers.
 */

// @ts-types="@types/ssh2"
import type ssh2 from "ssh2";
import protocolUtils from "ssh2/lib/protocol/utils.js";
import { DisconnectReason } from "./errors.ts";
import { extInfoMessage } from "./ext_info.ts";
import { hybridKexName } from "./hybrid_kex.ts";
import { logger } from "./log.ts";
import { payloadBytesOf, takesWarmSession } from "./peer_version.ts";
import type { ByteSocket } from "./ssh2_socket.ts";
import { isTransportMessage, sendNothingInTheClear, ServerGate } from "./ssh2_gate.ts";
import type { NegotiatedHostKey } from "./ssh2_certificates.ts";
import type { EarlyExchange } from "./ssh2_early_exchange.ts";
import { announcesPing } from "./ssh2_extensions.ts";
import { type KexDecipher, type KexProtocol, offerKeyExchanges } from "./ssh2_kex.ts";
import { allowLargePackets, type Decipher } from "./ssh2_packets.ts";
import type { SessionBinding } from "./signer.ts";
import type { ExchangeStatus } from "./status.ts";
import type { StartableTransport, TransportHandlers } from "./transport.ts";
import { buildMessage, readUint32 } from "./ssh_data.ts";
import {
  firstConnectionMessage,
  firstMethodMessage,
  userauthFailure,
} from "./userauth_messages.ts";

/** The part of ssh2's `Protocol` that is used here. */
interface Ssh2Protocol extends KexProtocol {
  _onPayload(payload: Uint8Array): unknown;
  _onPacket(): void;
  _kexinit: unknown;
  _cipher: { encrypt(packet: Uint8Array): void; outSeqno: number };
  _remoteIdentRaw: Uint8Array | undefined;
  _decipher: (Decipher & KexDecipher & { inSeqno: number; keepsNothing?: true }) | undefined;
  _packetRW: {
    write: {
      allocStart: number;
      allocStartKEX: number;
      alloc(payloadLength: number, force?: boolean): Uint8Array;
      finalize(packet: Uint8Array, force?: boolean): Uint8Array;
    };
  };
  rekey(): void;
}

const log = logger("transport");

/** An ssh2 connection of either role. */
type Ssh2Connection = ssh2.Client | ssh2.Connection;

const { sendPacket } = protocolUtils as {
  sendPacket(protocol: Ssh2Protocol, packet: Uint8Array, bypass?: boolean): boolean;
};

/**
 * The software version of our identification line, on both sides (RFC 4253, section 4.2). OpenSSH
 * sends `eow@openssh.com` only to a peer that begins with its own name; without it
 * `ssh host yes | head -1` never ends.
 */
export const identification = "OpenSSH_sshshim_0.1";

const disconnectMessage = 1;
const unimplementedMessage = 3;

/** How long a key exchange may take once there has been a first one, in milliseconds. */
const rekeyTimeoutMs = 30_000;

/** ssh2 never begins a key exchange itself; RFC 4253, section 9, advises these limits. */
const rekeyAfterBytes = 2 ** 30;
const rekeyAfterMs = 60 * 60 * 1000;

/** Who makes the requests of authentication in the place of ssh2 (RFC 4252). */
export interface AuthenticationHandlers {
  /** SSH_MSG_EXT_INFO, which ssh2 does not see. */
  onExtensions(payload: Uint8Array): void;
  /** The server's answers: 51, and 60 to 79. */
  onAnswer(payload: Uint8Array): void;
  /** The server sent what it must not send now, and the connection is ended. */
  onViolation(description: string): void;
}

/** An ssh2 connection as the relay sees it. */
export class Ssh2Transport implements StartableTransport {
  readonly #protocol: Ssh2Protocol;
  /** The socket that was given to ssh2. */
  readonly socket: ByteSocket;
  /** What a server sends goes through it; of clients ssh2 takes care. */
  readonly #gate: ServerGate | undefined;
  #authentication: AuthenticationHandlers | undefined;
  /** Takes what a client says before it is let in. */
  #onLoginMessage: ((payload: Uint8Array) => void) | undefined;
  #hasKeys = false;
  /** What the server said of its extensions while the gate was closed. */
  #heldExtensions: Uint8Array | undefined;
  #handlers: TransportHandlers | undefined;
  /** The server's key, and its signature in the first key exchange. */
  #signed: Omit<SessionBinding, "sessionId"> | undefined;
  #bytesSinceRekey = 0;
  /** What ssh2 keeps until a key exchange is over, in bytes. */
  #heldBytes = 0;
  #exchangeTimer: ReturnType<typeof setTimeout> | undefined;
  #rekeyTimer: ReturnType<typeof setTimeout> | undefined;
  #answersPings = false;
  #lastSequenceNumber: number | undefined;
  #isEnded = false;

  /**
   * Must be called before the first key exchange ends: after `connect()`, or in the server's
   * `connection` event. Later ssh2 has captured its own handler.
   */
  constructor(
    connection: Ssh2Connection,
    { kex, early }: { kex: readonly string[]; early?: EarlyExchange | undefined },
  ) {
    const { _protocol: protocol, _sock: socket } = connection as unknown as {
      _protocol: Ssh2Protocol;
      _sock: ByteSocket;
    };
    assertKnownProtocol(protocol);
    const takes = (payload: Uint8Array) => this.#takesWithinExchange(payload);
    offerKeyExchanges(protocol, kex, { early, takes });
    sendNothingInTheClear(protocol);
    this.#protocol = protocol;
    this.socket = socket;
    this.#gate = protocol._server ? undefined : new ServerGate();
    const onPayload = protocol._onPayload;
    protocol._onPayload = (payload) => {
      if (this.#isEnded) return;
      const type = payload[0] ?? 0;
      if (this.#gate?.admit(type) === false) return this.#onUnlawful(type, payload);
      if (this.#onLoginMessage && !this.#handlers && !isTransportMessage(type)) {
        return this.#takeLoginMessage(this.#onLoginMessage, payload);
      }
      if (this.#handlers && !isTransportMessage(type) || type >= firstConnectionMessage) {
        return this.#onConnectionMessage(payload);
      }
      if (this.#handlers || !this.#onAuthenticationMessage(type, payload)) onPayload(payload);
      const isComplaint = type === unimplementedMessage && payload.length >= 5;
      if (isComplaint) this.#handlers?.onUnimplemented?.(readUint32(payload, 1));
      if (protocol._kexinit !== undefined) this.#limitExchange();
    };
    (connection as ssh2.Client).on("handshake", () => this.#onKeysExchanged());
    socket.on("drain", () => this.#handlers?.onDrain());
    socket.once("close", () => this.#end());
  }

  /** Takes authentication over, but for its success, which ssh2 has to see. */
  authenticate(handlers: AuthenticationHandlers): void {
    this.#authentication = handlers;
  }

  /** Takes authentication over in the role of the server; called before keys are exchanged. */
  takeLogin(onMessage: (payload: Uint8Array) => void): void {
    this.#onLoginMessage = onMessage;
  }

  /** Takes a message of the login's that belongs to what follows it, once it has succeeded. */
  deliver(payload: Uint8Array): void {
    if (!this.#isEnded) this.#handlers?.onPayload(payload);
  }

  /** The session identifier (RFC 4253, section 7.2); from the end of the first key exchange on. */
  get sessionId(): Uint8Array {
    return this.#protocol._kex!.sessionID;
  }

  /** The session and who it is with; from the end of the first key exchange on. */
  get session(): SessionBinding {
    return { ...this.#signed!, sessionId: this.sessionId };
  }

  /** The server has shown its key for the first time; ssh2 forgets that and verifies it. */
  keepSignature(): void {
    const { _hostKey, _sig } = this.#protocol._kex!;
    this.#signed = { hostKey: Uint8Array.from(_hostKey), signature: Uint8Array.from(_sig) };
  }

  /** What the peer's identification line says of its software (RFC 4253, section 4.2). */
  get peerVersion(): string {
    const line = `${this.#protocol._remoteIdentRaw ?? ""}`;
    return /^SSH-2\.0-(.*)/.exec(line)?.[1] ?? "";
  }

  /** Takes the connection protocol over; called when authentication is done, in the same turn. */
  start(handlers: TransportHandlers): void {
    this.#handlers = handlers;
  }

  get backlogBytes(): number {
    return this.socket.backlogBytes + this.#heldBytes;
  }

  /** The largest message that the peer takes for certain, in bytes. */
  get maximumPayloadBytes(): number {
    return payloadBytesOf(this.peerVersion);
  }

  get lastSequenceNumber(): number | undefined {
    return this.#lastSequenceNumber;
  }

  get answersPings(): boolean {
    return this.#answersPings;
  }

  get allowsWarmSession(): boolean {
    return takesWarmSession(this.peerVersion);
  }

  /** When the peer was last heard, by `performance.now()`. */
  get lastByteAt(): number {
    return this.socket.lastByteAt;
  }

  /** Ends the connection without a word: the peer is dead. */
  abort(): void {
    this.#end();
    this.socket.destroy();
  }

  send(payload: Uint8Array): void {
    if (this.#isEnded) return;
    // ssh2 swaps these objects at each key exchange, and queues packets during one.
    const { write } = this.#protocol._packetRW;
    const packet = write.alloc(payload.length);
    packet.set(payload, write.allocStart);
    const sequenceNumber = this.#protocol._cipher.outSeqno;
    const isSent = sendPacket(this.#protocol, write.finalize(packet));
    this.#lastSequenceNumber = isSent ? sequenceNumber : undefined;
    if (!isSent) this.#heldBytes += payload.length;
    this.#countBytes(payload.length);
  }

  sendUnimplemented(): void {
    const sequenceNumber = ((this.#protocol._decipher?.inSeqno ?? 0) - 1) >>> 0;
    this.send(buildMessage(unimplementedMessage, sequenceNumber));
  }

  disconnect(reasonCode: number, description: string): void {
    if (this.#isEnded) return;
    this.#end();
    const payload = buildMessage(disconnectMessage, reasonCode, description, "");
    const { write } = this.#protocol._packetRW;
    const packet = write.alloc(payload.length, true);
    packet.set(payload, write.allocStartKEX);
    sendPacket(this.#protocol, write.finalize(packet, true), true);
    this.socket.end();
    this.#handlers?.onDisconnect(description);
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  /** What belongs to nobody is the receiver's affair as well: it has to limit its answers. */
  #onConnectionMessage(payload: Uint8Array): void {
    this.#protocol._onPacket();
    this.#countBytes(payload.length);
    if (this.#handlers) this.#handlers.onPayload(plain(payload));
    else this.disconnect(DisconnectReason.protocolError, "a message before authentication");
  }

  #takeLoginMessage(onMessage: (payload: Uint8Array) => void, payload: Uint8Array): void {
    this.#protocol._onPacket();
    this.#countBytes(payload.length);
    if (this.#hasKeys) return onMessage(plain(payload));
    this.disconnect(DisconnectReason.protocolError, "a message before the key exchange was over");
  }

  /**
   * RFC 4253, section 7.1 forbids messages of the connection protocol between a peer's KEXINIT and
   * its NEWKEYS; asyncssh 2.10 goes on with them, and OpenSSH takes them.
   *
   * @returns whether it is one of a peer that is logged in.
   */
  #takesWithinExchange(payload: Uint8Array): boolean {
    if (this.#handlers === undefined || payload[0]! < firstConnectionMessage) return false;
    if (!this.#isEnded) this.#onConnectionMessage(payload);
    return true;
  }

  /** As with ssh, this ends the connection, but not once we have been let in. */
  #onUnlawful(type: number, payload: Uint8Array): void {
    const complaint = this.#gate!.complaintAbout(type);
    if (!this.#gate!.isPassed) {
      this.#protocol._onPacket();
      return this.violate(complaint);
    }
    log.debug("unexpected: {complaint}", { complaint });
    this.#onConnectionMessage(payload);
  }

  /** Ends the connection of a server that broke the protocol before it let us in. */
  violate(description: string): void {
    if (this.#isEnded) return;
    this.#authentication?.onViolation(description);
    this.disconnect(DisconnectReason.protocolError, description);
  }

  /** @returns whether ssh2 must not see the message. */
  #onAuthenticationMessage(type: number, payload: Uint8Array): boolean {
    const handlers = this.#authentication;
    if (handlers === undefined) return false;
    if (type === extInfoMessage) {
      // It is acted upon when the gate opens.
      if (this.#gate?.isClosed) this.#heldExtensions = payload;
      else this.#onExtensions(payload);
      return true;
    }
    if (type !== userauthFailure && type < firstMethodMessage) return false;
    this.#protocol._onPacket();
    handlers.onAnswer(payload);
    return true;
  }

  #onExtensions(payload: Uint8Array): void {
    this.#protocol._onPacket();
    this.#answersPings ||= announcesPing(payload);
    this.#authentication?.onExtensions(payload);
  }

  #onKeysExchanged(): void {
    this.#hasKeys = true;
    this.#gate?.onKeysExchanged();
    this.socket.keepsNothing = this.#protocol._decipher?.keepsNothing === true;
    if (this.#heldExtensions) this.#onExtensions(this.#heldExtensions);
    this.#heldExtensions = undefined;
    if (this.#protocol._decipher) allowLargePackets(this.#protocol._decipher);
    this.#bytesSinceRekey = 0;
    clearTimeout(this.#rekeyTimer);
    clearTimeout(this.#exchangeTimer);
    this.#exchangeTimer = undefined;
    if (this.#heldBytes > 0) {
      this.#heldBytes = 0;
      this.#handlers?.onDrain();
    }
    if (!this.#isEnded) this.#rekeyAfter(rekeyAfterMs);
  }

  #rekeyAfter(waitMs: number): void {
    this.#rekeyTimer = setTimeout(() => {
      // While the network is away, nothing is to look as if somebody wanted something.
      if (this.socket.carriedSince === Infinity) return this.#rekeyAfter(rekeyTimeoutMs);
      this.#protocol.rekey();
      this.#limitExchange();
    }, waitMs);
  }

  #countBytes(bytes: number): void {
    this.#bytesSinceRekey += bytes;
    if (this.#bytesSinceRekey < rekeyAfterBytes || this.#protocol._kexinit !== undefined) return;
    this.#bytesSinceRekey = 0;
    this.#protocol.rekey();
    this.#limitExchange();
  }

  /** A peer that begins a key exchange and does not end it would let packets wait for ever. */
  #limitExchange(waitMs = rekeyTimeoutMs): void {
    if (this.#isEnded) return;
    this.#exchangeTimer ??= setTimeout(() => {
      this.#exchangeTimer = undefined;
      // While the network is away nobody can end it.
      const leftMs = this.socket.carriedSince + rekeyTimeoutMs - performance.now();
      if (leftMs > 0) this.#limitExchange(Math.min(leftMs, rekeyTimeoutMs));
      else this.abort();
    }, waitMs);
  }

  #end(): void {
    this.#isEnded = true;
    clearTimeout(this.#rekeyTimer);
    clearTimeout(this.#exchangeTimer);
  }
}

/** The bytes without what a Buffer makes of them, whose `slice` copies nothing. */
function plain({ buffer, byteOffset, length }: Uint8Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, length);
}

/** Fails early and clearly where another ssh2 than the pinned one is loaded. */
function assertKnownProtocol(protocol: Ssh2Protocol | undefined): void {
  const write = protocol?._packetRW?.write;
  const isKnown = typeof protocol?._onPayload === "function" &&
    typeof protocol._onPacket === "function" &&
    typeof protocol.rekey === "function" &&
    typeof write?.alloc === "function" &&
    typeof write.finalize === "function" &&
    typeof write.allocStart === "number" &&
    typeof sendPacket === "function";
  if (!isKnown) {
    throw new Error("this ssh2 is not version 1.17.0, the one that sshshim is built on");
  }
}

/** The outcome of a key exchange. */
export function exchangeOf(
  negotiated: ssh2.NegotiatedAlgorithms & NegotiatedHostKey,
): ExchangeStatus {
  const { serverHostKey, certificate = serverHostKey, cs } = negotiated;
  const keyExchange: string = negotiated.kex;
  return {
    keyExchange,
    isPostQuantum: keyExchange === hybridKexName,
    hostKey: certificate,
    cipher: cs.cipher,
    mac: cs.mac || null,
  };
}
