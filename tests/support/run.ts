/** Runs commands with a deadline, and long-lived processes that are ended with their scope. */

import { createHash } from "node:crypto";
import { defaultTimeoutMs, kept, within } from "./deadline.ts";
import { Transcript } from "./transcript.ts";

/** What a command did, as far as its caller can see it. */
export interface CommandResult {
  stdout: Uint8Array;
  stderr: Uint8Array;
  /** The exit status; 128 + the signal's number when a signal ended the command itself. */
  code: number;
  /** The signal that ended the command itself, if one did. */
  signal: Deno.Signal | null;
}

/** How a command is run. */
export interface RunOptions {
  /** Bytes for the command's standard input; without them, and without `stdinFile`, `/dev/null`. */
  stdin?: Uint8Array | string;
  /** A file for the command to read as its standard input. */
  stdinFile?: string;
  /** Collects only `<sha256 in hex> <bytes>` of standard output, for outputs of hundreds of MB. */
  digestStdout?: boolean;
  /** The whole environment of the command; without it, this process's own. */
  environment?: Record<string, string>;
  folder?: string;
  /** When the command is killed and the call fails. */
  timeoutMs?: number;
}

/** Decodes UTF-8. */
export function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

/**
 * Runs a command to its end and to the end of its output.
 *
 * @throws {Error} when that takes longer than `timeoutMs`; the process is dead then, and the
 *   message says what it had written
 */
export function run(command: string[], options: RunOptions = {}): Promise<CommandResult> {
  return kept(runToEnd(command, options));
}

