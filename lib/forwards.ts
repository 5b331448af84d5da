/**
 * Remote forwards (RFC 4254, section 7.1, and OpenSSH's PROTOCOL, section 2.4): which client owns
 * which listener on the remote host.
 *
 * Every request goes upstream with want_reply, whatever the client said, and a client is told what
 * upstream answered: upstream decides whether a place can be had twice. A listener belongs to the
 * client that asked for it: no other may cancel it, and it is cancelled when its owner leaves.
 */

import {
  describePlace,
  descriptorsOf,
  findNewest,
  isEqualPlace,
  isSamePort,
  listenRequest,
  maximumPort,
  type Place,
  readGrantedPort,
  readPlace,
} from "./forward_place.ts";
import { requestFailure, requestSuccess } from "./global_requests.ts";
import { objectionTo, type Usage } from "./share.ts";
import type { Schedule } from "./transport.ts";
import { type GlobalReply, type GlobalRequest, MessageType } from "./wire.ts";

/** Sends global requests upstream; each gets one reply, in order. */
export interface Requests {
  send(name: string, data: Uint8Array, onReply: (reply: GlobalReply) => void): void;
}

/**
 * - `requested`: the client's request waits for upstream, or for its answer;
 * - `listening`: upstream granted it; if its owner has left, another client has the same place;
 * - `cancelling`: upstream was asked to end it;
 * - `lost`: it went with a connection, and is to be brought back on the next one; or it was ended
 *   with others at its place, and is asked for again.
 */
type ListenerState =
  | { kind: "requested"; request: GlobalRequest; onReply: (reply: GlobalReply) => void }
  | { kind: "listening" }
  | { kind: "cancelling"; onReply: (reply: GlobalReply) => void }
  | {
    kind: "lost";
    /** Whether people hear of its return. */
    isMissed: boolean;
    failures: number;
    isAsked: boolean;
    cancelRetry: () => void;
  };

interface Listener<Owner> {
  place: Place;
  /** `undefined` once the client has left. */
  owner: Owner | undefined;
  state: ListenerState;
  /** When it was asked for. */
  since: number;
  /** The number of the grant by which upstream listens; 0 until then. */
  grant: number;
}

/** What the table of forwards is given. */
export interface ForwardsOptions<Owner> {
  requests: Requests;
  schedule: Schedule;
  /** The time, in milliseconds since 1970. */
  now(): number;
  /** What a client's channels and listeners take of upstream's file descriptors. */
  usageOf(owner: Owner): Usage;
  /** Words for the log about a listener that was refused, could not be brought back yet, or was. */
  report(text: string): void;
}

/**
 * A listener that the dead connection still holds is asked for again after delays that grow this
 * slowly: once it is free, half a second and an eighth of the time that it was held are lost at
 * most.
 */
const firstRetryMs = 500;
const retryGrowth = 1.125;
const longestRetryMs = 10_000;

/** Of an address or a path, in bytes: any connection that is to have the forward again takes it. */
const maximumPlaceBytes = 32_768;

/** How many sockets of clients that have left may be at one path before they are ended. */
const mostUnowned = 16;

/** The names of the four requests that this file handles. */
const requestNames = {
  "tcpip-forward": { kind: "tcpip", isCancel: false },
  "cancel-tcpip-forward": { kind: "tcpip", isCancel: true },
  "streamlocal-forward@openssh.com": { kind: "streamlocal", isCancel: false },
  "cancel-streamlocal-forward@openssh.com": { kind: "streamlocal", isCancel: true },
} as const;

type RequestName = keyof typeof requestNames;

/** Whether a global request is about a remote forward. */
export function isForwardRequest(name: string): name is RequestName {
  return Object.hasOwn(requestNames, name);
}

/** The table of remote forwards; `Owner` is whatever stands for a client. */
export class Forwards<Owner> {
  readonly #listeners = new Set<Listener<Owner>>();
  readonly #options: ForwardsOptions<Owner>;
  /** Clients of whose refused requests the log has a line. */
  readonly #reported = new Set<Owner>();
  #grants = 0;
  #hasUpstream = false;
  #refusesRequests = false;

