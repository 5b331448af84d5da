/**
 * Measures what the shim costs: against plain ssh, and against ControlMaster, ssh's own way to
 * share a connection. All three run in turn against the same OpenSSH server on loopback. Requests
 * through `ssh -D` are measured as well, as a browser makes them: each on a channel of its own.
 *
 *     deno task bench [MEGABYTES]
 *
 * The figures depend on the machine and on what else it does; the ratios less so.
 */

import { clientEnvironment, makeTarget, type Target } from "./support/both.ts";
import { run, runChecked, RunningProcess, text } from "./support/run.ts";
import { startShim } from "./support/shim.ts";
import { freePort } from "./support/ports.ts";
import { startService, tcpAddress, writeAll } from "./support/services.ts";
import { exchangeBySocks } from "./support/socks.ts";
import { startSshd } from "./support/sshd.ts";

const defaultMegabytes = 500;
const transferRounds = 3;
const latencyRounds = 20;
const timeoutMs = 300_000;
const requestRounds = 5;
const requestCount = 2000;
const requestsAtOnce = [200, 20];
const page = new Uint8Array(20_000);

/** One of the ways to the server. */
interface Way {
  name: string;
  target: Target;
  /** Options of ssh that make this the way. */
  options: string[];
}

/** What was measured of one way. */
interface Figures {
  name: string;
  downMBps: number;
  upMBps: number;
  latencyMs: number;
}

/** What the shim's process used. */
interface Usage {
  cpuSeconds: number;
  residentMB: number;
  peakResidentMB: number;
}

/**
 * Reads standard input to its end and prints when the first byte and the end came, in nanoseconds:
 * neither the start of ssh nor its handshake counts.
 */
const stopwatch = "head -c 1 >/dev/null; date +%s%N; cat >/dev/null; date +%s%N";

/** Sends zeros down, from the server to us; resolves with MB (10^6 bytes) per second. */
async function measureDown({ target, options }: Way, megabytes: number): Promise<number> {
  const ssh = target.sshCommand(`head -c ${megabytes}000000 /dev/zero`, options);
  const result = await run(["/bin/sh", "-c", `"$@" | { ${stopwatch}; }`, "sh", ...ssh], {
    environment: target.environment,
    timeoutMs,
  });
  return rate(result, megabytes);
}

/** Sends zeros up, from us to the server; resolves with MB (10^6 bytes) per second. */
async function measureUp({ target, options }: Way, megabytes: number): Promise<number> {
  const ssh = target.sshCommand(stopwatch, options);
  const zeros = `head -c ${megabytes}000000 /dev/zero`;
  const result = await run(["/bin/sh", "-c", `${zeros} | "$@"`, "sh", ...ssh], {
    environment: target.environment,
    timeoutMs,
  });
  return rate(result, megabytes);
}

function rate(result: { stdout: Uint8Array; stderr: Uint8Array }, megabytes: number): number {
  const [first, end] = text(result.stdout).trim().split("\n").map(BigInt);
  if (first === undefined || end === undefined) throw new Error(text(result.stderr));
  return megabytes / (Number(end - first) / 1e9);
}

/** How long `ssh host true` takes from its start to its end, in milliseconds. */
async function measureLatency({ target, options }: Way): Promise<number> {
  const start = performance.now();
  await runChecked(target.sshCommand("true", options), { environment: target.environment });
  return performance.now() - start;
}

/** How long requests through a SOCKS server take, so many at a time, in milliseconds. */
async function measureRequests(socksPort: number, atOnce: number): Promise<number> {
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

/** Has each way lead requests, so many at a time; the rows below each other. */
async function requestTable(ways: readonly Way[]): Promise<string> {
  await using proxies = new AsyncDisposableStack();
  const ports = new Map<Way, number>();
  for (const way of ways) {
    const port = freePort();
    const options = [...way.options, "-v", "-N", "-D", `127.0.0.1:${port}`];
    const proxy = proxies.use(new RunningProcess(way.target.sshCommand(undefined, options)));
    await proxy.stderr.waitFor(/Entering interactive session/);
    ports.set(way, port);
  }
  const columns: string[][] = [["", ...ways.map(({ name }) => name)]];
  for (const atOnce of requestsAtOnce) {
    const [plain, ...others] = await inTurn(
      ways,
      requestRounds,
      (way) => measureRequests(ports.get(way)!, atOnce),
    );
    const cells = [plain!, ...others].map((value) => cell(value, "ms", plain!));
    columns.push([`${requestCount} requests, ${atOnce} at once`, ...cells]);
  }
  return columns[0]!.map((_, row) =>
    columns.map((column, index) => column[row]!.padEnd(index === 0 ? 14 : 29)).join("  ").trimEnd()
  ).join("\n");
}

/** What a process has used so far (proc(5)). */
async function readUsage(pid: number): Promise<Usage> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  // The name, which may hold spaces, ends with the last parenthesis; state is the next field.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticksPerSecond = Number(await runChecked(["getconf", "CLK_TCK"]));
  const megabytes = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) * 1024 / 1e6;
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / ticksPerSecond,
    residentMB: megabytes("VmRSS"),
    peakResidentMB: megabytes("VmHWM"),
  };
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
}

