/**
 * The relay: hands each message to the table that it concerns, and is the one place where a peer
 * that breaks the protocol is ended, alone.
 *
 * It knows no socket, timer or console; `server.ts` and `upstream.ts` give it their transports.
 */

import { type ChannelLimits, Channels } from "./channels.ts";
import { DisconnectReason, ProtocolError } from "./errors.ts";
import { Forwards, isForwardRequest } from "./forwards.ts";
import { ReplyQueue, requestFailure, RequestQueue, requestSuccess } from "./global_requests.ts";
import { Pings, sendPong } from "./pings.ts";
import { type Peer, type Schedule, type Transport, usualPayloadBytes } from "./transport.ts";
import { buildMessage } from "./ssh_data.ts";
import {
  type ConnectionMessage,
  type GlobalReply,
  type GlobalRequest,
  MessageType,
  parseMessage,
} from "./wire.ts";

/** What the relay wants of a connection's owner: its messages, and its end. */
export interface Receiver {
  /** Takes one message of type 80 or above; its bytes are rewritten. */
  receive(payload: Uint8Array): void;
  /** Less is waiting for the peer than before. */
  drained(): void;
  /** The connection is gone. May be called twice. */
  leave(): void;
}

/** What the relay wants of the owner of a connection upstream, whose end it is told of. */
export type UpstreamReceiver = Pick<Receiver, "receive" | "drained">;

const defaultLimits: ChannelLimits = {
  channels: 1000,
  pendingOpens: 256,
  openTimeoutMs: 30_000,
  sessions: Infinity,
};

/**
 * Windows bound the data that can be under way, but nothing bounds requests: while this much waits
 * for a client, or for upstream, no more is read from the client that sends. In bytes.
 */
const clientBacklogBytes = 8 * 1024 * 1024;
const upstreamBacklogBytes = 32 * 1024 * 1024;

/** What the relay is given. */
export interface RelayOptions {
  limits?: Partial<ChannelLimits>;
  schedule: Schedule;
  /** A client wants something of upstream while it is away. */
  onWanted(): void;
  /** A session waits because upstream allows no more at a time. */
  onCrowded(): void;
  /** Words for the log. */
  report(text: string): void;
}

/** Everything between the local clients and the one connection upstream. */
export class Relay {
  readonly #requests = new RequestQueue();
  readonly #forwards: Forwards<Peer>;
  readonly #channels: Channels;
  readonly #pings = new Pings();
  readonly #onWanted: () => void;
  readonly #paused = new Set<Transport>();
  readonly #overflow = new Set<Transport>();
  #upstream: Transport | undefined;
  #answersPings = false;
  /** The largest message that upstream takes, or took when it was there last, in bytes. */
  #maximumPayloadBytes = usualPayloadBytes;

