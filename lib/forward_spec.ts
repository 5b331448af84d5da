/** What follows ssh's `-L`, `-R` and `-D`, as ssh reads it. */

import { resolve } from "node:path";
import type { ForwardEnd, ForwardRequest } from "./control_messages.ts";
import { utf8String } from "./ssh_data.ts";

/** A forward that was written as for ssh. */
export type ForwardSpec = Pick<ForwardRequest, "kind" | "listen" | "connect">;

/** One part of it: a path where there is a slash. */
type Part = { path: string } | { text: string };

/** Leads nowhere by itself. */
const nowhere: ForwardEnd = { host: "", port: 0 };

/**
 * Reads one; relative paths of sockets on this machine begin at the working folder.
 *
 * @returns `undefined` where it is not understood.
 */
export function parseForwardSpec(
  kind: ForwardSpec["kind"],
  text: string,
): ForwardSpec | undefined {
  const parts = partsOf(text);
  if (parts === undefined) return undefined;
  for (const count of [1, 2] as const) {
    const listen = endOf(parts.slice(0, count), { listens: true, isHere: kind !== "remote" });
    if (listen === undefined) continue;
    const rest = parts.slice(count);
    if (rest.length === 0 && kind !== "local" && !("path" in listen)) {
      return { kind, listen, connect: nowhere };
    }
    if (kind === "dynamic") continue;
    const connect = endOf(rest, { listens: false, isHere: kind === "remote" });
    if (connect !== undefined) return { kind, listen, connect };
  }
  return undefined;
}

/** The parts between colons; brackets and backslashes keep those that are none. */
function partsOf(text: string): Part[] | undefined {
  const parts: Part[] = [];
  let rest = text;
  for (;;) {
    const [whole, bracketed, plain] = /^(?:\[([^\]]*)\]|((?:\\.|[^:\\])*))/.exec(rest)!;
    const value = bracketed ?? plain!.replace(/\\(.)/g, "$1");
    parts.push(bracketed === undefined && value.includes("/") ? { path: value } : { text: value });
    rest = rest.slice(whole.length);
    if (rest === "") return parts;
    if (!rest.startsWith(":")) return undefined;
    rest = rest.slice(1);
  }
}

/** `PATH`, `PORT` of a listener, or `HOST:PORT`. */
function endOf(
  parts: readonly Part[],
  { listens, isHere }: { listens: boolean; isHere: boolean },
): ForwardEnd | undefined {
  const [first, second] = parts;
  if (first === undefined || parts.length > 2) return undefined;
  if ("path" in first) {
    if (second !== undefined) return undefined;
    return { path: utf8String(isHere ? resolve(first.path) : first.path) };
  }
  if (second === undefined) {
    const port = listens ? portOf(first, 0) : undefined;
    return port === undefined ? undefined : { host: "", port };
  }
  const port = portOf(second, listens ? 0 : 1);
  if (port === undefined || (!listens && first.text === "")) return undefined;
  // An empty address is every one.
  return { host: utf8String(listens && first.text === "" ? "*" : first.text), port };
}

function portOf(part: Part, least: number): number | undefined {
  if ("path" in part || !/^\d{1,5}$/.test(part.text)) return undefined;
  const port = Number(part.text);
  return port >= least && port <= 65_535 ? port : undefined;
}
