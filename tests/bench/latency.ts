/** How long a command and a terminal take from the start of ssh, the farther the host is. */

import { startProxy } from "../support/proxy.ts";
import { connect, readExactly, startEcho, tcpAddress, writeAll } from "../support/services.ts";
import { type Family, type FamilyOptions, inTurn, median, type Row, rowOf } from "./rows.ts";
import { startWays, timeExec, type Way } from "./ways.ts";

const roundTripsMs = [0, 20, 100, 200];

export const latency: Family = {
  name: "latency",
  about: "From the start of ssh to the end of `true`, and to the first output of a shell at a " +
    "terminal. The host is behind a proxy that delays each byte. Round trips: what the delay adds " +
    "to the time, divided by it.",
  measure,
};

async function* measure({ isQuick }: FamilyOptions): AsyncGenerator<Row> {
  const near = new Map<string, Row>();
  for (const nominalMs of roundTripsMs) {
    const link = { delayMs: nominalMs / 2 };
    await using ways = await startWays(link);
    const rounds = isQuick ? 3 : nominalMs === 0 ? 30 : 10;
    const addedMs = await measureRoundTrip(link.delayMs);
    for (const [what, time] of [["exec", timeExec], ["terminal", timeTerminal]] as const) {
      const row = rowOf(
        `${what}, ${nominalMs} ms away`,
        "ms",
        await inTurn(ways.all, rounds, time),
        Number,
      );
      yield row;
      if (nominalMs === 0) near.set(what, row);
      else yield roundTrips(row, near.get(what)!, addedMs);
    }
  }
}

/** A row that says how many round trips a row is beyond the one without delay. */
function roundTrips(far: Row, near: Row, addedMs: number): Row {
  const samples: Row["samples"] = {};
  for (const name of Object.keys(far.samples) as (keyof Row["samples"])[]) {
    samples[name] = [(median(far.samples[name]!) - median(near.samples[name]!)) / addedMs];
  }
  return { what: `${far.what}: beyond 0 ms`, unit: "round trips", samples };
}

/** What such a delay really adds to a round trip, timers included, in milliseconds. */
async function measureRoundTrip(delayMs: number): Promise<number> {
  const times: number[] = [];
  for (const delay of [0, delayMs]) {
    await using echo = startEcho();
    const target = { hostname: "127.0.0.1", port: echo.port };
    await using proxy = await startProxy({ target, delayMs: delay });
    using connection = await connect(tcpAddress(proxy.port));
    const samples: number[] = [];
    for (let round = 0; round < 11; round++) {
      const start = performance.now();
      await writeAll(connection, Uint8Array.of(round));
      await readExactly(connection, 1);
      samples.push(performance.now() - start);
    }
    times.push(median(samples));
  }
  return times[1]! - times[0]!;
}

/** How long it takes until a terminal shows something, in milliseconds. */
async function timeTerminal({ target }: Way): Promise<number> {
  const start = performance.now();
  await using ssh = target.startSsh(undefined, { options: ["-tt"] });
  await ssh.stdout.waitFor(/[^]/);
  return performance.now() - start;
}