async function runToEnd(command: string[], options: RunOptions): Promise<CommandResult> {
  const { timeoutMs = defaultTimeoutMs } = options;
  const child = spawnChild(command, { ...options, piped: options.stdin !== undefined });
  const readers = [child.stdout.getReader(), child.stderr.getReader()] as const;
  const stdout = options.digestStdout ? new DigestSink() : new BytesSink();
  const stderr = new BytesSink();
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    killQuietly(child, "SIGKILL");
    // A process that the command left behind may hold the pipes: stop reading them, too.
    for (const reader of readers) reader.cancel().catch(() => {});
  }, timeoutMs);
  try {
    const [status] = await Promise.all([
      child.status,
      pour(readers[0], stdout),
      pour(readers[1], stderr),
      options.stdin === undefined ? undefined : feed(child.stdin, options.stdin),
    ]);
    const result = {
      stdout: stdout.bytes(),
      stderr: stderr.bytes(),
      code: status.code,
      signal: status.signal,
    };
    if (late) {
      throw new Error(
        `${timeoutMs} ms passed before this ended: ${command.join(" ").slice(0, 1000)}\n` +
          `stdout: ${text(result.stdout).slice(-1000)}\nstderr: ${
            text(result.stderr).slice(-2000)
          }`,
      );
    }
    return result;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Runs a command that has to succeed.
 *
 * @returns its standard output as text
 * @throws {Error} when its exit status is not 0; the message holds its standard error
 */
export async function runChecked(command: string[], options: RunOptions = {}): Promise<string> {
  const result = await run(command, options);
  if (result.code !== 0) {
    throw new Error(
      `Exit status ${result.code} of ${command.join(" ").slice(0, 1000)}\n` +
        text(result.stdout).slice(-2000) + text(result.stderr).slice(-2000),
    );
  }
  return text(result.stdout);
}

/** A process that lives longer than one call; leaving its scope ends it. */
export class RunningProcess implements AsyncDisposable {
  /** What it has written to standard output so far; empty with `discardStdout`. */
  readonly stdout = new Transcript();
  /** What it has written to standard error so far. */
  readonly stderr = new Transcript();
  readonly pid: number;
  /** Resolves when it has ended. */
  readonly status: Promise<Deno.CommandStatus>;
  #child: Deno.ChildProcess;
  #readers: ReadableStreamDefaultReader<Uint8Array>[];
  #reading: Promise<unknown>;
  #stdin: WritableStreamDefaultWriter<Uint8Array>;
  #ended = false;

  /** @param command the program and its arguments */
  constructor(
    command: string[],
    options: {
      environment?: Record<string, string>;
      folder?: string;
      discardStdout?: boolean;
    } = {},
  ) {
    this.#child = spawnChild(command, { ...options, piped: true });
    this.pid = this.#child.pid;
    this.#stdin = this.#child.stdin.getWriter();
    this.status = this.#child.status.then((status) => {
      this.#ended = true;
      return status;
    });
    const outputs: [ReadableStreamDefaultReader<Uint8Array>, Transcript][] = [
      [this.#child.stderr.getReader(), this.stderr],
    ];
    if (options.discardStdout) this.stdout.end();
    else outputs.push([this.#child.stdout.getReader(), this.stdout]);
    this.#readers = outputs.map(([reader]) => reader);
    this.#reading = kept(Promise.all(
      outputs.map(([reader, transcript]) => pour(reader, new TranscriptSink(transcript))),
    ));
  }

  /** Writes to its standard input. */
  async write(data: string | Uint8Array): Promise<void> {
    await this.#stdin.write(typeof data === "string" ? new TextEncoder().encode(data) : data);
  }

  /** Ends its standard input. May be called twice. */
  async closeStdin(): Promise<void> {
    // A process that has ended has closed its own side already.
    await this.#stdin.close().catch(() => {});
  }

  /** Sends a signal, unless it has ended. */
  kill(signal: Deno.Signal): void {
    if (!this.#ended) killQuietly(this.#child, signal);
  }

  /**
   * Resolves with how it ended.
   *
   * @throws {Error} when `timeoutMs` passes first; it runs on then
   */
  ended(options: { timeoutMs?: number } = {}): Promise<Deno.CommandStatus> {
    return kept(within(this.status, "The process still runs", options.timeoutMs));
  }

  /**
   * Resolves when it has ended and all that it wrote has been read.
   *
   * @throws {Error} when `timeoutMs` passes before its end
   */
  drained(options: { timeoutMs?: number } = {}): Promise<Deno.CommandStatus> {
    return kept(this.ended(options).then((status) => this.#reading.then(() => status)));
  }

  /** Ends it by SIGTERM, after 5 s by SIGKILL, and releases its pipes. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGTERM");
    const timer = setTimeout(() => this.kill("SIGKILL"), 5_000);
    await this.status;
    clearTimeout(timer);
    await this.closeStdin();
    // Children of its own may hold the pipes open.
    await Promise.all(this.#readers.map((reader) => reader.cancel().catch(() => {})));
    await this.#reading;
  }
}

interface Sink {
  add(chunk: Uint8Array): void;
  /** Nothing follows. */
  end?(): void;
}

class BytesSink implements Sink {
  #chunks: Uint8Array[] = [];

  add(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
  }

  bytes(): Uint8Array {
    const all = new Uint8Array(this.#chunks.reduce((sum, chunk) => sum + chunk.length, 0));
    let offset = 0;
    for (const chunk of this.#chunks) {
      all.set(chunk, offset);
      offset += chunk.length;
    }
    return all;
  }
}

class DigestSink implements Sink {
  #hash = createHash("sha256");
  #length = 0;

  add(chunk: Uint8Array): void {
    this.#hash.update(chunk);
    this.#length += chunk.length;
  }

  bytes(): Uint8Array {
    return new TextEncoder().encode(`${this.#hash.digest("hex")} ${this.#length}`);
  }
}

class TranscriptSink implements Sink {
  #transcript: Transcript;
  #decoder = new TextDecoder();

  constructor(transcript: Transcript) {
    this.#transcript = transcript;
  }

  add(chunk: Uint8Array): void {
    this.#transcript.append(this.#decoder.decode(chunk, { stream: true }));
  }

  end(): void {
    this.#transcript.end();
  }
}

function spawnChild(
  command: string[],
  options: {
    piped: boolean;
    stdinFile?: string;
    environment?: Record<string, string>;
    folder?: string;
    discardStdout?: boolean;
  },
): Deno.ChildProcess {
  const [program, ...args] = options.stdinFile === undefined
    ? command
    // The shell opens the file and is then replaced, so that the process id is the command's.
    : ["/bin/sh", "-c", 'exec "$@" < "$0"', options.stdinFile, ...command];
  if (program === undefined) throw new Error("The command is empty.");
  return new Deno.Command(program, {
    args,
    stdin: options.piped ? "piped" : "null",
    stdout: options.discardStdout ? "null" : "piped",
    stderr: "piped",
    clearEnv: options.environment !== undefined,
    ...(options.environment === undefined ? {} : { env: options.environment }),
    ...(options.folder === undefined ? {} : { cwd: options.folder }),
  }).spawn();
}

async function pour(reader: ReadableStreamDefaultReader<Uint8Array>, sink: Sink): Promise<void> {
  while (true) {
    const { done, value } = await reader.read();
    if (done) break;
    sink.add(value);
  }
  sink.end?.();
}

async function feed(
  stdin: WritableStream<Uint8Array>,
  data: Uint8Array | string,
): Promise<void> {
  const writer = stdin.getWriter();
  try {
    await writer.write(typeof data === "string" ? new TextEncoder().encode(data) : data);
    await writer.close();
  } catch {
    // The command may end before it has read everything; its exit status tells how that went.
  }
}

function killQuietly(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It has just ended by itself.
  }
}
