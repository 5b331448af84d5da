/**
 * Log lines on stderr, for people or as JSON.
 *
 * For people: `sshshim: upstream: connected to prod.example.com:22`. The level is named only for
 * warnings and errors, and the time only when verbose; then each error also brings its stack, on
 * indented lines. On such lines is also what does not fit into a line of the terminal.
 *
 * As JSON: one object per line with `time`, `level`, `category`, `message` and every property of the
 * record; a property that bears one of these names gets a `_` after it.
 *
 * A value may come from a peer: a user name, a server's banner. Whatever could end a line, drive a
 * terminal or reorder what is read comes out escaped, long strings are cut, and properties that
 * hold a secret by their name are masked.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { fold, terminalColumns } from "./fold.ts";
import { LineQueue } from "./line_queue.ts";
import { logMemory } from "./log_memory.ts";
import { escapeControls, escapeJson } from "./shown_text.ts";
import { stderrTerminal, TerminalLine } from "./status_line_terminal.ts";
import { configureSync, getLogger, type Logger, type LogRecord } from "@logtape/logtape";

/** How much is logged, in what form, and to where. */
export interface LoggingOptions {
  /** quiet: warnings and errors; normal: also what happens; verbose: also details and stacks. */
  verbosity: "quiet" | "normal" | "verbose";
  format: "text" | "json";
  /** Takes one record at a time, ended by a newline; stderr by default. */
  write?: (line: string) => void;
  /** The width of what it is written to; by default that of the terminal, where stderr is one. */
  columns?: () => number;
}

const lowestLevels = { quiet: "warning", normal: "info", verbose: "debug" } as const;

/** Sets, or replaces, where the records of every {@link logger} go. */
export function configureLogging(
  { verbosity, format, write = (line) => stderr.write(line), columns = stderrColumns }:
    LoggingOptions,
): void {
  const verbose = verbosity === "verbose";
  const formatRecord = (record: LogRecord) =>
    format === "json"
      ? jsonRecord(record, verbose)
      : textRecord(record, { hasTime: verbose, hasStacks: verbose, columns: columns() });
  // Whoever reads it later has another terminal, and wants to know when it was.
  const keptRecord = (record: LogRecord) =>
    textRecord(record, { hasTime: true, hasStacks: verbose, columns: Infinity });
  configureSync({
    reset: true,
    sinks: {
      lines(record) {
        write(formatRecord(record));
        logMemory.add({ host: currentHost.getStore(), text: keptRecord(record).trimEnd() });
      },
    },
    loggers: [
      { category: "sshshim", sinks: ["lines"], lowestLevel: lowestLevels[verbosity] },
      // LogTape reports its own failures here, such as a sink that throws.
      { category: ["logtape", "meta"], sinks: ["lines"], lowestLevel: "error" },
    ],
  });
}

/** The logger of one part of the program, as `logger("upstream")`. Silent until configured. */
export function logger(...category: string[]): Logger {
  return getLogger(["sshshim", ...category]);
}

/** The host that is being seen to, where there are several. */
const currentHost = new AsyncLocalStorage<string>();

/**
 * Runs `action`. Whatever it logs, now or in what it sets going, names this host: as text after
 * the program's name, as JSON in the property `host`.
 */
export function aboutHost<T>(name: string, action: () => T): T {
  return currentHost.run(name, action);
}

function textRecord(
  record: LogRecord,
  { hasTime, hasStacks, columns }: { hasTime: boolean; hasStacks: boolean; columns: number },
): string {
  const time = hasTime ? `${timeOf(record)} ` : "";
  const parts = record.category[0] === "sshshim" ? record.category.slice(1) : record.category;
  const level = severe.has(record.level) ? [record.level] : [];
  const host = currentHost.getStore();
  const about = host === undefined ? [] : [escapeControls(host)];
  const head = `${time}${["sshshim", ...about, ...parts, ...level, messageOf(record)].join(": ")}`;
  const stacks = hasStacks ? Object.values(record.properties).flatMap(stackOf) : [];
  const lines = [head, ...stacks].flatMap((line) =>
    fold(escapeControls(line), columns - indentation.length)
  );
  return lines.join(`\n${indentation}`) + "\n";
}

const indentation = "    ";
const severe = new Set(["warning", "error", "fatal"]);

/** The lines of an error's stack and of its causes'; none for any other value. */
function stackOf(value: unknown): string[] {
  const lines: string[] = [];
  for (let error = value, depth = 0; error instanceof Error && depth < maxDepth; depth++) {
    const stack = textOf(error.stack || `${error.name}: ${error.message}`).split("\n");
    lines.push(
      ...stack.map((line, index) => index === 0 && depth > 0 ? `caused by ${line}` : line),
    );
    error = error.cause;
  }
  return lines;
}

