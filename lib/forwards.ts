/**
 * Remote forwards (RFC 4254, section 7.1, and OpenSSH's PROTOCOL, section 2.4): which client owns
 * which listener on the remote host.
 *
 * Every request goes upstream with want_reply, whatever the client said, and a client is told what
 * upstream answered. A listener belongs to the client that asked for it: no other may take or
 * cancel it, and it is cancelled when its owner leaves.
 */

import { encodeFields, type GlobalReply, type GlobalRequest, MessageType, Reader } from "./wire.ts";

/** Sends global requests upstream; each gets one reply, in order. */
export interface Requests {
  send(name: string, data: Uint8Array, onReply: (reply: GlobalReply) => void): void;
}

/** Where a remote forward listens: a TCP address, or the path of a unix socket. */
type Place =
  | { kind: "tcpip"; bindAddress: string; bindPort: number }
  | { kind: "streamlocal"; socketPath: string };

/**
 * - `requested`: upstream has not answered yet;
 * - `listening`: upstream granted it;
 * - `cancelling`: upstream was asked to end it.
 */
type ListenerState = "requested" | "listening" | "cancelling";

interface Listener<Owner> {
  place: Place;
  /** `undefined` once the client has left. */
  owner: Owner | undefined;
  state: ListenerState;
}

const maximumPort = 65535;

const refused: GlobalReply = { type: MessageType.requestFailure, data: new Uint8Array() };

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
  readonly #requests: Requests;

  constructor(requests: Requests) {
    this.#requests = requests;
  }

  /** How many listeners there are or may come to be. */
  get size(): number {
    return this.#listeners.size;
  }

  /** Takes a client's request; `onReply` is called once, with the truth. */
  onRequest(owner: Owner, request: GlobalRequest, onReply: (reply: GlobalReply) => void): void {
    if (!isForwardRequest(request.name)) throw new Error(`not about forwards: ${request.name}`);
    const { kind, isCancel } = requestNames[request.name];
    const place = readPlace(kind, request.data);
    // sshd ends the whole connection where its system's getaddrinfo refuses the port.
    if (place.kind === "tcpip" && place.bindPort > maximumPort) return onReply(refused);
    if (isCancel) this.#cancel(owner, place, onReply);
    else this.#listen(owner, { place, request }, onReply);
  }

  /** A client is gone: what it listened on is cancelled. */
  onLeave(owner: Owner): void {
    for (const listener of this.#listeners) {
      if (listener.owner !== owner) continue;
      listener.owner = undefined;
      if (listener.state === "listening") this.#sendCancel(listener, () => {});
    }
  }

  /** Upstream is gone, and every listener with it. */
  onUpstreamLost(): void {
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
      it.owner !== undefined && it.owner !== owner && isSamePlace(it.place, place)
    );
    if (isTaken && !asksForPort) return onReply(refused);

    const listener: Listener<Owner> = { place, owner, state: "requested" };
    this.#listeners.add(listener);
    this.#requests.send(request.name, request.data, (reply) => {
      if (reply.type === MessageType.requestFailure) {
        this.#listeners.delete(listener);
        return onReply(reply);
      }
      try {
        if (asksForPort) {
          listener.place = { ...place, bindPort: new Reader(reply.data).uint32() };
        }
      } catch (error) {
        this.#listeners.delete(listener);
        onReply(refused); // Without it, every later reply to this client would wait.
        throw error;
      }
      listener.state = "listening";
      if (listener.owner === undefined) this.#sendCancel(listener, () => {});
      onReply(reply);
    });
  }

  #cancel(owner: Owner, place: Place, onReply: (reply: GlobalReply) => void): void {
    const listener = [...this.#listeners].find((it) =>
      it.owner === owner && it.state === "listening" && isEqualPlace(it.place, place)
    );
    if (listener === undefined) return onReply(refused);
    this.#sendCancel(listener, onReply);
  }

  #sendCancel(listener: Listener<Owner>, onReply: (reply: GlobalReply) => void): void {
    listener.state = "cancelling";
    const { place } = listener;
    const [name, data]: [RequestName, Uint8Array] = place.kind === "tcpip"
      ? ["cancel-tcpip-forward", encodeFields(place.bindAddress, place.bindPort)]
      : ["cancel-streamlocal-forward@openssh.com", encodeFields(place.socketPath)];
    this.#requests.send(name, data, (reply) => {
      const isGone = reply.type === MessageType.requestSuccess || listener.owner === undefined;
      if (isGone) this.#listeners.delete(listener);
      else listener.state = "listening";
      onReply(reply);
    });
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

/** sshd binds all of these to loopback, or to every address, depending on GatewayPorts. */
const anyOrLoopback = ["", "*", "localhost", "127.0.0.1", "0.0.0.0", "::", "::1"];

function addressClass(address: string): string {
  const name = address.toLowerCase();
  return anyOrLoopback.includes(name) ? "" : name;
}
