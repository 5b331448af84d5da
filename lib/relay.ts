/**
 * The relay: hands each message to the table that it concerns, and is the one place where a peer
 * that breaks the protocol is ended, alone. It knows no socket, timer or console; `local_client.ts`
 * and `ready_connection.ts` give it their transports.
 */

import { Backpressure } from "./backpressure.ts";
import { usualLimits } from "./channel_limits.ts";
import { Channels } from "./channels.ts";
import { ClientRequests } from "./client_requests.ts";
import type { ClientRules } from "./client_rules.ts";
import { DisconnectReason, ProtocolError } from "./errors.ts";
import { Forwards } from "./forwards.ts";
import { ReplyQueue, RequestQueue } from "./global_requests.ts";
import { Pings, sendPong } from "./pings.ts";
import { type ClientConnection, isGlobalReply, linkOptions } from "./relay_connections.ts";
import { guard } from "./relay_guard.ts";
import type { RelayOptions } from "./relay_options.ts";
import { describeRelay, type RelayStatus, unknownClient } from "./relay_status.ts";
import {
  type OnHostKeys,
  type Peer,
  type Receiver,
  type Transport,
  type UpstreamReceiver,
  usualPayloadBytes,
} from "./transport.ts";
import { dropped, MessageType, parseMessage, recipientOf } from "./wire.ts";

/**
 * Everything between the local clients and the one connection upstream.
 *
 * Its duties:
 * - each message goes on in its order, with only the channel number rewritten; each exception to
 *   that stands in PROTOCOL.md;
 * - a client gets what belongs to its own channels and forwards, and nothing else;
 * - upstream gets no message that sshd would end everybody's connection for;
 * - whoever breaks the protocol is ended, alone;
 * - no peer makes the others wait, or the memory grow, without bound;
 * - what clients want while upstream is away waits, and what they own there is brought back.
 */
export class Relay {
  readonly #requests = new RequestQueue();
  readonly #forwards: Forwards<Peer>;
  readonly #channels: Channels;
  readonly #clientRequests: ClientRequests;
  readonly #pings = new Pings();
  readonly #report: RelayOptions["report"];
  readonly #backpressure: Backpressure;
  readonly #clients = new Map<Peer, ClientConnection>();
  readonly #overflow = new Set<Transport>();
  #upstream: Transport | undefined;
  #clientsAccepted = 0;
  #answersPings = false;
  /** The largest message that upstream takes, or took when it was there last, in bytes. */
  #maximumPayloadBytes = usualPayloadBytes;

