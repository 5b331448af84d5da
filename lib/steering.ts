/** What the subcommands do that see and steer shims that run. */

import type { Steering } from "./cli_steering.ts";
import type { ControlClient } from "./control_client.ts";
import type { ListedForward } from "./control_forwards.ts";
import { messageOf, NotRunningError, RefusedError } from "./errors.ts";
import type { ForwardSpec } from "./forward_spec.ts";
import { terminalColumns } from "./fold.ts";
import { logger } from "./log.ts";
import { meetShim, meetShims } from "./running_shims.ts";
import { escapeControls } from "./shown_text.ts";
import type { ShimStatus } from "./status.ts";
import { listText, statusText } from "./status_text.ts";
import { type Output, watch } from "./status_watch.ts";
import { join } from "./stream_join.ts";
import { schedule, within } from "./timing.ts";

const log = logger();

/** How long a shim may take for its end, and how often one is looked for that does not run yet, in ms. */
const endTimeoutMs = 10_000;
const lookIntervalMs = 200;

/** What a subcommand works with. */
export interface SteeringStreams {
  input: { read(buffer: Uint8Array): Promise<number | null> };
  output: Output;
}

/**
 * Does what a subcommand says.
 *
 * @throws {NotRunningError} where no such shim runs, or it does not answer.
 * @throws {RefusedError} where it refuses what it is asked for.
 * @throws {UsageError} where several shims could be meant.
 */
export async function steer(
  steering: Steering,
  { input, output }: SteeringStreams,
): Promise<void> {
  switch (steering.kind) {
    case "list":
      return await output.print(await listed(steering.isJson));
    case "stop":
      return await stop(steering, output);
    case "wait":
      return await wait(steering);
    default: {
      using shim = await meetShim(steering.name);
      return await steerOne(shim, steering, { input, output });
    }
  }
}

type OfOne = Exclude<Steering, { kind: "list" | "stop" | "wait" }>;

async function steerOne(
  shim: ControlClient,
  steering: OfOne,
  { input, output }: SteeringStreams,
): Promise<void> {
  switch (steering.kind) {
    case "status": {
      const { isJson } = steering;
      if (steering.watches) return await watch(shim, { isJson, output });
      const status = await shim.status();
      const columns = output.isTerminal ? terminalColumns() : undefined;
      return await output.print(isJson ? json(status) : statusText(status, { columns }));
    }
    case "reconnect":
      await shim.ask({ request: "reconnect" });
      return await whenReady(shim);
    case "kill":
      await shim.ask({ request: "kill", client: steering.client });
      return;
    case "forward":
      return await forward(shim, steering, output);
    case "logs":
      return await logs(shim, steering, output);
    case "connect": {
      const { local } = await shim.status({ full: false });
      // It is not needed any more, and has its place among the shim's clients.
      shim[Symbol.dispose]();
      using connection = await connectTo(local, shim.name);
      return await join(connection, { input, output });
    }
    default:
      return steering satisfies never;
  }
}

async function listed(isJson: boolean): Promise<string> {
  const clients = await meetShims((reason) => log.warn("{reason}", { reason }));
  const found = await Promise.all(clients.map(async (shim) => {
    using client = shim;
    try {
      const status = await client.status({ full: false });
      // One that ssh has no name for is called as its socket is.
      return status.local.sshNames.length > 0 ? status : { ...status, name: client.name };
    } catch (error) {
      log.warn("{reason}", { reason: messageOf(error) });
      return undefined;
    }
  }));
  const statuses = found.filter((status) => status !== undefined);
  if (isJson) return json(statuses);
  return statuses.length === 0 ? "No shim runs.\n" : listText(statuses);
}

async function stop(
  { name, all }: Extract<Steering, { kind: "stop" }>,
  output: Output,
): Promise<void> {
  const shims = all
    ? await meetShims((reason) => log.warn("{reason}", { reason }))
    : [await meetShim(name)];
  await Promise.all(shims.map(async (shim) => {
    using client = shim;
    await client.ask({ request: "stop" });
    let hasEnded = false;
    await within(endTimeoutMs, client.whenEnded.then(() => hasEnded = true));
    if (!hasEnded) {
      throw new NotRunningError(`${client.name} has been told to stop, and still runs.`);
    }
    await output.print(`${client.name} has ended.\n`);
  }));
  if (shims.length === 0) await output.print("No shim runs.\n");
}

