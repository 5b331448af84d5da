/**
 * What is asked of a running shim by requests of our own at its control socket. A request is an object
 * of JSON whose `request` says which it is, and so is each answer; PROTOCOL.md has them all. What a
 * later version adds to a request is passed over.
 */

import type { Answer } from "./control_connection.ts";
import type { ListedForward } from "./control_forwards.ts";
import { informationOf } from "./control_information.ts";
import { logger } from "./log.ts";
import { logMemory } from "./log_memory.ts";
import type { RelayStatus } from "./relay_status.ts";
import { shownText } from "./shown_text.ts";
import { displayText } from "./ssh_data.ts";
import type { StateWatch, WatchedUpstream } from "./state_watch.ts";
import type { RoundTripStatus, ShimStatus } from "./status.ts";
import { within } from "./timing.ts";

const log = logger("control");

/** How long a host may take to answer whoever asks for a status, in milliseconds. */
const roundTripTimeoutMs = 2000;

/** How much of the log may be on its way to a client before lines are left out, in bytes. */
const mostUntakenLogBytes = 256 * 1024;

/** What an ended client is told. */
const farewell = "ended by sshshim kill";

/** The host that is steered. */
export interface SteeredHost {
  /** By which the log calls it. */
  name: string;
  status(options: { findsPrograms: boolean }): Promise<ShimStatus>;
  measureRoundTrip(): Promise<RoundTripStatus | undefined>;
  upstream: WatchedUpstream;
  states: StateWatch;
  /** Drops the connection and makes a new one. @throws {Error} */
  reconnect(): void;
  stop(): void;
  clients(): RelayStatus["clients"];
  forwards(): ListedForward[];
}

/** A request and what belongs to it. */
interface Asked {
  fields: Record<string, unknown>;
  answer: Answer;
  signal: AbortSignal;
}

type Handler = (host: SteeredHost, asked: Asked) => Promise<unknown> | unknown;

/** What each request does; what it returns is the last answer. */
const handlers: Record<string, Handler> = {
  async status(host, { fields }) {
    if (flag(fields, "measures", true)) await within(roundTripTimeoutMs, host.measureRoundTrip());
    return await host.status({ findsPrograms: flag(fields, "findsPrograms", true) });
  },
  stop(host) {
    host.stop();
    return {};
  },
  reconnect(host) {
    host.reconnect();
    return {};
  },
  async wait({ states, upstream }, { signal }) {
    await states.whenReady(upstream, signal);
    return { state: "ready" };
  },
  kill(host, { fields }) {
    const { client } = fields;
    if (!Number.isSafeInteger(client)) {
      throw new Error('"client" has to be the number of a client.');
    }
    const found = host.clients().filter(({ about }) => about.id === client);
    if (found.length === 0) throw new Error(`There is no client ${client}.`);
    log.info("client {client} is ended by a request for it", { client });
    for (const { end } of found) end(farewell);
    return { client };
  },
  forwards: (host) => ({ forwards: host.forwards() }),
  logs({ name }, { fields, answer, signal }) {
    const lines = logMemory.linesOf(name);
    const first = { lines, droppedLines: 0 };
    if (!flag(fields, "follows", false)) return first;
    answer.send(JSON.stringify(first), { isLast: false });
    let droppedLines = 0;
    const stop = logMemory.follow(name, (line) => {
      if (answer.untakenBytes > mostUntakenLogBytes) {
        droppedLines++;
        return;
      }
      answer.send(JSON.stringify({ lines: [line], droppedLines }), { isLast: false });
      droppedLines = 0;
    });
    signal.addEventListener("abort", stop);
    return undefined;
  },
};

/** What ssh's own requests for information are answered. @throws {Error} where there is none. */
export async function inform(host: SteeredHost, name: string): Promise<string> {
  const text = informationOf(name, await host.status({ findsPrograms: false }));
  if (text === undefined) throw new Error("no such information");
  return text;
}

/** Does what a request asks for. @throws {Error} with the reason where it is refused. */
export async function onControlRequest(
  host: SteeredHost,
  text: string,
  { answer, signal }: Pick<Asked, "answer" | "signal">,
): Promise<void> {
  const fields = parseRequest(text);
  const name = fields.request as string;
  if (!Object.hasOwn(handlers, name)) {
    throw new Error(`There is no request "${shownText(name, 40)}" in this version.`);
  }
  const last = await handlers[name]!(host, { fields, answer, signal });
  if (last !== undefined) answer.send(JSON.stringify(last), { isLast: true });
}

function parseRequest(text: string): Record<string, unknown> {
  let request: unknown;
  try {
    request = JSON.parse(displayText(text));
  } catch {
    throw new Error("The request is no JSON.");
  }
  const isObject = typeof request === "object" && request !== null && !Array.isArray(request);
  if (!isObject || typeof (request as { request?: unknown }).request !== "string") {
    throw new Error('The request has to be an object with a "request" that is a text.');
  }
  return request as Record<string, unknown>;
}

function flag(fields: Record<string, unknown>, name: string, usual: boolean): boolean {
  const value = fields[name] ?? usual;
  if (typeof value !== "boolean") throw new Error(`"${name}" has to be true or false.`);
  return value;
}
