/** Short connections through `ssh -D`, as a browser makes them: each on a channel of its own. */

import { freePort, isListening } from "../support/ports.ts";
import { waitUntil } from "../support/processes.ts";
import { RunningProcess } from "../support/run.ts";
import { startService, tcpAddress, writeAll } from "../support/services.ts";
import { exchangeBySocks } from "../support/socks.ts";
import { type Family, type FamilyOptions, inTurn, type Row, rowOf } from "./rows.ts";
import { startWays } from "./ways.ts";

const requestCount = 2000;
const page = new Uint8Array(20_000);

export const requests: Family = {
  name: "requests",
  about: `${requestCount} connections through \`-D\`, which get ${page.length} bytes each.`,
  measure,
};

async function* measure({ isQuick }: FamilyOptions): AsyncGenerator<Row> {
  await using ways = await startWays();
  await using proxies = new AsyncDisposableStack();
  const ends = [];
  for (const { name, target } of ways.all) {
    const port = freePort();
    const options = ["-N", "-D", `127.0.0.1:${port}`];
    proxies.use(
      new RunningProcess(target.sshCommand(undefined, options), {
        environment: target.environment,
      }),
    );
    await waitUntil(`-D by ${name}`, () => isListening(port));
    ends.push({ name, port });
  }
  for (const atOnce of [20, 200]) {
    const samples = await inTurn(ends, isQuick ? 1 : 5, ({ port }) => timeRequests(port, atOnce));
    yield rowOf(`${requestCount} requests, ${atOnce} at once`, "ms", samples, Number);
  }
}

/** How long requests through a SOCKS server take, so many at a time, in milliseconds. */
async function timeRequests(socksPort: number, atOnce: number): Promise<number> {
  await using server = startService((connection) => writeAll(connection, page));
  const destination = { host: "127.0.0.1", port: server.port };
  let left = requestCount;
  const keepAsking = async () => {
    while (left-- > 0) {
      const answer = await exchangeBySocks(tcpAddress(socksPort), destination, "GET /");
      if (answer.length !== page.length) throw new Error(`a page of ${answer.length} bytes`);
    }
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: atOnce }, keepAsking));
  return performance.now() - start;
}
