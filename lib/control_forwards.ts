/**
 * The forwards that clients of the control socket ask for (`ssh -O forward`): which there are, and who
 * wants them. What one is: `local_forward.ts` and `remote_forward.ts`.
 */

import type { ForwardEnd, ForwardRequest } from "./control_messages.ts";
import { ForwardClient, type MakeClient } from "./forward_client.ts";
import { findNewest, type Place, readPlace } from "./forward_place.ts";
import { LocalForward } from "./local_forward.ts";
import { logger } from "./log.ts";
import type { OwnerOf } from "./relay_client.ts";
import { RemoteForward } from "./remote_forward.ts";
import { displayText } from "./ssh_data.ts";
import type { ChannelOpen } from "./wire.ts";

const log = logger("forward");

/** How many forwards there may be at a time. */
const mostForwards = 256;

/** What makes a forward what it is; hosts and paths are byte strings. */
export type ForwardSpecification = Pick<ForwardRequest, "kind" | "listen" | "connect">;

/** A forward, for people and as JSON. */
export interface ListedForward {
  kind: ForwardRequest["kind"];
  /** The address and port, or the path; `*` is every address. */
  listen: string;
  /** `null` where each connection says it, by SOCKS. */
  connect: string | null;
  /** How many are open that came by it. */
  connections: number;
  /** When it was asked for, as ISO 8601. */
  since: string;
}

/** One that was opened. */
export interface OpenedForward {
  /** The port that was chosen, where it was to be. */
  port?: number;
  /** It is not wanted any more, by the one who asked for it. May be called twice. */
  close(): Promise<void>;
}

interface Entry {
  specification: ForwardSpecification;
  key: string;
  since: string;
  /** How many have asked for it and want it still. */
  holders: number;
  /** The order in which they were asked for. */
  grant: number;
  forward: LocalForward | RemoteForward;
  /** @throws {Error} where it cannot be opened. */
  opened: Promise<void>;
}

/** All forwards of one host. */
export class ControlForwards {
  readonly #client: ForwardClient;
  readonly #entries = new Map<string, Entry>();
  /** Aborted when all are to end. */
  #closing = new AbortController();
  #lastGrant = 0;