async function wait(
  { name, timeoutMs }: Extract<Steering, { kind: "wait" }>,
): Promise<void> {
  const expired = Promise.withResolvers<void>();
  // Without a time, whoever does not run yet is not waited for.
  let mayLook = timeoutMs !== undefined;
  const cancel = timeoutMs === undefined ? () => {} : schedule(timeoutMs, () => {
    mayLook = false;
    expired.resolve();
  });
  try {
    using shim = await meetInTime(name, () => mayLook);
    const late = expired.promise.then(() => {
      throw new NotRunningError(`${shim.name} is not connected yet.`);
    });
    await Promise.race([whenReady(shim), late]);
  } finally {
    cancel();
  }
}

/** Looks for a shim until it is there, or may not look any more. */
async function meetInTime(
  name: string | undefined,
  mayLook: () => boolean,
): Promise<ControlClient> {
  for (;;) {
    try {
      return await meetShim(name);
    } catch (error) {
      if (!(error instanceof NotRunningError) || !mayLook()) throw error;
      await new Promise<void>((resolve) => schedule(lookIntervalMs, resolve));
    }
  }
}

/** @throws {NotRunningError} where its connection is not to be. */
async function whenReady(shim: ControlClient): Promise<void> {
  try {
    await shim.ask({ request: "wait" });
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    throw new NotRunningError(`${shim.name}: ${error.message}`, { cause: error });
  }
}

async function logs(
  shim: ControlClient,
  { follows }: Extract<Steering, { kind: "logs" }>,
  output: Output,
): Promise<void> {
  try {
    await shim.follow(
      { request: "logs", follows },
      (answer) => output.print(logText(answer)),
    );
  } catch (error) {
    // Its end is the end of its log, and no failure of whoever follows it.
    if (!follows || !(error instanceof NotRunningError)) throw error;
  }
}

async function forward(
  shim: ControlClient,
  { forwards, cancels, lists }: Extract<Steering, { kind: "forward" }>,
  output: Output,
): Promise<void> {
  for (const spec of forwards) {
    if (cancels) await shim.closeForward(spec);
    else await openForward(shim, spec, output);
  }
  if (!lists) return;
  const { forwards: all } = await shim.ask({ request: "forwards" }) as {
    forwards: ListedForward[];
  };
  await output.print(all.length === 0 ? "No forwards.\n" : all.map(forwardText).join(""));
}

async function openForward(
  shim: ControlClient,
  spec: ForwardSpec,
  output: Output,
): Promise<void> {
  const port = await shim.openForward(spec);
  if (port !== undefined) await output.print(`${port}\n`);
}

function forwardText({ kind, listen, connect, connections }: ListedForward): string {
  const option = { local: "-L", remote: "-R", dynamic: "-D" }[kind];
  const count = connections === 1 ? "1 connection" : `${connections} connections`;
  const text = `${option} ${listen} to ${connect ?? "wherever SOCKS says"}, ${count}`;
  return `${escapeControls(text)}\n`;
}

/** Lines of the log as they were, and how many could not be had before them. */
function logText(answer: unknown): string {
  const { lines, droppedLines } = answer as { lines: string[]; droppedLines: number };
  const dropped = droppedLines === 0 ? [] : [`(${droppedLines} lines were left out here)`];
  return [...dropped, ...lines.flatMap((line) => line.split("\n"))]
    .map((line) => `${escapeControls(line)}\n`).join("");
}

async function connectTo(
  { address, port }: ShimStatus["local"],
  name: string,
): Promise<Deno.TcpConn> {
  const hostname = address === "0.0.0.0" ? "127.0.0.1" : address === "::" ? "::1" : address;
  try {
    return await Deno.connect({ hostname, port });
  } catch (error) {
    throw new NotRunningError(`The port of ${name} cannot be used: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function json(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}