  constructor(options: RelayOptions) {
    const { limits, schedule, onWanted, isPatient, onCrowded, report, observe } = options;
    this.#report = report;
    this.#backpressure = new Backpressure({
      schedule,
      windowBytesOf: (client) => this.#channels.windowBytesOf(client),
      heldBytesOf: (upstream) => this.#channels.heldBytesOf(upstream),
      onStuck: (client) => {
        this.#clients.get(client)?.leave();
        const reason = "everybody waits for what you do not take";
        client.disconnect(DisconnectReason.byApplication, reason);
      },
    });
    const now = options.now ?? (() => 0);
    this.#forwards = new Forwards<Peer>({
      requests: this.#requests,
      schedule,
      now,
      usageOf: (client) => this.#channels.usageOf(client),
      report,
    });
    this.#channels = new Channels({
      owners: this.#forwards,
      limits: { ...usualLimits, ...limits },
      schedule,
      pacing: options.pacing,
      now,
      onWanted,
      isPatient: isPatient ?? (() => false),
      onCrowded,
      report,
      observe,
    });
    this.#clientRequests = new ClientRequests({
      ...this.#tables,
      forwards: this.#forwards,
      observe,
      onForward: () => {
        if (this.#upstream === undefined) onWanted();
      },
    });
  }

  /** How many channels are not closed in both directions. */
  get channelCount(): number {
    return this.#channels.size;
  }

  /** What waits here for the one connection upstream, in bytes. */
  get heldBytes(): number {
    return this.#upstream ? this.#channels.heldBytesOf(this.#upstream) : 0;
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
    { allowsForwards = true, onHostKeys }: { allowsForwards?: boolean; onHostKeys?: OnHostKeys } =
      {},
  ): UpstreamReceiver {
    this.#upstream = upstream;
    this.#backpressure.addUpstream(upstream);
    this.#answersPings = upstream.answersPings;
    this.#maximumPayloadBytes = upstream.maximumPayloadBytes;
    this.#requests.attach(upstream, onHostKeys);
    if (allowsForwards) this.#forwards.onUpstreamReady();
    else this.#forwards.refuseRequests(true);
    const { allowsWarmSession } = upstream;
    const link = linkOptions(upstream, { requests: this.#requests, ...this.#tables });
    this.#channels.attachUpstream(upstream, { allowsForwards, allowsWarmSession, ...link });
    return this.#upstreamReceiver(upstream, this.#requests);
  }

  /** A further connection is authenticated, for sessions that the one does not allow. */
  attachOverflow(upstream: Transport, requests: RequestQueue): UpstreamReceiver {
    requests.attach(upstream);
    this.#overflow.add(upstream);
    this.#backpressure.addUpstream(upstream);
    this.#channels.attachOverflow(upstream, linkOptions(upstream, { requests, ...this.#tables }));
    return this.#upstreamReceiver(upstream, requests);
  }

  /** A further connection is gone. */
  detachOverflow(upstream: Transport, reason: string): void {
    this.#overflow.delete(upstream);
    this.#pings.detach(upstream);
    this.#backpressure.removeUpstream(upstream);
    this.#channels.detachOverflow(upstream, reason);
  }

  /** How many channels a connection upstream carries. */
  countOn(upstream: Transport): number {
    return this.#channels.countOn(upstream);
  }

  get #tables(): { channels: Channels; backpressure: Backpressure } {
    return { channels: this.#channels, backpressure: this.#backpressure };
  }

  #upstreamReceiver(upstream: Transport, requests: RequestQueue): UpstreamReceiver {
    return {
      receive: (payload) => {
        // Everybody's connection is not ended for a mistake of ours, but the channel it was made on.
        const slot = recipientOf(payload);
        const { backlogBytes } = upstream;
        let client: Transport | undefined;
        const handle = () => client = this.#onUpstreamMessage(upstream, { payload, requests });
        guard(upstream, { payload, handle }, (stack) => {
          this.#reportMistake(stack);
          this.#channels.giveUp(upstream, slot);
        });
        // A reply lets clients' data go on, which is no answer.
        const isAnswered = upstream.backlogBytes > backlogBytes && !isGlobalReply(payload);
        this.#backpressure.onUpstreamMessage(upstream, { client, isAnswered });
      },
      unimplemented: (sequenceNumber) => requests.onUnimplemented(sequenceNumber),
      drained: () => {
        this.#channels.onUpstreamDrain(upstream);
        this.#backpressure.onUpstreamDrain(upstream);
      },
    };
  }

  /**
   * Upstream is gone, but will come back: open channels end, what clients ask for waits.
   *
   * @param reason one line for the people at the sessions.
   * @param byServer whether upstream has ended the connection, and not the network.
   * @returns whether it has served a session to its end.
   */
  detachUpstream(reason: string, { byServer = false } = {}): boolean {
    const upstream = this.#upstream;
    this.#upstream = undefined;
    if (upstream) {
      this.#pings.detach(upstream);
      this.#backpressure.removeUpstream(upstream);
    }
    this.#requests.detach();
    this.#forwards.onUpstreamLost();
    return this.#channels.detachUpstream(reason, { byServer });
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
    this.#requests.sendKeepalive(onReply);
  }

  /** A client is authenticated, of whom `about` tells; give the returned receiver what it sends. */
  addClient(client: Transport, rules?: ClientRules, about = unknownClient): Receiver {
    this.#channels.addClient(client, rules);
    this.#clientsAccepted++;
    const connection: ClientConnection = {
      ...{ transport: client, rules, about },
      replies: new ReplyQueue(client),
      pending: this.#backpressure.addClient(client),
      leave: () => {
        this.#clients.delete(client);
        this.#forwards.onLeave(client);
        this.#channels.removeClient(client);
        this.#pings.removeClient(client);
        this.#backpressure.removeClient(client);
      },
    };
    this.#clients.set(client, connection);
    const { leave } = connection;
    return {
      receive: (payload) => {
        if (!this.#clients.has(client)) return;
        const handle = () => this.#onDownstreamMessage(connection, payload);
        const isFine = guard(client, { payload, handle }, (stack) => {
          this.#reportMistake(stack);
          const { byApplication } = DisconnectReason;
          client.disconnect(byApplication, "sshshim has made a mistake; its log has more");
        });
        if (isFine) this.#backpressure.onClientMessage(client);
        else leave();
      },
      drained: () => {
        this.#channels.onDownstreamDrain(client);
        this.#backpressure.relax();
      },
      leave,
    };
  }

  /** What runs at this moment. */
  describe(): RelayStatus {
    return describeRelay(this.#clients, {
      accepted: this.#clientsAccepted,
      ...{ channels: this.#channels, forwards: this.#forwards },
    });
  }

  /** Whether a connection is not read, because others have to take first what came from it. */
  isPaused(transport: Transport): boolean {
    return this.#backpressure.isPaused(transport);
  }

  /** Resolves when no channel is left. */
  whenEmpty(): Promise<void> {
    return this.#channels.whenEmpty();
  }

  /** Tells the people at terminals something; the limits' `noticeBytes` keep room for it. */
  tell(text: string): void {
    this.#channels.tell(text);
  }

  /** Shows a line at the terminals of a connection upstream; without `text` it is taken back. */
  showLine(upstream: Peer, text?: string): void {
    this.#channels.showLine(upstream, text);
  }

  /** Ends every channel with a line to the person at each session; resolves when all are closed. */
  async closeAll(reason: string): Promise<void> {
    this.#forwards.close();
    this.#channels.closeAll(reason);
    await this.whenEmpty();
  }

  #reportMistake(stack: string): void {
    this.#report(`internal error: ${stack}`, "error");
  }

  #onDownstreamMessage(connection: ClientConnection, payload: Uint8Array): void {
    const { transport: client } = connection;
    const limit = this.#maximumPayloadBytes;
    if (payload.length > limit) {
      throw new ProtocolError(`a message over ${limit} bytes, which the remote host may not take`);
    }
    const message = parseMessage(payload);
    switch (message?.type) {
      case undefined:
        return client.sendUnimplemented();
      case MessageType.globalRequest:
        return this.#clientRequests.onRequest(connection, message);
      case MessageType.requestSuccess:
      case MessageType.requestFailure:
        return this.#report(dropped("downstream", payload, "nobody has asked"), "debug");
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

  /** @returns the client that the message concerns, if there is one. */
  #onUpstreamMessage(
    upstream: Transport,
    { payload, requests }: { payload: Uint8Array; requests: RequestQueue },
  ): Transport | undefined {
    if (upstream !== this.#upstream && !this.#overflow.has(upstream)) return undefined;
    const message = parseMessage(payload);
    switch (message?.type) {
      case undefined:
        upstream.sendUnimplemented();
        return undefined;
      case MessageType.globalRequest:
        requests.onRequest(message);
        return undefined;
      case MessageType.requestSuccess:
      case MessageType.requestFailure:
        if (requests.onReply(message)) return undefined;
        this.#report(dropped("upstream", payload, "nobody has asked"), "debug");
        return undefined;
      case MessageType.ping:
        sendPong(upstream, message.data);
        return undefined;
      case MessageType.pong:
        this.#pings.onPong(upstream);
        return undefined;
      default: {
        const client = this.#channels.onUpstreamMessage(upstream, message!, payload);
        return client && this.#clients.get(client)?.transport;
      }
    }
  }
}