  constructor({ makeClient }: { makeClient: MakeClient }) {
    this.#client = new ForwardClient({
      makeClient,
      onOpen: (open) => this.#onOpen(open),
      onLost: (reason) => this.#onLost(reason),
      isNeeded: () => this.#entries.size > 0,
    });
  }

  /**
   * Opens a forward; the same one again is the one that there is. It is closed when all who have asked
   * for it have closed it.
   *
   * @throws {Error} where it cannot be opened.
   */
  async open(request: ForwardSpecification): Promise<OpenedForward> {
    const entry = this.#entries.get(keyOf(request)) ?? this.#add(request);
    entry.holders++;
    await entry.opened;
    const { listen } = entry.specification;
    const { port } = entry.forward;
    let isHeld = true;
    return {
      ...!("path" in listen) && listen.port === 0 && port !== undefined ? { port } : {},
      close: async () => {
        if (!isHeld) return;
        isHeld = false;
        if (--entry.holders === 0) await this.#end(entry);
      },
    };
  }

  /**
   * Closes a forward, whoever has asked for it; its connections go on.
   *
   * @throws {Error} where there is none.
   */
  async close(request: ForwardSpecification): Promise<void> {
    const entry = this.#find(request);
    if (entry === undefined) {
      throw new Error(`There is no ${request.kind} forward from ${describeEnd(request.listen)}.`);
    }
    await this.#end(entry);
  }

  /** The forwards that there are or may come to be, in the order in which they were asked for. */
  list(): ListedForward[] {
    return Array.from(this.#entries.values(), ({ specification, forward, since }) => {
      const { kind, listen, connect } = specification;
      return {
        kind,
        listen: describeEnd(
          "path" in listen ? listen : { ...listen, port: forward.port ?? listen.port },
        ),
        connect: isDynamic(specification) ? null : describeEnd(connect),
        connections: forward.connectionCount,
        since,
      };
    });
  }

  /** Closes all forwards; their connections go on. */
  stopListening(): void {
    for (const entry of [...this.#entries.values()]) {
      this.#end(entry).catch((error) => log.debug("a forward is not closed: {error}", { error }));
    }
  }

  /** Closes all forwards and their connections. */
  async closeAll(): Promise<void> {
    this.#closing.abort(new Error("the forwards are closed"));
    this.#closing = new AbortController();
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    this.#client.close();
    await Promise.all(entries.map(({ forward }) => forward.close()));
    // A connection may have been accepted meanwhile.
    this.#client.close();
  }

  #add(request: ForwardSpecification): Entry {
    if (this.#entries.size >= mostForwards) {
      throw new Error(
        `There are ${mostForwards} forwards, and no more at a time. Close one first.`,
      );
    }
    const { kind, listen, connect } = request;
    const specification = { kind, listen, connect };
    const leadsTo = isDynamic(specification) ? undefined : connect;
    if (kind === "local" && (leadsTo === undefined || isEmpty(leadsTo))) {
      throw new Error("The forward leads nowhere: name a host and a port, or a path.");
    }
    const options = { listen, connect: leadsTo, signal: this.#closing.signal };
    const forward = kind === "remote"
      ? new RemoteForward(this.#client, options)
      : new LocalForward(this.#client, options);
    const made = { key: keyOf(request), forward };
    const entry: Entry = {
      ...{ ...made, specification, since: new Date().toISOString() },
      ...{ holders: 0, grant: ++this.#lastGrant, opened: this.#open(made) },
    };
    this.#entries.set(entry.key, entry);
    return entry;
  }

  async #open(made: Pick<Entry, "key" | "forward">): Promise<void> {
    try {
      await made.forward.open();
    } catch (error) {
      await this.#end(made);
      throw error;
    }
    if (!this.#has(made)) throw new Error("The forward was closed meanwhile.");
    this.#client.enter();
  }

  #has({ key, forward }: Pick<Entry, "key" | "forward">): boolean {
    return this.#entries.get(key)?.forward === forward;
  }

  async #end(made: Pick<Entry, "key" | "forward">): Promise<void> {
    if (!this.#has(made)) return;
    this.#entries.delete(made.key);
    await made.forward.close();
    this.#client.leaveIfUnused();
  }

  /** As it was asked for, else by where it listens alone, be it at a port that was chosen. */
  #find({ kind, listen, connect }: ForwardSpecification): Entry | undefined {
    const exact = this.#entries.get(keyOf({ kind, listen, connect }));
    if (exact) return exact;
    const sameKind = [...this.#entries.values()].filter((it) => it.specification.kind === kind);
    return sameKind.find((it) => isSameEnd(it.specification.listen, listen)) ??
      sameKind.find(({ specification, forward }) => {
        const { listen: asked } = specification;
        return !("path" in asked) && !("path" in listen) && asked.host === listen.host &&
          forward.port === listen.port;
      });
  }

  #onOpen({ channelType, data }: ChannelOpen): Promise<OwnerOf> | undefined {
    switch (channelType) {
      case "forwarded-tcpip":
        return this.#receive(readPlace("tcpip", data));
      case "forwarded-streamlocal@openssh.com":
        return this.#receive(readPlace("streamlocal", data));
      default:
        return undefined;
    }
  }

  async #receive(place: Place): Promise<OwnerOf> {
    for (;;) {
      const granted: { forward: RemoteForward; grant: number; place: Place }[] = [];
      const awaited: Promise<void>[] = [];
      for (const { forward, grant, opened } of this.#entries.values()) {
        if (!(forward instanceof RemoteForward)) continue;
        if (forward.place) granted.push({ forward, grant, place: forward.place });
        else awaited.push(opened.catch(() => {/* Whoever asked for it is told. */}));
      }
      const found = findNewest(granted, place);
      if (found) return await found.forward.receive();
      if (awaited.length === 0) throw new Error("nothing was asked to be forwarded");
      // The grant may have come just before, and is not known here yet.
      await Promise.race(awaited);
    }
  }

  /** Whoever listened on the remote host is gone; a new client listens for none of it. */
  #onLost(reason: string): void {
    for (const entry of this.#entries.values()) {
      if (!(entry.forward instanceof RemoteForward)) continue;
      const listen = describeEnd(entry.specification.listen);
      log.warn("remote forward {listen} has ended: {reason}", { listen, reason });
      void this.#end(entry);
    }
  }
}

function keyOf({ kind, listen, connect }: ForwardSpecification): string {
  return JSON.stringify([kind, listen, isDynamic({ kind, listen, connect }) ? null : connect]);
}

/** Whether each connection says by SOCKS where it leads: ssh's `-D`, and `-R` with a port alone. */
function isDynamic({ kind, connect }: ForwardSpecification): boolean {
  return kind === "dynamic" || (kind === "remote" && !("path" in connect) && connect.port === 0);
}

function isEmpty(end: ForwardEnd): boolean {
  return "path" in end ? end.path === "" : end.host === "" || end.port === 0;
}

function isSameEnd(one: ForwardEnd, two: ForwardEnd): boolean {
  return JSON.stringify(one) === JSON.stringify(two);
}

/** An end in words; a listener without a host is on loopback alone. */
function describeEnd(end: ForwardEnd): string {
  if ("path" in end) return displayText(end.path);
  const host = displayText(end.host) || "localhost";
  return host.includes(":") ? `[${host}]:${end.port}` : `${host}:${end.port}`;
}
