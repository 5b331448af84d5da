/**
 * Floods the program from upstream, and looks at its memory and at how long a bystander waits:
 *
 *     deno task flood [KIND ...]
 */

import { floodKinds } from "./support/flooding_server.ts";
import { buildMessage } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { RawClient } from "./support/raw_client.ts";
import { RunningProcess } from "./support/run.ts";
import { startShimProcess } from "./support/shim_process.ts";

/** How long each flood lasts, and how often the bystander asks for a sign of life, in milliseconds. */
const floodMs = 12_000;
const pauseMs = 20;

const serverProgram = new URL("support/flooding_server.ts", import.meta.url).pathname;

interface Result {
  /** Resident memory before the flood, and the most during it, in MB. */
  idle: number;
  peak: number;
  /** How long the bystander waited for each answer, in milliseconds, the longest last. */
  waits: number[];
  /** How the program's connection upstream fared. */
  words: string;
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
    const target = { port: shim.port, username: "somebody" } as never;
    await using victim = await RawClient.connect(target);
    await using bystander = await RawClient.connect(target);
    if (kind === "opens") {
      victim.send(MessageType.globalRequest, "tcpip-forward", true, "127.0.0.1", 4022);
      await victim.receive(MessageType.requestSuccess);
    }
    const session = await victim.openSession();
    const idle = await resident(shim.process.pid);
    victim.request(session.channel, "exec", "flood");
    await victim.receive(MessageType.channelSuccess);
    if (kind === "opens" || kind === "channel-requests") victim.stall();
    else victim.takeData(() => {});
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
    const words = shim.process.stderr.text.split("\n").slice(-4).join("\n");
    return { idle, peak, waits: waits.sort((one, other) => one - other), words };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function resident(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/VmRSS:\s*(\d+) kB/.exec(status)![1]) / 1024;
}

const kinds = Deno.args.length > 0 ? Deno.args : floodKinds;
for (const kind of kinds) {
  const { idle, peak, waits, words } = await flood(kind);
  const at = (share: number) => waits[Math.floor(share * (waits.length - 1))]!.toFixed(0);
  console.log(
    `${kind.padEnd(18)} ${(peak - idle).toFixed(0).padStart(5)} MB over ${idle.toFixed(0)}; ` +
      `a bystander waited ${at(0.5)} ms, at most ${at(1)} (${waits.length} times)`,
  );
  if (Deno.env.has("VERBOSE")) console.log(words);
}
void buildMessage;