  constructor(options: ForwardsOptions<Owner>) {
    this.#options = options;
  }

  /** How many listeners there are or may come to be. */
  get size(): number {
    return this.#listeners.size;
  }

  /** The listeners that there are or may come to be, in the order in which they were asked for. */
  list(): (Omit<Listener<Owner>, "state"> & { state: ListenerState["kind"] })[] {
    return [...this.#listeners].map((it) => ({ ...it, state: it.state.kind }));
  }

  /** How many of upstream's file descriptors the listeners take, those that may come included. */
  get descriptorCount(): number {
    return sumOfDescriptors(this.#listeners);
  }

  /** How many of them are one client's. */
  descriptorCountOf(owner: Owner): number {
    return sumOfDescriptors([...this.#listeners].filter((it) => it.owner === owner));
  }

  /** Whether a client waits for the answer to a request. */
  get isWanted(): boolean {
    return [...this.#listeners].some(({ state }) => state.kind === "requested");
  }

  /** Takes a client's request; `onReply` is called once, with the truth. */
  onRequest(owner: Owner, request: GlobalRequest, onReply: (reply: GlobalReply) => void): void {
    if (!isForwardRequest(request.name)) throw new Error(`not about forwards: ${request.name}`);
    const { kind, isCancel } = requestNames[request.name];
    if (request.data.length > maximumPlaceBytes) return onReply(requestFailure);
    const place = readPlace(kind, request.data);
    // sshd ends the whole connection where its system's getaddrinfo refuses the port.
    if (place.kind === "tcpip" && place.bindPort > maximumPort) return onReply(requestFailure);
    if (isCancel) this.#cancel(owner, place, onReply);
    else this.#listen(owner, { place, request }, onReply);
  }

  /** A client is gone: what it listened on is cancelled. */
  onLeave(owner: Owner): void {
    for (const listener of this.#listeners) {
      if (listener.owner !== owner) continue;
      listener.owner = undefined;
      const { state } = listener;
      if (state.kind === "listening") this.#endUnowned(listener.place);
      else if (state.kind === "lost") this.#forget(listener, state);
      else if (state.kind === "requested" && !this.#hasUpstream) this.#listeners.delete(listener);
    }
    this.#reported.delete(owner);
  }

  /** Upstream is there: asks for everything that is wanted, in the order in which it was first. */
  onUpstreamReady(): void {
    this.#hasUpstream = true;
    this.#refusesRequests = false;
    for (const listener of this.#listeners) {
      if (listener.state.kind === "requested") this.#sendRequest(listener, listener.state);
      else if (listener.state.kind === "lost") this.#sendAgain(listener, listener.state);
    }
  }

  /** Until upstream is there, or is awaited again, new requests are refused at once. */
  refuseRequests(isRefusing: boolean): void {
    this.#refusesRequests = isRefusing;
    if (!isRefusing || this.#hasUpstream) return;
    for (const listener of this.#listeners) {
      if (listener.state.kind !== "requested") continue;
      this.#listeners.delete(listener);
      listener.state.onReply(requestFailure);
    }
  }

  /** Upstream is gone, and every listener with it; they stay wanted. */
  onUpstreamLost(): void {
    this.#hasUpstream = false;
    for (const listener of this.#listeners) {
      const { state } = listener;
      listener.grant = 0;
      if (state.kind === "listening" && listener.owner !== undefined) {
        listener.state = newlyLost({ isMissed: true });
      } else if (state.kind === "lost" && listener.owner !== undefined) {
        state.cancelRetry();
        state.isAsked = false;
        state.isMissed = true;
      } else if (state.kind === "cancelling") {
        this.#listeners.delete(listener);
        state.onReply(requestSuccess);
      } else if (listener.owner === undefined) {
        this.#listeners.delete(listener);
      }
    }
  }

  /** Nothing is asked for again: no timer is left. */
  close(): void {
    for (const { state } of this.#listeners) {
      if (state.kind === "lost") state.cancelRetry();
    }
    this.#listeners.clear();
  }

  /**
   * The owner of the listener that a `forwarded-tcpip` or `forwarded-streamlocal@openssh.com`
   * channel comes from; `data` is the body of its CHANNEL_OPEN.
   */
  ownerOf(channelType: string, data: Uint8Array): Owner | undefined {
    if (channelType !== "forwarded-tcpip" && channelType !== "forwarded-streamlocal@openssh.com") {
      return undefined;
    }
    const kind = channelType === "forwarded-tcpip" ? "tcpip" : "streamlocal";
    const owned = [...this.#listeners].filter((it) => it.owner !== undefined);
    return findNewest(owned, readPlace(kind, data))?.owner;
  }

  #listen(
    owner: Owner,
    { place, request }: { place: Place; request: GlobalRequest },
    onReply: (reply: GlobalReply) => void,
  ): void {
    if (this.#refusesRequests) return onReply(requestFailure);
    const objection = this.#objectionTo(owner, place);
    if (objection !== undefined) {
      this.#reportRefusal(owner, place, objection);
      return onReply(requestFailure);
    }
    const state: ListenerState = { kind: "requested", request, onReply };
    const since = this.#options.now();
    const listener: Listener<Owner> = { place, owner, state, since, grant: 0 };
    this.#listeners.add(listener);
    if (this.#hasUpstream) this.#sendRequest(listener, state);
  }

  /** Why a request is refused without asking upstream; `undefined` where it is not. */
  #objectionTo(owner: Owner, place: Place): string | undefined {
    // What sshd would keep from others while it listens is kept here until it does again.
    const isAwaited = [...this.#listeners].some((it) =>
      it.owner !== owner && it.owner !== undefined && it.state.kind === "lost" &&
      isSamePort(it.place, place)
    );
    if (isAwaited) return "the port is another client's, and is being brought back";
    return objectionTo(descriptorsOf(place), this.#options.usageOf(owner));
  }

  /** One line for each client, which may ask on and on. */
  #reportRefusal(owner: Owner | undefined, place: Place, reason: string): void {
    if (owner === undefined || this.#reported.has(owner)) return;
    this.#reported.add(owner);
    this.#options.report(`remote forward ${describePlace(place)} is refused: ${reason}`);
  }

  #sendRequest(
    listener: Listener<Owner>,
    { request, onReply }: ListenerState & { kind: "requested" },
  ): void {
    const { place } = listener;
    this.#options.requests.send(request.name, request.data, (reply) => {
      const isGranted = reply.type === MessageType.requestSuccess;
      const asksForPort = place.kind === "tcpip" && place.bindPort === 0;
      const bindPort = isGranted && asksForPort ? readGrantedPort(reply.data) : undefined;
      if (!isGranted || (asksForPort && bindPort === undefined)) {
        this.#listeners.delete(listener);
        this.#endUnowned(place);
        if (isGranted) this.#reportRefusal(listener.owner, place, "the remote host names no port");
        return onReply(requestFailure);
      }
      if (asksForPort && bindPort !== undefined) listener.place = { ...place, bindPort };
      this.#onGrant(listener);
      onReply(reply);
    });
  }

  #onGrant(listener: Listener<Owner>): void {
    listener.state = { kind: "listening" };
    listener.grant = ++this.#grants;
    if (listener.owner === undefined) this.#endUnowned(listener.place);
  }

  /** Asks for a lost listener again, at the port that was allocated before. */
  #sendAgain(listener: Listener<Owner>, state: ListenerState & { kind: "lost" }): void {
    const { requests, schedule, report } = this.#options;
    const where = describePlace(listener.place);
    const { name, data } = listenRequest(listener.place);
    state.isAsked = true;
    requests.send(name, data, (reply) => {
      state.isAsked = false;
      if (!this.#listeners.has(listener)) return; // Everything was closed meanwhile.
      if (reply.type === MessageType.requestSuccess) {
        this.#onGrant(listener);
        if (listener.owner !== undefined && state.isMissed) {
          report(`remote forward ${where} is back`);
        }
        return;
      }
      this.#endUnowned(listener.place);
      if (listener.owner === undefined) {
        this.#listeners.delete(listener);
      } else {
        if (state.failures === 0) report(`remote forward ${where} is still taken, trying again`);
        state.isMissed = true;
        const delayMs = Math.min(longestRetryMs, firstRetryMs * retryGrowth ** state.failures++);
        state.cancelRetry = schedule(delayMs, () => this.#sendAgain(listener, state));
      }
    });
  }

  #cancel(owner: Owner, place: Place, onReply: (reply: GlobalReply) => void): void {
    const listener = [...this.#listeners].find((it) =>
      it.owner === owner && isEqualPlace(it.place, place) &&
      (it.state.kind === "listening" || it.state.kind === "lost")
    );
    if (listener === undefined) return onReply(requestFailure);
    if (listener.state.kind === "lost") {
      this.#forget(listener, listener.state);
      return onReply(requestSuccess);
    }
    if (this.#isWanted(place, listener)) {
      listener.owner = undefined;
      this.#endUnowned(place);
      return onReply(requestSuccess);
    }
    this.#sendCancel(listener, onReply);
    this.#endUnowned(place);
  }

  /** Whether a client has a place, or may get it, by another listener than this one. */
  #isWanted(place: Place, except?: Listener<Owner>): boolean {
    return [...this.#listeners].some((it) =>
      it !== except && isEqualPlace(it.place, place) &&
      (it.state.kind === "requested" || (it.state.kind === "lost" && it.state.isAsked) ||
        (it.state.kind === "listening" && it.owner !== undefined))
    );
  }

  /**
   * Cancels the listeners at a place whose owners have left. Where another client has the place they
   * wait for its end: sshd ends all that are spelled alike at once. Only where clients come and go at
   * one path are they ended before, and the others' asked for again in the same breath.
   */
  #endUnowned(place: Place): void {
    const here = [...this.#listeners].filter((it) => isEqualPlace(it.place, place));
    const isQuiet = here.every((it) => it.state.kind === "listening");
    const unowned = here.filter((it) => it.state.kind === "listening" && it.owner === undefined);
    const isTooMuch = place.kind === "streamlocal" && unowned.length >= mostUnowned && isQuiet;
    if (this.#isWanted(place) && !isTooMuch) return;
    for (const listener of unowned) this.#sendCancel(listener, () => {});
    if (!isTooMuch) return;
    const owned = here.filter((it) => it.owner !== undefined);
    for (const listener of owned.sort((one, two) => one.grant - two.grant)) {
      const state = listener.state = newlyLost({ isMissed: false });
      this.#sendAgain(listener, state);
    }
  }

  #sendCancel(listener: Listener<Owner>, onReply: (reply: GlobalReply) => void): void {
    listener.state = { kind: "cancelling", onReply };
    const { name, data } = listenRequest(listener.place);
    this.#options.requests.send(`cancel-${name}`, data, (reply) => {
      const isGone = reply.type === MessageType.requestSuccess || listener.owner === undefined;
      if (isGone) this.#listeners.delete(listener);
      else listener.state = { kind: "listening" };
      onReply(reply);
    });
  }

  /** A lost listener is wanted no more; if it comes back all the same, it is cancelled then. */
  #forget(listener: Listener<Owner>, state: ListenerState & { kind: "lost" }): void {
    listener.owner = undefined;
    state.cancelRetry();
    if (!state.isAsked) this.#listeners.delete(listener);
  }
}

function newlyLost({ isMissed }: { isMissed: boolean }): ListenerState & { kind: "lost" } {
  return { kind: "lost", isMissed, failures: 0, isAsked: false, cancelRetry: () => {} };
}

function sumOfDescriptors(listeners: Iterable<{ place: Place }>): number {
  let sum = 0;
  for (const { place } of listeners) sum += descriptorsOf(place);
  return sum;
}
