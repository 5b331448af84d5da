/**
 * Remote forwards (RFC 4254, section 7.1, and OpenSSH's PROTOCOL, section 2.4): which client owns
 * which listener on the remote host.
 *
 * Every request goes upstream with want_reply, whatever the client said, and a client is told what
 * upstream answered. A listener belongs to the client that asked for it: no other may take or
 * cancel it, and it is cancelled when its owner leaves.
 */

import { ProtocolError } from "./errors.ts";
import { requestFailure, requestSuccess } from "./global_requests.ts";
import type { Schedule } from "./transport.ts";
import { displayText, encodeFields, Reader, readUint32 } from "./ssh_data.ts";
import { type GlobalReply, type GlobalRequest, MessageType } from "./wire.ts";

/** Sends global requests upstream; each gets one reply, in order. */
export interface Requests {
  send(name: string, data: Uint8Array, onReply: (reply: GlobalReply) => void): void;
}

/** Where a remote forward listens: a TCP address, or the path of a unix socket. */
type Place =
  | { kind: "tcpip"; bindAddress: string; bindPort: number }
  | { kind: "streamlocal"; socketPath: string };

/**
 * - `requested`: the client's request waits for upstream, or for its answer;
 * - `listening`: upstream granted it;
 * - `cancelling`: upstream was asked to end it;
 * - `lost`: it went with a connection, and is to be brought back on the next one.
 */
type ListenerState =
  | { kind: "requested"; request: GlobalRequest; onReply: (reply: GlobalReply) => void }
  | { kind: "listening" }
  | { kind: "cancelling"; onReply: (reply: GlobalReply) => void }
  | { kind: "lost"; failures: number; isAsked: boolean; cancelRetry: () => void };

interface Listener<Owner> {
  place: Place;
  /** `undefined` once the client has left. */
  owner: Owner | undefined;
  state: ListenerState;
}

/** What the table of forwards is given. */
export interface ForwardsOptions {
  requests: Requests;
  schedule: Schedule;
  /** Words for the log about a listener that could not be brought back yet, or was. */
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

const maximumPort = 65535;

/** Of an address or a path, in bytes: any connection that is to have the forward again takes it. */
const maximumPlaceBytes = 32_768;

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
  readonly #options: ForwardsOptions;
  #hasUpstream = false;
  #refusesRequests = false;

  constructor(options: ForwardsOptions) {
    this.#options = options;
  }

  /** How many listeners there are or may come to be. */
  get size(): number {
    return this.#listeners.size;
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
      if (state.kind === "listening") this.#sendCancel(listener, () => {});
      else if (state.kind === "lost") this.#forget(listener, state);
      else if (state.kind === "requested" && !this.#hasUpstream) this.#listeners.delete(listener);
    }
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
      if (state.kind === "listening") {
        listener.state = {
          kind: "lost",
          failures: 0,
          isAsked: false,
          cancelRetry: () => {},
        };
      } else if (state.kind === "lost" && listener.owner !== undefined) {
        state.cancelRetry();
        state.isAsked = false;
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
    const reader = new Reader(data);
    switch (channelType) {
      case "forwarded-tcpip":
        return this.#find({
          kind: "tcpip",
          bindAddress: reader.text(),
          bindPort: reader.uint32(),
        })?.owner;
      case "forwarded-streamlocal@openssh.com":
        return this.#find({ kind: "streamlocal", socketPath: reader.text() })?.owner;
      default:
        return undefined;
    }
  }

  #listen(
    owner: Owner,
    { place, request }: { place: Place; request: GlobalRequest },
    onReply: (reply: GlobalReply) => void,
  ): void {
    const asksForPort = place.kind === "tcpip" && place.bindPort === 0;
    const isTaken = [...this.#listeners].some((it) =>
      it.owner !== undefined && it.owner !== owner &&
      // What sshd would keep from others while it listens is kept here until it does again.
      (isSamePlace(it.place, place) || it.state.kind === "lost" && isSamePort(it.place, place))
    );
    if ((isTaken && !asksForPort) || this.#refusesRequests) return onReply(requestFailure);

    const state: ListenerState = { kind: "requested", request, onReply };
    const listener: Listener<Owner> = { place, owner, state };
    this.#listeners.add(listener);
    if (this.#hasUpstream) this.#sendRequest(listener, state);
  }

  #sendRequest(
    listener: Listener<Owner>,
    { request, onReply }: ListenerState & { kind: "requested" },
  ): void {
    const { place } = listener;
    this.#options.requests.send(request.name, request.data, (reply) => {
      if (reply.type === MessageType.requestFailure) {
        this.#listeners.delete(listener);
        return onReply(reply);
      }
      try {
        if (place.kind === "tcpip" && place.bindPort === 0) {
          listener.place = { ...place, bindPort: readGrantedPort(reply.data) };
        }
      } catch (error) {
        this.#listeners.delete(listener);
        onReply(requestFailure); // Without it, every later reply to this client would wait.
        throw error;
      }
      listener.state = { kind: "listening" };
      if (listener.owner === undefined) this.#sendCancel(listener, () => {});
      onReply(reply);
    });
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
        listener.state = { kind: "listening" };
        if (listener.owner === undefined) this.#sendCancel(listener, () => {});
        else report(`remote forward ${where} is back`);
      } else if (listener.owner === undefined) {
        this.#listeners.delete(listener);
      } else {
        if (state.failures === 0) report(`remote forward ${where} is still taken, trying again`);
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
    this.#sendCancel(listener, onReply);
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

  /** The listener at a place: as it was asked for, else any spelling of it, else the port's only one. */
  #find(place: Place): Listener<Owner> | undefined {
    const listeners = [...this.#listeners].filter((it) => it.owner !== undefined);
    const onPort = listeners.filter((it) =>
      place.kind === "tcpip" && it.place.kind === "tcpip" && it.place.bindPort === place.bindPort
    );
    return listeners.find((it) => isEqualPlace(it.place, place)) ??
      listeners.find((it) => isSamePlace(it.place, place)) ??
      (onPort.length === 1 ? onPort[0] : undefined);
  }
}

