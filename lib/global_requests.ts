/**
 * Global requests and their replies, which carry no number and are matched by order alone
 * (RFC 4254, section 4).
 */

import { ProtocolError } from "./errors.ts";
import type { OnHostKeys, Peer, Transport } from "./transport.ts";
import { buildMessage } from "./ssh_data.ts";
import { type GlobalReply, type GlobalRequest, MessageType } from "./wire.ts";

/**
 * How many replies one client may be owed. It is not read long before; this many short requests
 * may have been read already.
 */
const maximumRepliesOwed = 10_000;

/** The reply to a request that is not granted. */
export const requestFailure: GlobalReply = {
  type: MessageType.requestFailure,
  data: new Uint8Array(),
};

/** The reply to a request that is granted without further words. */
export const requestSuccess: GlobalReply = {
  type: MessageType.requestSuccess,
  data: new Uint8Array(),
};

/** The replies owed to one client: they leave in the order of its requests. */
export class ReplyQueue {
  readonly #peer: Peer;
  readonly #owed: { reply: GlobalReply | undefined }[] = [];

  constructor(peer: Peer) {
    this.#peer = peer;
  }

  /**
   * Takes the place of one reply; the returned function fills it, once.
   *
   * @throws {ProtocolError} where the client asks on and on without waiting.
   */
  reserve(): (reply: GlobalReply) => void {
    if (this.#owed.length >= maximumRepliesOwed) throw new ProtocolError("too many requests");
    const place: { reply: GlobalReply | undefined } = { reply: undefined };
    this.#owed.push(place);
    return (reply) => {
      place.reply = reply;
      this.#sendReady();
    };
  }

  #sendReady(): void {
    for (let first = this.#owed[0]; first?.reply; first = this.#owed[0]) {
      this.#peer.send(buildMessage(first.reply.type, { raw: first.reply.data }));
      this.#owed.shift();
    }
  }
}

/** Upstream's word on its host keys (OpenSSH's PROTOCOL). */
const hostKeysRequest = "hostkeys-00@openssh.com";

/** A request to upstream that has no reply yet. */
interface PendingRequest {
  onReply(reply: GlobalReply): void;
  /** `undefined` where it had to wait before it left. */
  sequenceNumber: number | undefined;
}

/**
 * The one queue of requests to upstream: those about forwards and host keys, and our own keepalives;
 * and what upstream asks for itself.
 */
export class RequestQueue {
  #peer: Transport | undefined;
  #onHostKeys: OnHostKeys | undefined;
  #hasAcknowledged = false;
  #waiting: PendingRequest[] = [];

  /** Requests go to `peer` from now on; what it says of its host keys, to `onHostKeys`. */
  attach(peer: Transport, onHostKeys?: OnHostKeys): void {
    this.#peer = peer;
    this.#onHostKeys = onHostKeys;
    this.#hasAcknowledged = false;
  }

  /** Upstream is gone, and with it every reply that was to come. */
  detach(): void {
    this.#peer = undefined;
    this.#waiting = [];
  }

  /** Sends a request that wants a reply; whoever asks sees to it that upstream is there. */
  send(name: string, data: Uint8Array, onReply: (reply: GlobalReply) => void): void {
    if (this.#peer === undefined) return;
    this.#peer.send(buildMessage(MessageType.globalRequest, name, true, { raw: data }));
    this.#waiting.push({ onReply, sequenceNumber: this.#peer.lastSequenceNumber });
  }

  /** Asks upstream for a sign of life; `onReply` is called when it comes, if it does. */
  sendKeepalive(onReply: () => void): void {
    this.send("keepalive@openssh.com", new Uint8Array(), onReply);
  }

  /** Takes a request of upstream's, and answers it: but for its host keys, nothing is granted. */
  onRequest({ name, wantReply, data }: GlobalRequest): void {
    const onHostKeys = name === hostKeysRequest ? this.#onHostKeys : undefined;
    const { type } = onHostKeys === undefined ? requestFailure : requestSuccess;
    if (wantReply) this.#peer?.send(buildMessage(type));
    else if (name === hostKeysRequest) this.#acknowledgeOnce();
    onHostKeys?.(data, (keys, onReply) => {
      this.send("hostkeys-prove-00@openssh.com", keys, (reply) => {
        onReply(reply.type === MessageType.requestSuccess ? reply.data : undefined);
      });
    });
  }

  /** OpenSSH's server says it when it lets us in, before it answers what is waited for. */
  #acknowledgeOnce(): void {
    if (!this.#hasAcknowledged) this.#peer?.acknowledge?.();
    this.#hasAcknowledged = true;
  }

  /** @returns whether anything was asked. */
  onReply(reply: GlobalReply): boolean {
    const request = this.#waiting.shift();
    request?.onReply(reply);
    return request !== undefined;
  }

  /**
   * Upstream does not know a message. If that was one of the requests, nothing else answers it; some
   * servers count one more or one less than they should.
   */
  onUnimplemented(sequenceNumber: number): void {
    const isMeant = (request: PendingRequest, tolerance: number) =>
      request.sequenceNumber === undefined ||
      Math.abs(request.sequenceNumber - sequenceNumber) <= tolerance;
    const exact = this.#waiting.findIndex((request) => isMeant(request, 0));
    const at = exact === -1 ? this.#waiting.findIndex((request) => isMeant(request, 1)) : exact;
    if (at !== -1) this.#waiting.splice(at, 1)[0]!.onReply(requestFailure);
  }
}
