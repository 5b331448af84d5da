/** How long it takes until sshshim can be used: at its start, and when the network has failed. */

import { startShim } from "../support/shim.ts";
import { type Family, type FamilyOptions, inTurn, type Row, rowOf } from "./rows.ts";
import { startWays, type Ways } from "./ways.ts";

/** How far away the second host is: a round trip, in milliseconds. */
const farMs = 100;

export const start: Family = {
  name: "start",
  about: "From the start of the program, run by Deno from its source, to its port's being there. " +
    "And from a cut of the connection, after which `ssh HOST echo` is run at once, to its output; " +
    "in the second line the host is behind a proxy that delays each byte.",
  measure,
};

async function* measure({ isQuick }: FamilyOptions): AsyncGenerator<Row> {
  await using ways = await startWays({});
  const rounds = isQuick ? 3 : 10;
  const { sshd } = ways;
  const starts = await inTurn([{ name: "port" } as const], rounds, async () => {
    const began = performance.now();
    await using _shim = await startShim(sshd);
    return performance.now() - began;
  });
  yield rowOf("start to listening", "ms", starts, Number);

  yield await measureReturns(ways, { what: "reconnect to first byte", rounds });
  await using far = await startWays({ delayMs: farMs / 2 });
  const what = `reconnect to first byte, ${farMs} ms away`;
  yield await measureReturns(far, { what, rounds });
}

/** Cuts the connection, and runs a command at once. */
async function measureReturns(
  ways: Ways,
  { what, rounds }: { what: string; rounds: number },
): Promise<Row> {
  const samples: Row["samples"] = { ssh: [], port: [], lane: [] };
  for (let round = 0; round < rounds; round++) {
    for (const { name, target } of ways.all) {
      // It ends with its connection.
      if (name === "ControlMaster") continue;
      const from = ways.shim.log.text.length;
      const began = performance.now();
      ways.link!.cutAll("rst");
      await using ssh = target.startSsh("echo there");
      await ssh.stdout.waitFor(/there/);
      samples[name]!.push(performance.now() - began);
      // The next cut is one of a connection that is there.
      await ways.shim.log.waitFor(/"message":"connected to/, { from });
    }
  }
  return { what, unit: "ms", samples };
}
