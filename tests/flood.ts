/**
 * Floods the program from upstream, and looks at its memory and at how long a bystander waits:
 *
 *     deno task flood [KIND ...]
 */

import { floodKinds } from "./support/flooding_server.ts";
import { MessageType } from "../lib/wire.ts";
import { RawClient } from "./support/raw_client.ts";
import { RunningProcess } from "./support/run.ts";
import { startShimProcess } from "./support/shim_process.ts";

/** How long each flood lasts, and how often the bystander asks for a sign of life, in milliseconds. */
const floodMs = 12_000;
const pauseMs = 20;

const serverProgram = new URL("support/flooding_server.ts", import.meta.url).pathname;

/** Of these the client takes what comes; of all others it reads nothing. */
const readingKinds = ["small-data"];

interface Result {
  /** Resident memory before the flood, and the most during it, in MB. */
  idle: number;
  peak: number;
  /** How long the bystander waited for each answer, in milliseconds, the longest last. */
  waits: number[];
}

async function flood(kind: string): Promise<Result> {
  await using server = new RunningProcess([Deno.execPath(), "run", "-A", serverProgram, kind]);
  const [line] = await server.stdout.waitFor(/^\{.*\}$/m);
  const { port, key } = JSON.parse(line);
  const folder = await Deno.makeTempDir({ prefix: "flood-" });
  try {
    await Deno.writeTextFile(`${folder}/known_hosts`, `[127.0.0.1]:${port} ${key}\n`);
    await using shim = await startShimProcess({
      arguments: ["--known-hosts", `${folder}/known_hosts`, `somebody@127.0.0.1:${port}`],
      hasTerminal: false,
    });
    const target = { port: shim.port, username: "somebody" };
    await using victim = await RawClient.connect(target);
    await using bystander = await RawClient.connect(target);
    if (kind === "opens") {
      victim.send(MessageType.globalRequest, "tcpip-forward", true, "127.0.0.1", 4022);
      await victim.receive(MessageType.requestSuccess);
    }
    const idle = await resident(shim.process.pid);
    await using reader = readingKinds.includes(kind)
      ? startReader(shim.port, shim.knownHostsFile)
      : undefined;
    if (reader === undefined) {
      const session = await victim.openSession();
      victim.request(session.channel, "exec", "flood");
      await victim.receive(MessageType.channelSuccess);
      victim.stall();
    }
    let peak = 0;
    const waits: number[] = [];
    const endsAt = performance.now() + floodMs;
    while (performance.now() < endsAt) {
      const askedAt = performance.now();
      bystander.send(MessageType.globalRequest, "keepalive@openssh.com", true);
      await bystander.receive(MessageType.requestFailure);
      waits.push(performance.now() - askedAt);
      peak = Math.max(peak, await resident(shim.process.pid));
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    return { idle, peak, waits: waits.sort((one, other) => one - other) };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** A client that takes all that comes; a program of its own, so that it does not hold up ours. */
function startReader(port: number, knownHostsFile: string): RunningProcess {
  return new RunningProcess([
    ...["ssh", "-F", "none", "-o", `UserKnownHostsFile=${knownHostsFile}`, "-p", `${port}`],
    ...["somebody@127.0.0.1", "flood"],
  ], { discardStdout: true });
}

async function resident(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/VmRSS:\s*(\d+) kB/.exec(status)![1]) / 1024;
}

const kinds = Deno.args.length > 0 ? Deno.args : floodKinds;
for (const kind of kinds) {
  const { idle, peak, waits } = await flood(kind);
  const at = (share: number) => waits[Math.floor(share * (waits.length - 1))]!.toFixed(0);
  console.log(
    `${kind.padEnd(18)} ${(peak - idle).toFixed(0).padStart(5)} MB over ${idle.toFixed(0)}; ` +
      `a bystander waited ${at(0.5)} ms, at most ${at(1)} (${waits.length} times)`,
  );
}
