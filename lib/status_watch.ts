/** A status that is shown again and again, on a terminal in one place, otherwise by lines. */

import type { ControlClient } from "./control_client.ts";
import { NotRunningError } from "./errors.ts";
import { sizeText } from "./quantity_text.ts";
import type { ShimStatus } from "./status.ts";
import { channelsOf, withRates } from "./status_rates.ts";
import { statusText } from "./status_text.ts";

/** From one status to the next, in milliseconds. */
const intervalMs = 2000;

/** Where it is shown. */
export interface Output {
  isTerminal: boolean;
  /** Resolves when it is taken. */
  print(text: string): Promise<void>;
  write(bytes: Uint8Array): Promise<void>;
}

// The other screen of the terminal, on which nothing of the person's is lost, without a cursor.
const enter = "\x1b[?1049h\x1b[?25l";
const leave = "\x1b[?25h\x1b[?1049l";

/** Shows it until a signal comes. @throws {NotRunningError} when the shim has ended. */
export async function watch(
  shim: ControlClient,
  { isJson, output }: { isJson: boolean; output: Output },
): Promise<void> {
  const stopped = Promise.withResolvers<void>();
  const ended = shim.whenEnded.then(() => {
    throw new NotRunningError(`${shim.name} has ended.`);
  });
  ended.catch(() => {/* It is told where it is waited for. */});
  const onSignal = () => stopped.resolve();
  for (const signal of stopSignals) Deno.addSignalListener(signal, onSignal);
  const view = output.isTerminal && !isJson ? new Screen(output) : new Lines(output, isJson);
  try {
    await view.begin();
    await Promise.race([stopped.promise, ended, showForEver(shim, view)]);
  } finally {
    await view.end();
    for (const signal of stopSignals) Deno.removeSignalListener(signal, onSignal);
  }
}

const stopSignals: Deno.Signal[] = Deno.build.os === "windows"
  ? ["SIGINT"]
  : ["SIGINT", "SIGTERM", "SIGHUP"];

interface View {
  begin(): Promise<void>;
  show(status: ShimStatus): Promise<void>;
  end(): Promise<void>;
}

async function showForEver(shim: ControlClient, view: View): Promise<never> {
  let earlier: ShimStatus | undefined;
  for (;;) {
    const status = await shim.status();
    await view.show(earlier === undefined ? status : withRates(earlier, status));
    earlier = status;
    await new Promise<void>((resolve) => setTimeout(resolve, intervalMs));
  }
}

/** A line for each status. */
class Lines implements View {
  readonly #output: Output;
  readonly #isJson: boolean;

  constructor(output: Output, isJson: boolean) {
    this.#output = output;
    this.#isJson = isJson;
  }

  async begin(): Promise<void> {}

  async show(status: ShimStatus): Promise<void> {
    await this.#output.print(`${this.#isJson ? JSON.stringify(status) : lineOf(status)}\n`);
  }

  async end(): Promise<void> {}
}

function lineOf(status: ShimStatus): string {
  const channels = channelsOf(status);
  const rate = (key: "toHostBytesPerSecond" | "toClientBytesPerSecond") =>
    sizeText(channels.reduce((sum, channel) => sum + (channel[key] ?? 0), 0));
  return [
    `${status.time} ${status.upstream.state}`,
    `${status.clients.length} clients`,
    `${channels.length} channels`,
    `${rate("toHostBytesPerSecond")}/s to the host`,
    `${rate("toClientBytesPerSecond")}/s from it`,
  ].join(", ");
}

/** The whole terminal, as large as it is at each moment. */
class Screen implements View {
  readonly #output: Output;
  #status: ShimStatus | undefined;
  #shown: string[] = [];
  readonly #onResize = () => {
    this.#shown = [];
    if (this.#status) void this.show(this.#status);
  };

  constructor(output: Output) {
    this.#output = output;
  }

  async begin(): Promise<void> {
    if (Deno.build.os !== "windows") Deno.addSignalListener("SIGWINCH", this.#onResize);
    await this.#output.print(enter);
  }

  /** Writes the lines that are others than before. */
  async show(status: ShimStatus): Promise<void> {
    this.#status = status;
    const { rows, columns } = Deno.consoleSize();
    const lines = fitted(statusText(status, { columns }).trimEnd().split("\n"), rows);
    const before = this.#shown;
    this.#shown = lines;
    // What is cleared first keeps its last column: behind a full line the cursor is still on it.
    const changes = lines.map((line, at) =>
      line === before[at] ? "" : `\x1b[${at + 1};1H\x1b[2K${line}`
    );
    const rest = lines.length < rows ? `\x1b[${lines.length + 1};1H\x1b[J` : "";
    await this.#output.print(`${changes.join("")}${rest}`);
  }

  async end(): Promise<void> {
    if (Deno.build.os !== "windows") Deno.removeSignalListener("SIGWINCH", this.#onResize);
    await this.#output.print(leave);
  }
}

function fitted(lines: string[], rows: number): string[] {
  if (lines.length <= rows) return lines;
  const left = lines.length - rows + 1;
  return [...lines.slice(0, rows - 1), `... ${left} more lines`];
}
