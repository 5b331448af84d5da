/**
 * What a connection is to the relay: the seam between the connection protocol (RFC 4254) and
 * whatever carries its messages. There is no code here.
 *
 * A carrier implements `Transport` and gives what it receives to `TransportHandlers`; its owner
 * holds it as a `StartableTransport`. `ssh2_transport.ts` is one.
 */

/** A connection as the relay's channels need it. */
export interface Peer {
  /** Sends one message; the bytes are copied before this returns. */
  send(payload: Uint8Array): void;
  /** Bytes sent that the peer's kernel has not taken yet. */
  readonly backlogBytes: number;
}

/** An authenticated SSH connection. */
export interface Transport extends Peer {
  /** The largest message that the peer takes for certain, in bytes. */
  readonly maximumPayloadBytes: number;
  /** Whether the peer has said that it answers `ping@openssh.com`. */
  readonly answersPings: boolean;
  /** Whether the peer is known to take a session that is opened before anybody uses it. */
  readonly allowsWarmSession: boolean;
  /**
   * The sequence number of the last message sent, by which SSH_MSG_UNIMPLEMENTED names it (RFC 4253,
   * section 6.4); `undefined` where it waits for a key exchange.
   */
  readonly lastSequenceNumber: number | undefined;
  /** Answers the message being received with SSH_MSG_UNIMPLEMENTED (RFC 4253, section 11.4). */
  sendUnimplemented(): void;
  /**
   * Sends SSH_MSG_IGNORE, which carries an acknowledgment. Until a session has begun, OpenSSH's server
   * leaves Nagle's algorithm on (RFC 9293, section 3.7.4): the second of two small answers waits
   * until the first is acknowledged, and a kernel with nothing to send does that late (RFC 1122,
   * section 4.2.3.2), after 40 ms on Linux.
   */
  acknowledge?(): void;
  /** Ends the connection with SSH_MSG_DISCONNECT. May be called twice. */
  disconnect(reasonCode: number, description: string): void;
  /** Stops reading from the peer, until `resume`. */
  pause(): void;
  resume(): void;
}

/** What the owner of a connection does with what comes from it once it is authenticated. */
export interface TransportHandlers {
  /**
   * One message that is not the transport protocol's own; its bytes may be rewritten, and those of
   * data are there until this returns, no longer.
   */
  onPayload(payload: Uint8Array): void;
  /** The peer does not know the message that had this sequence number, or one beside it. */
  onUnimplemented?(sequenceNumber: number): void;
  /** Less is waiting for the peer than before. */
  onDrain(): void;
  /** We ended the connection, and why. */
  onDisconnect(description: string): void;
}

/** What the relay wants of a connection's owner: its messages, and its end. */
export interface Receiver {
  /** Takes one message that is not the transport protocol's own; its bytes are as with `onPayload`. */
  receive(payload: Uint8Array): void;
  /** Less is waiting for the peer than before. */
  drained(): void;
  /** The connection is gone. May be called twice. */
  leave(): void;
}

/**
 * Asks upstream to prove that host keys are its own, each a `string`; `onReply` is called with the
 * signatures, or with `undefined` where there are none.
 */
export type ProveHostKeys = (
  keys: Uint8Array,
  onReply: (signatures: Uint8Array | undefined) => void,
) => void;

/** Told which host keys upstream says it has, each a `string`, which are only valid for the call. */
export type OnHostKeys = (keys: Uint8Array, prove: ProveHostKeys) => void;

/** What the relay wants of the owner of a connection upstream, whose end it is told of. */
export interface UpstreamReceiver extends Pick<Receiver, "receive" | "drained"> {
  /** Upstream does not know a message that was sent to it (RFC 4253, section 11.4). */
  unimplemented(sequenceNumber: number): void;
}

/** A connection in the hands of its owner. */
export interface StartableTransport extends Transport {
  /** Takes the connection protocol over; called when authentication is done, in the same turn. */
  start(handlers: TransportHandlers): void;
  /** Ends the connection without a word: the peer is dead. */
  abort(): void;
  /** When the peer was last heard, by `performance.now()`. */
  readonly lastByteAt: number;
}

/** How a connection that was ready ended. */
export interface ConnectionEnd {
  reason: Error;
  endedBy: "server" | "network" | "us";
}

/** What every SSH implementation takes (RFC 4253, section 6.1), less room for padding; in bytes. */
export const usualPayloadBytes = 34_000;

/** Calls `action` after `delayMs`, unless the returned function is called before. */
export type Schedule = (delayMs: number, action: () => void) => () => void;