/** The request for a listener; with `cancel-` before its name it is the one that ends it. */
function listenRequest(place: Place): { name: string; data: Uint8Array } {
  return place.kind === "tcpip"
    ? { name: "tcpip-forward", data: encodeFields(place.bindAddress, place.bindPort) }
    : { name: "streamlocal-forward@openssh.com", data: encodeFields(place.socketPath) };
}

function describePlace(place: Place): string {
  if (place.kind === "streamlocal") return displayText(place.socketPath);
  return `${displayText(place.bindAddress) || "*"}:${place.bindPort}`;
}

/** The port that upstream has allocated. */
function readGrantedPort(data: Uint8Array): number {
  const port = data.length >= 4 ? readUint32(data, 0) : 0;
  if (port === 0 || port > maximumPort) throw new ProtocolError("a forward at no port");
  return port;
}

function readPlace(kind: Place["kind"], data: Uint8Array): Place {
  const reader = new Reader(data);
  return kind === "tcpip"
    ? { kind, bindAddress: reader.text(), bindPort: reader.uint32() }
    : { kind, socketPath: reader.text() };
}

/** Whether two places are spelled alike. */
function isEqualPlace(one: Place, two: Place): boolean {
  if (one.kind === "streamlocal" || two.kind === "streamlocal") return isSamePlace(one, two);
  return one.bindPort === two.bindPort && one.bindAddress === two.bindAddress;
}

/** Whether sshd may bind two places to the same socket, however they are spelled. */
function isSamePlace(one: Place, two: Place): boolean {
  if (one.kind === "tcpip" && two.kind === "tcpip") {
    return one.bindPort === two.bindPort &&
      addressClass(one.bindAddress) === addressClass(two.bindAddress);
  }
  return one.kind === "streamlocal" && two.kind === "streamlocal" &&
    one.socketPath === two.socketPath;
}

/** Whether sshd may bind two addresses to the same socket, if its GatewayPorts is off. */
function isSamePort(one: Place, two: Place): boolean {
  return one.kind === "tcpip" && two.kind === "tcpip" && one.bindPort === two.bindPort;
}

/** sshd binds all of these to loopback, or to every address, depending on GatewayPorts. */
const anyOrLoopback = ["", "*", "localhost", "127.0.0.1", "0.0.0.0", "::", "::1"];

function addressClass(address: string): string {
  const name = address.toLowerCase();
  return anyOrLoopback.includes(name) ? "" : name;
}