  constructor({ limits, schedule, onWanted, onCrowded, report }: RelayOptions) {
    this.#onWanted = onWanted;
    this.#forwards = new Forwards<Peer>({ requests: this.#requests, schedule, report });
    this.#channels = new Channels({
      owners: this.#forwards,
      limits: { ...defaultLimits, ...limits },
      schedule,
      onWanted,
      onCrowded,
    });
  }

  /** How many channels are not closed in both directions. */
  get channelCount(): number {
    return this.#channels.size;
  }

  /** How many remote forwards there are. */
  get forwardCount(): number {
    return this.#forwards.size;
  }

  /** Whether upstream answers `ping@openssh.com`, or did when it was there last. */
  get answersPings(): boolean {
    return this.#answersPings;
  }

  /** The one connection upstream, while it is there. */
  get upstream(): Peer | undefined {
    return this.#upstream;
  }

  /** Whether a session waits because upstream allows no more at a time. */
  get isCrowded(): boolean {
    return this.#upstream !== undefined && this.#channels.isWanted;
  }

  /** Whether a client waits for upstream. */
  get isWanted(): boolean {
    return this.#channels.isWanted || this.#forwards.isWanted;
  }

  /**
   * Upstream is authenticated; give the returned receiver what it sends. Without forwards nothing
   * but sessions passes.
   */
  attachUpstream(
    upstream: Transport,
    { allowsForwards }: { allowsForwards: boolean } = { allowsForwards: true },
  ): UpstreamReceiver {
    this.#upstream = upstream;
    this.#answersPings = upstream.answersPings;
    this.#maximumPayloadBytes = upstream.maximumPayloadBytes;
    this.#requests.attach(upstream);
    if (allowsForwards) this.#forwards.onUpstreamReady();
    else this.#forwards.refuseRequests(true);
    this.#channels.attachUpstream(upstream, { allowsForwards });
    return this.#upstreamReceiver(upstream, this.#requests);
  }

  /** A further connection is authenticated, for sessions that the one does not allow. */
  attachOverflow(upstream: Transport, requests: RequestQueue): UpstreamReceiver {
    requests.attach(upstream);
    this.#overflow.add(upstream);
    this.#channels.attachOverflow(upstream);
    return this.#upstreamReceiver(upstream, requests);
  }

  /** A further connection is gone. */
  detachOverflow(upstream: Transport, reason: string): void {
    this.#overflow.delete(upstream);
    this.#pings.detach(upstream);
    this.#resumePaused();
    this.#channels.detachOverflow(upstream, reason);
  }

  /** How many channels a connection upstream carries. */
  countOn(upstream: Transport): number {
    return this.#channels.countOn(upstream);
  }

  #upstreamReceiver(upstream: Transport, requests: RequestQueue): UpstreamReceiver {
    return {
      receive: (payload) =>
        guard(upstream, () => this.#onUpstreamMessage(upstream, { payload, requests })),
      drained: () => {
        this.#channels.onUpstreamDrain(upstream);
        this.#resumePaused();
      },
    };
  }

  /**
   * Upstream is gone, but will come back: open channels end, what clients ask for waits.
   *
   * @param reason one line for the people at the sessions.
   */
  detachUpstream(reason: string): void {
    if (this.#upstream) this.#pings.detach(this.#upstream);
    this.#upstream = undefined;
    this.#resumePaused();
    this.#requests.detach();
    this.#forwards.onUpstreamLost();
    this.#channels.detachUpstream(reason);
  }

  /** Upstream will not come back by itself: opens are refused with `reason`. */
  refuseOpens(reason: string): void {
    this.#forwards.refuseRequests(true);
    this.#channels.refuseOpens(reason);
  }

  /** Upstream is tried again after `refuseOpens`: opens wait for it. */
  awaitUpstream(): void {
    this.#forwards.refuseRequests(false);
    this.#channels.awaitUpstream();
  }

  /** Asks upstream for a sign of life; `onReply` is called when it comes, if it does. */
  sendKeepalive(onReply: () => void): void {
    this.#requests.send("keepalive@openssh.com", new Uint8Array(), onReply);
  }

  /** A client is authenticated; give the returned receiver what it sends. */
  addClient(client: Transport): Receiver {
    this.#channels.addClient(client);
    const replies = new ReplyQueue(client);
    let isHere = true;
    const leave = () => {
      isHere = false;
      this.#paused.delete(client);
      this.#forwards.onLeave(client);
      this.#channels.removeClient(client);
      this.#pings.removeClient(client);
    };
    return {
      receive: (payload) => {
        if (!isHere) return;
        const isFine = guard(client, () => this.#onDownstreamMessage(client, payload, replies));
        if (!isFine) leave();
        else if (this.#isCongested(client)) this.#pause(client);
      },
      drained: () => {
        this.#channels.onDownstreamDrain(client);
        this.#resumePaused();
      },
      leave,
    };
  }

  /** Ends every channel with a line to the person at each session; resolves when all are closed. */
  async closeAll(reason: string): Promise<void> {
    this.#forwards.close();
    this.#channels.closeAll(reason);
    await this.#channels.whenEmpty();
  }

  #isCongested(client: Transport): boolean {
    return client.backlogBytes > clientBacklogBytes ||
      [this.#upstream, ...this.#overflow].some((upstream) =>
        upstream !== undefined && upstream.backlogBytes > upstreamBacklogBytes
      );
  }

  #pause(client: Transport): void {
    this.#paused.add(client);
    client.pause();
  }

  #resumePaused(): void {
    for (const client of this.#paused) {
      if (this.#isCongested(client)) continue;
      this.#paused.delete(client);
      client.resume();
    }
  }

  #onDownstreamMessage(client: Transport, payload: Uint8Array, replies: ReplyQueue): void {
    const limit = this.#maximumPayloadBytes;
    if (payload.length > limit) {
      throw new ProtocolError(`a message over ${limit} bytes, which the remote host may not take`);
    }
    const message = parseMessage(payload);
    switch (message?.type) {
      case undefined:
        return client.sendUnimplemented();
      case MessageType.globalRequest:
        return this.#onDownstreamRequest(client, message, replies);
      case MessageType.requestSuccess:
      case MessageType.requestFailure:
        throw new ProtocolError("a reply to no global request");
      case MessageType.ping:
        return this.#pings.onPing(client, message.data, this.#carrierOf(client));
      case MessageType.pong:
        return; // None of ours was sent.
      default:
        return this.#channels.onDownstreamMessage(client, message!, payload);
    }
  }

  /** The connection that a client's keystrokes take. */
  #carrierOf(client: Peer): Transport | undefined {
    if (this.#overflow.size === 0) return this.#upstream;
    const carrier = this.#channels.newestSessionCarrier(client);
    return [...this.#overflow].find((it) => it === carrier) ?? this.#upstream;
  }

  #onDownstreamRequest(client: Peer, request: GlobalRequest, replies: ReplyQueue): void {
    const onReply: (reply: GlobalReply) => void = request.wantReply ? replies.reserve() : () => {};
    if (isForwardRequest(request.name)) {
      this.#forwards.onRequest(client, request, onReply);
      if (this.#upstream === undefined) this.#onWanted();
    } else if (request.name === "no-more-sessions@openssh.com") {
      this.#channels.refuseSessions(client);
      onReply(requestSuccess);
    } else {
      // Keepalives among them: the client asks whether its own connection lives.
      onReply(requestFailure);
    }
  }

  #onUpstreamMessage(
    upstream: Transport,
    { payload, requests }: { payload: Uint8Array; requests: RequestQueue },
  ): void {
    if (upstream !== this.#upstream && !this.#overflow.has(upstream)) return;
    const message: ConnectionMessage | undefined = parseMessage(payload);
    switch (message?.type) {
      case undefined:
        return upstream.sendUnimplemented();
      case MessageType.globalRequest:
        // hostkeys-00@openssh.com among them: it is about the remote host's name, not ours.
        if (message.wantReply) upstream.send(buildMessage(MessageType.requestFailure));
        return;
      case MessageType.requestSuccess:
      case MessageType.requestFailure:
        return requests.onReply(message);
      case MessageType.ping:
        return sendPong(upstream, message.data);
      case MessageType.pong:
        return this.#pings.onPong(upstream);
      default:
        return this.#channels.onUpstreamMessage(upstream, message!, payload);
    }
  }
}

/** Runs `handle`; whatever it throws ends `transport` and nothing else. */
function guard(transport: Transport, handle: () => void): boolean {
  try {
    handle();
    return true;
  } catch (error) {
    const description = error instanceof ProtocolError ? error.message : `internal error: ${error}`;
    transport.disconnect(DisconnectReason.protocolError, description);
    return false;
  }
}
