/** How long a typed character takes to be shown while a transfer fills the link to the host. */

import type { Direction } from "../support/proxy.ts";
import { RunningProcess } from "../support/run.ts";
import { hasOwnNetwork, limitBuffers } from "./network.ts";
import { pause } from "./processes.ts";
import { type Family, type FamilyOptions, quantile, type Row, type WayName } from "./rows.ts";
import { startWays, type Way, type Ways } from "./ways.ts";

/** A link's rate, in each direction, and how long a round trip takes when nothing else is there. */
const links = [
  { megabytesPerSecond: 2, roundTripMs: 40 },
  { megabytesPerSecond: 20, roundTripMs: 10 },
];

/** What else is on the link. */
const loads = ["nothing", "upload", "download"] as const;
type Load = typeof loads[number];

export const keystrokes: Family = {
  name: "keystrokes",
  about:
    "From a character typed to its echo by the host's terminal, while a transfer runs by the " +
    "same way, and which share of the link's rate the transfer gets. The link's queue holds what " +
    "it carries in one round trip, and the sender's kernel twice that.",
  measure,
};

async function* measure({ isQuick }: FamilyOptions): AsyncGenerator<Row> {
  if (!hasOwnNetwork()) {
    throw new Error("Keystrokes are measured as root, in a network of its own.");
  }
  for (const { megabytesPerSecond, roundTripMs } of links) {
    const bytesPerSecond = megabytesPerSecond * 1e6;
    const delayMs = roundTripMs / 2;
    const roundTripBytes = bytesPerSecond * roundTripMs / 1000;
    await using _buffers = await limitBuffers(2 * roundTripBytes);
    await using ways = await startWays({
      delayMs,
      bytesPerSecond,
      // What is under way, and what waits in the router.
      queueBytes: 1.5 * roundTripBytes,
    });
    for (const load of loads) {
      const what = `${megabytesPerSecond} MB/s, ${roundTripMs} ms, beside ${load}`;
      const middle: Row = { what: `${what}: p50`, unit: "ms", samples: {} };
      const late: Row = { what: `${what}: p95`, unit: "ms", samples: {} };
      const share: Row = { what: `${what}: its share of the link`, unit: "%", samples: {} };
      for (const way of ways.all) {
        const { echoesMs, rate } = await typeBeside(way, ways, { load, count: isQuick ? 12 : 50 });
        middle.samples[way.name] = echoesMs;
        late.samples[way.name] = [quantile(echoesMs, 0.95)];
        share.samples[way.name] = [100 * rate / bytesPerSecond];
      }
      yield* load === "nothing" ? [middle, late] : [middle, late, share];
    }
  }
}

/** The time of each echo in milliseconds, and the bytes a second that pass meanwhile. */
async function typeBeside(
  { name, target }: Way,
  { link }: Ways,
  { load, count }: { load: Load; count: number },
): Promise<{ echoesMs: number[]; rate: number }> {
  await using terminal = target.startSsh("cat", { options: ["-tt"] });
  await echo(terminal, name);
  await using _transfer = load === "nothing" ? undefined : startTransfer(target, load);
  // The transfer has taken what room there is.
  await pause(load === "nothing" ? 0 : 3000);
  const direction: Direction = load === "upload" ? "toTarget" : "toClient";
  const bytesBefore = link!.passedBytes[direction];
  const start = performance.now();
  const echoesMs: number[] = [];
  for (let index = 0; index < count; index++) {
    echoesMs.push(await echo(terminal, name));
    // As a fast typist, and never in step with anything.
    await pause(50 + Math.random() * 50);
  }
  const seconds = (performance.now() - start) / 1000;
  return { echoesMs, rate: (link!.passedBytes[direction] - bytesBefore) / seconds };
}

/** Types one character and waits for its echo; how long that took, in milliseconds. */
async function echo(terminal: RunningProcess, name: WayName): Promise<number> {
  const from = terminal.stdout.text.length;
  const start = performance.now();
  await terminal.write("x");
  await terminal.stdout.waitFor(/x/, { from }).catch((cause) => {
    throw new Error(`${name}: no echo. ${terminal.stderr.text}`, { cause });
  });
  return performance.now() - start;
}

function startTransfer(target: Way["target"], load: "upload" | "download"): RunningProcess {
  const [command, script] = load === "upload"
    ? ["cat >/dev/null", 'exec "$@" </dev/zero']
    : ["cat /dev/zero", 'exec "$@"'];
  return new RunningProcess(["/bin/sh", "-c", script, "sh", ...target.sshCommand(command)], {
    environment: target.environment,
    discardStdout: true,
  });
}
