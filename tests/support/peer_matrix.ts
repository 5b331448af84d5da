/** The cells of `deno task peers`: one case of one peer, directly and through sshshim. */

import { startComparison, type Target } from "./both.ts";
import { within } from "./deadline.ts";
import { type PeerCase, peerCases, type PeerResult } from "./peer_cases.ts";
import type { Upstream } from "./shim.ts";

/** What a peer does in a case; a text says why it cannot. */
export type PeerAct = ((target: Target) => Promise<PeerResult>) | string;

/** One implementation in one role. */
export interface Peer {
  readonly name: string;
  readonly role: "client" | "server";
  /** Makes the peer's program. */
  prepare?: (() => Promise<unknown>) | undefined;
  act(peerCase: PeerCase): PeerAct;
  /** Starts the server of a case: the peer, or the one that it is a client of. */
  startServer(peerCase: PeerCase): Promise<PeerServer>;
  /** Further arguments for sshshim. */
  readonly shimArguments?: readonly string[];
  /** Throws when the server's log shows no second key exchange. */
  assertRekey?(server: PeerServer): void;
}

/** A server, and what it has said so far. */
export interface PeerServer extends Upstream, AsyncDisposable {
  readonly log?: { readonly text: string };
}

/** How a cell came out. */
export interface Cell {
  readonly verdict: "ok" | "FAIL" | "n/a";
  /** Why it is not `ok`. */
  readonly reason?: string;
  /** The last words of sshshim and the server. */
  readonly log?: string;
}

/** Makes sshshim begin a key exchange after few bytes. */
const earlyRekey = new URL("./early_rekey.ts", import.meta.url).pathname;

/** No cell takes longer, in milliseconds. */
const cellTimeoutMs = 240_000;

/** Runs one cell; it never throws. */
export async function runCell(peer: Peer, peerCase: PeerCase): Promise<Cell> {
  const act = peer.act(peerCase);
  if (typeof act === "string") return { verdict: "n/a", reason: act };
  // A server that does not start, and sshshim in front of it, are no inability of the peer.
  let isTrying = false;
  let hasWorked = false;
  let log: string | undefined;
  const attempt = async () => {
    await using server = await peer.startServer(peerCase);
    await using comparison = await startComparison(
      server,
      {
        arguments: ["-v", ...peer.shimArguments ?? []],
        ...(peerCase === "other rekey" ? { preload: earlyRekey } : {}),
      },
    );
    // Some clients take a type of host key without a look at known_hosts.
    const { hostKeys } = comparison.shim.banner;
    const lines = hostKeys.map(({ knownHostsLine }) => `${knownHostsLine}\n`);
    await Deno.writeTextFile(comparison.shim.knownHostsFile, lines.join(""));
    isTrying = true;
    try {
      await comparison.compare(async (target) => {
        const result = await act(target);
        peerCases[peerCase](result);
        if (peerCase === "own rekey" && target.mode === "direct") peer.assertRekey?.(server);
        hasWorked ||= target.mode === "direct";
        if (peerCase === "other rekey" && target.mode === "shim") {
          await comparison.shim.log.waitFor(/early rekey/, { timeoutMs: 10_000 });
        }
        return result;
      }, { inTurn: true });
    } catch (error) {
      log = lastWords(comparison.shim.log.text, server.log?.text ?? "");
      throw error;
    }
  };
  try {
    await within(attempt(), "The cell has not ended", cellTimeoutMs);
    return { verdict: "ok" };
  } catch (error) {
    const reason = describe(error);
    return hasWorked || !isTrying
      ? { verdict: "FAIL", reason, ...(log === undefined ? {} : { log }) }
      : { verdict: "n/a", reason: `it fails directly: ${reason}` };
  }
}

function lastWords(shim: string, server: string): string {
  const messages = shim.trim().split("\n").map(messageOf).filter((line) => line !== undefined);
  return [
    ...["sshshim's last words:", ...messages.slice(-12)],
    ...["the server's last words:", ...server.trim().split("\n").slice(-12)],
  ].join("\n");
}

/** The message of a line of the log, if it is one of the connection's. */
function messageOf(line: string): string | undefined {
  try {
    const { category, message } = JSON.parse(line);
    return category === "sshshim.config" ? undefined : message;
  } catch {
    return line;
  }
}

/** An error with its causes, in a few lines. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const message = error.message.slice(0, 1500);
  return error.cause === undefined ? message : `${message} ${describe(error.cause)}`;
}

/** The table: a line per peer, a column per case. */
export function formatTable(rows: readonly { peer: Peer; cells: Map<PeerCase, Cell> }[]): string {
  const names = Object.keys(peerCases) as PeerCase[];
  const lines = rows.map(({ peer, cells }) => [
    `${peer.role} ${peer.name}`,
    ...names.map((name) => cells.get(name)?.verdict ?? ""),
  ]);
  const table = [["", ...names], ...lines];
  const widths = table[0]!.map((_, column) =>
    Math.max(...table.map((line) => line[column]!.length))
  );
  return table.map((line) =>
    line.map((word, column) => word.padEnd(widths[column]!)).join("  ").trimEnd()
  ).join("\n");
}