function jsonRecord(record: LogRecord, verbose: boolean): string {
  const host = currentHost.getStore();
  const ours = {
    time: timeOf(record),
    level: record.level,
    category: record.category.join("."),
    ...(host === undefined ? {} : { host }),
    message: messageOf(record),
  };
  const properties = Object.entries(record.properties).map(([key, value]) => [
    Object.hasOwn(ours, key) ? `${key}_` : key,
    plainProperty(key, value, { verbose }),
  ]);
  return jsonLine({ ...ours, ...Object.fromEntries(properties) });
}

/** A value as a line of JSON that drives no terminal: JSON leaves some characters as they are. */
export function jsonLine(value: unknown): string {
  return escapeJson(JSON.stringify(value)) + "\n";
}

function timeOf(record: LogRecord): string {
  return new Date(record.timestamp).toISOString();
}

function messageOf(record: LogRecord): string {
  const secrets = Object.entries(record.properties).filter(([key]) => secretKey.test(key))
    .map(([, value]) => value);
  return record.message.map((part) => {
    if (secrets.includes(part)) return mask;
    return textOf(part instanceof Error ? part.message || part.name : part);
  }).join("");
}

function textOf(value: unknown): string {
  const shown = plain(value, { verbose: false });
  return typeof shown === "string" ? shown : JSON.stringify(shown) ?? "undefined";
}

const secretKey = /^(password|passphrase|secret|privateKey)$/i;
const mask = "***";
const maxDepth = 6;
const maxStringLength = 4096;
const maxByteLength = 256;

interface PlainOptions {
  /** Show the stacks of errors. */
  verbose: boolean;
  /** The objects around the value; a value among them is a circle. */
  around?: readonly object[];
}

function plainProperty(key: string, value: unknown, options: PlainOptions): unknown {
  return secretKey.test(key) && value !== undefined ? mask : plain(value, options);
}

/** The value as JSON can hold it; never throws, whatever the value's own code does. */
function plain(value: unknown, options: PlainOptions): unknown {
  switch (typeof value) {
    case "string":
      return value.length <= maxStringLength
        ? value
        : `${value.slice(0, maxStringLength)}… (${value.length} characters)`;
    case "number":
      return Number.isFinite(value) ? value : String(value);
    case "bigint":
    case "symbol":
      return String(value);
    case "function":
      return "[function]";
    case "object":
      try {
        return value === null ? null : plainObject(value, options);
      } catch {
        // A getter, a toJSON or a proxy of the value threw; the record must come out all the same.
        return "[unreadable]";
      }
    default:
      return value;
  }
}

function plainObject(value: object, { verbose, around = [] }: PlainOptions): unknown {
  if (around.includes(value)) return "[circular]";
  if (around.length >= maxDepth) return "[…]";
  const options = { verbose, around: [...around, value] };
  if (value instanceof Error) return plainError(value, options);
  if (value instanceof Uint8Array) {
    const hex = Array.from(
      value.subarray(0, maxByteLength),
      (byte) => byte.toString(16).padStart(2, "0"),
    );
    return value.length <= maxByteLength
      ? hex.join("")
      : `${hex.join("")}… (${value.length} bytes)`;
  }
  if ("toJSON" in value && typeof value.toJSON === "function") {
    return plain(value.toJSON(), options);
  }
  if (Array.isArray(value) || value instanceof Set || value instanceof Map) {
    return Array.from(value, (item) => plain(item, options));
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, plainProperty(key, item, options)]),
  );
}

function plainError(error: Error, options: PlainOptions): unknown {
  const { name, message, cause } = error;
  const shown: Record<string, unknown> = { name, message };
  if ("code" in error) shown.code = error.code;
  if (cause !== undefined) shown.cause = cause;
  if (error instanceof AggregateError) shown.errors = error.errors;
  if (options.verbose) shown.stack = error.stack;
  return Object.fromEntries(
    Object.entries(shown).map(([key, item]) => [key, plain(item, options)]),
  );
}

/** The line below what is written to the terminal of standard error. */
export const terminalLine = new TerminalLine(stderrTerminal);

/** Nobody has to read it. */
const stderr = new LineQueue(terminalLine.above(Deno.stderr), {
  onDropped: (count) =>
    logger("log").warn("{count} lines were dropped, since nobody read them", { count }),
});

function stderrColumns(): number {
  return Deno.stderr.isTerminal() ? terminalColumns() : Infinity;
}

/** Resolves when what was logged to stderr is written, or nobody reads it any more. */
export function logFlushed(): Promise<void> {
  return stderr.flushed();
}