/** Measures each way `rounds` times, in turn, so that what disturbs the machine disturbs all. */
async function inTurn(
  ways: readonly Way[],
  rounds: number,
  measure: (way: Way) => Promise<number>,
): Promise<number[]> {
  const values: number[][] = ways.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [index, way] of ways.entries()) values[index]!.push(await measure(way));
  }
  return values.map(median);
}

function cell(value: number, unit: string, reference: number): string {
  return `${value.toFixed(0)} ${unit}`.padStart(10) +
    ` (${(value / reference).toFixed(2)})`.padEnd(9);
}

/** The rows below each other, with what each figure is of plain ssh's. */
function table(figures: readonly Figures[]): string {
  const [plain] = figures;
  const head = ["".padEnd(14), "down".padEnd(19), "up".padEnd(19), "ssh host true"].join("  ");
  const rows = figures.map(({ name, downMBps, upMBps, latencyMs }) =>
    [
      name.padEnd(14),
      cell(downMBps, "MB/s", plain!.downMBps),
      cell(upMBps, "MB/s", plain!.upMBps),
      cell(latencyMs, "ms", plain!.latencyMs),
    ].join("  ").trimEnd()
  );
  return [head, ...rows].join("\n");
}

async function main(): Promise<void> {
  if (Deno.build.os !== "linux") throw new Error("The bench reads /proc: it needs Linux.");
  const megabytes = Number(Deno.args[0] ?? defaultMegabytes);
  if (!Number.isInteger(megabytes) || megabytes < 1) throw new Error("MEGABYTES is no number.");

  await using sshd = await startSshd();
  await using shim = await startShim(sshd);
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir();
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const facts = { keyFile: sshd.keyFile, username: sshd.username, folder };
  const environment = clientEnvironment(folder);
  const direct = makeTarget({ ...facts, ...placeOf(sshd), mode: "direct", environment });
  const through = makeTarget({ ...facts, ...placeOf(shim), mode: "shim", environment });

  const share = ["-S", `${folder}/master`];
  await using master = new RunningProcess(
    direct.sshCommand(undefined, ["-v", "-M", "-N", ...share]),
  );
  await master.stderr.waitFor(/Entering interactive session/);
  const ways: Way[] = [
    { name: "ssh", target: direct, options: [] },
    { name: "ControlMaster", target: direct, options: share },
    { name: "sshshim", target: through, options: [] },
  ];

  console.log(
    `${megabytes} MB of zeros, median of ${transferRounds}; "ssh host true", median of ` +
      `${latencyRounds}; in parentheses the ratio to plain ssh\n`,
  );
  const latencies = await inTurn(ways, latencyRounds, measureLatency);
  const before = await readUsage(shim.pid);
  const down = await inTurn(ways, transferRounds, (way) => measureDown(way, megabytes));
  const up = await inTurn(ways, transferRounds, (way) => measureUp(way, megabytes));
  const after = await readUsage(shim.pid);

  console.log(table(ways.map(({ name }, index) => ({
    name,
    downMBps: down[index]!,
    upMBps: up[index]!,
    latencyMs: latencies[index]!,
  }))));
  console.log(`\n${await requestTable(ways.filter(({ name }) => name !== "ControlMaster"))}`);
  const relayedGB = 2 * transferRounds * megabytes / 1000;
  const cpuPerGB = (after.cpuSeconds - before.cpuSeconds) / relayedGB;
  console.log(
    `\nsshshim's process: ${cpuPerGB.toFixed(1)} s of CPU per GB relayed; resident memory ` +
      `${before.residentMB.toFixed(0)} MB before,\n${after.residentMB.toFixed(0)} MB after, ` +
      `${after.peakResidentMB.toFixed(0)} MB at most`,
  );
}

function placeOf(
  { host, port, knownHostsFile }: { host: string; port: number; knownHostsFile: string },
): { host: string; port: number; knownHostsFile: string } {
  return { host, port, knownHostsFile };
}

await main();
