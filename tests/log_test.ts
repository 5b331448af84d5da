import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { resetSync } from "@logtape/logtape";
import { widthOf } from "../lib/fold.ts";
import { configureLogging, logger, type LoggingOptions } from "../lib/log.ts";
import { escapeControls } from "../lib/shown_text.ts";

/** Runs `body` with logging set up so, and returns what was written, one entry per write. */
function written(
  options: Pick<LoggingOptions, "verbosity" | "format" | "columns">,
  body: () => void,
): string[] {
  const lines: string[] = [];
  configureLogging({ columns: () => Infinity, ...options, write: (line) => lines.push(line) });
  try {
    body();
  } finally {
    resetSync();
  }
  return lines;
}

const normalText = { verbosity: "normal", format: "text" } as const;
const normalJson = { verbosity: "normal", format: "json" } as const;
const verboseText = { verbosity: "verbose", format: "text" } as const;
const verboseJson = { verbosity: "verbose", format: "json" } as const;

/** Each would end a line, drive a terminal, or change the order in which text is shown. */
const hostile = [
  ["line\nsshshim: upstream: forged", "line\\nsshshim: upstream: forged"],
  ["return\rsshshim: forged", "return\\rsshshim: forged"],
  ["tab\tbell\x07", "tab\\tbell\\x07"],
  ["\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"],
  ["\x9b31mC1\x85next", "\\x9b31mC1\\x85next"],
  ["del\x7f nul\0", "del\\x7f nul\\x00"],
  ["\u2028\u2029", "\\u2028\\u2029"],
  ["\u202egpj.exe\u2066\u200f\u061c", "\\u202egpj.exe\\u2066\\u200f\\u061c"],
] as const;

function parsed(line = ""): Record<string, unknown> {
  assert.equal(line.indexOf("\n"), line.length - 1, "one record is one line");
  return JSON.parse(line);
}

Deno.test("a text line has the program, the part and the message", () => {
  const lines = written(normalText, () => {
    logger("upstream").info("connected to {host}:{port}", { host: "prod.example.com", port: 22 });
    logger("server", "client").info`${"10"} channels`;
    logger().info("started");
  });
  assert.deepEqual(lines, [
    "sshshim: upstream: connected to prod.example.com:22\n",
    "sshshim: server: client: 10 channels\n",
    "sshshim: started\n",
  ]);
});

Deno.test("what a terminal would wrap is on indented lines, and begins none like ours", () => {
  const forged = "sshshim: trust: added the host key";
  for (const filler of [" ", ".", "\u3000"]) {
    const text = `hello${filler.repeat(80)}${forged}`;
    const options = { ...normalText, columns: () => 60 };
    const [record] = written(options, () => logger("upstream").info("it says: {text}", { text }));
    const [head, ...rest] = record!.trimEnd().split("\n");
    assert.match(head!, /^sshshim: upstream: it says:/);
    assert(rest.map((line) => line.trim()).join("").includes("sshshim: trust:"), record);
    for (const line of rest) {
      assert.match(line, /^ {4}/);
      assert(widthOf(line) <= 60, line);
    }
    const [json] = written({ ...normalJson, columns: () => 60 }, () => logger().info(text));
    assert.equal(parsed(json).message, text);
  }
});

Deno.test("a text line names the level of warnings and errors only", () => {
  const lines = written(normalText, () => {
    logger("a").info("one");
    logger("a").warn("two");
    logger("a").error("three");
    logger("a").fatal("four");
  });
  assert.deepEqual(lines, [
    "sshshim: a: one\n",
    "sshshim: a: warning: two\n",
    "sshshim: a: error: three\n",
    "sshshim: a: fatal: four\n",
  ]);
});

Deno.test("quiet shows warnings and errors, normal what happens, verbose the details too", () => {
  const body = () => {
    logger("a").debug("1");
    logger("a").info("2");
    logger("a").warn("3");
    logger("a").error("4");
  };
  for (const format of ["text", "json"] as const) {
    assert.equal(written({ verbosity: "quiet", format }, body).length, 2);
    assert.equal(written({ verbosity: "normal", format }, body).length, 3);
    assert.equal(written({ verbosity: "verbose", format }, body).length, 4);
  }
});

Deno.test("a verbose text line starts with the time", () => {
  const before = Date.now();
  const [line = ""] = written(verboseText, () => logger("a").debug("hello"));
  const [, time = ""] = /^(\S+) sshshim: a: hello\n$/.exec(line) ?? [];
  assert(Date.parse(time) >= before && Date.parse(time) <= Date.now(), line);
});

Deno.test("no value can forge a text line or reach the terminal", () => {
  for (const [value, shown] of hostile) {
    const lines = written(normalText, () => {
      logger("upstream").info("user {name}", { name: value });
      logger("upstream").info(`user ${value}`);
      logger("upstream").info("failed: {error}", { error: new Error(value) });
      logger("upstream").info("list {list}", { list: [value] });
      logger(value).info("x");
    });
    assert.equal(lines[0], `sshshim: upstream: user ${shown}\n`);
    assert.equal(lines[1], `sshshim: upstream: user ${shown}\n`);
    assert.equal(lines[2], `sshshim: upstream: failed: ${shown}\n`);
    for (const line of lines) {
      assert.equal(line.replace(/\n$/, ""), escapeControls(line.replace(/\n$/, "")));
    }
  }
});

Deno.test("no value can forge a JSON line, and each can be read back", () => {
  for (const [value] of hostile) {
    const [line = ""] = written(normalJson, () => {
      logger("upstream").info("user {name}", { name: value, error: new Error(value), [value]: 1 });
    });
    assert.equal(line.replace(/\n$/, ""), escapeControls(line.replace(/\n$/, "")));
    const record = parsed(line);
    assert.equal(record.message, `user ${value}`);
    assert.equal(record.name, value);
    assert.deepEqual(record.error, { name: "Error", message: value });
    assert.equal(record[value], 1);
  }
});

Deno.test("escaping leaves ordinary text of any script alone", () => {
  const text = "C:\\temp \"quoted\" 'x' äöü 日本語 😀 \u00a0";
  assert.equal(escapeControls(text), text);
});

Deno.test("a JSON line has time, level, category, message and every property", () => {
  const before = Date.now();
  const [line] = written(normalJson, () => {
    logger("server", "client").warn("left after {seconds} s", { seconds: 2.5, clean: false });
  });
  const { time, ...record } = parsed(line);
  assert(typeof time === "string" && time === new Date(time).toISOString());
  assert(Date.parse(time) >= before && Date.parse(time) <= Date.now());
  assert.deepEqual(record, {
    level: "warning",
    category: "sshshim.server.client",
    message: "left after 2.5 s",
    seconds: 2.5,
    clean: false,
  });
});

Deno.test("a property cannot take the place of time, level, category or message", () => {
  const [line] = written(normalJson, () => {
    logger("a").info("real", { message: "m", level: "l", time: "t", category: "c" });
  });
  const { time, ...record } = parsed(line);
  assert.notEqual(time, "t");
  assert.deepEqual(record, {
    level: "info",
    category: "sshshim.a",
    message: "real",
    message_: "m",
    level_: "l",
    time_: "t",
    category_: "c",
  });
});

const circle: Record<string, unknown> = { name: "circle" };
circle.self = circle;
const shared = { port: 1 };
let deep: unknown = "bottom";
for (let level = 0; level < 10; level++) deep = [deep];

const values: [string, unknown, unknown][] = [
  ["a bigint", 2n ** 64n, "18446744073709551616"],
  ["bytes", new Uint8Array([0, 1, 255]), "0001ff"],
  ["a Buffer", Buffer.from("hi"), "6869"],
  ["many bytes", new Uint8Array(300), `${"00".repeat(256)}… (300 bytes)`],
  ["a long string", "x".repeat(5000), `${"x".repeat(4096)}… (5000 characters)`],
  ["not a number", NaN, "NaN"],
  ["infinity", -Infinity, "-Infinity"],
  ["null", null, null],
  ["a symbol", Symbol("s"), "Symbol(s)"],
  ["a function", () => 1, "[function]"],
  ["a date", new Date(0), "1970-01-01T00:00:00.000Z"],
  ["an invalid date", new Date(NaN), null],
  ["a map", new Map([["a", 1n]]), [["a", "1"]]],
  ["a set", new Set([1, 2]), [1, 2]],
  ["nothing in an array", [undefined], [null]],
  ["a circle", circle, { name: "circle", self: "[circular]" }],
  ["the same object twice", [shared, shared], [{ port: 1 }, { port: 1 }]],
  ["a deep value", deep, [[[[[["[…]"]]]]]]],
  ["a key of the prototype", JSON.parse('{"__proto__": 1}'), JSON.parse('{"__proto__": 1}')],
  [
    "a getter that throws",
    {
      get bad() {
        throw new Error("no");
      },
    },
    "[unreadable]",
  ],
  ["a toJSON that throws", {
    toJSON() {
      throw new Error("no");
    },
  }, "[unreadable]"],
  ["a secret inside", { user: "u", password: "hunter2" }, { user: "u", password: "***" }],
];

Deno.test("any value comes out as JSON, and as text too", () => {
  for (const [name, value, expected] of values) {
    const [line] = written(normalJson, () => logger("a").info("it", { value }));
    assert.deepEqual(parsed(line).value, expected, name);
    const [text = ""] = written(normalText, () => logger("a").info("is {value}", { value }));
    const shown = typeof expected === "string" ? expected : JSON.stringify(expected);
    assert.equal(text, `sshshim: a: is ${shown}\n`, name);
  }
});

Deno.test("an undefined property is left out of JSON, and named in a message", () => {
  const [line] = written(normalJson, () => logger("a").info("it is {value}", { value: undefined }));
  const record = parsed(line);
  assert(!("value" in record));
  assert.equal(record.message, "it is undefined");
});

Deno.test("an error is its name and message; its stack comes only when verbose", () => {
  const cause = Object.assign(new TypeError("refused"), { code: "ECONNREFUSED" });
  const error = new Error("cannot connect", { cause });
  const body = () => logger("a").error("lost: {error}", { error });
  const plain = {
    name: "Error",
    message: "cannot connect",
    cause: { name: "TypeError", message: "refused", code: "ECONNREFUSED" },
  };

  const record = parsed(written(normalJson, body)[0]);
  assert.equal(record.message, "lost: cannot connect");
  assert.deepEqual(record.error, plain);
  assert.deepEqual(parsed(written(verboseJson, body)[0]).error, {
    ...plain,
    stack: error.stack,
    cause: { ...plain.cause, stack: cause.stack },
  });

  assert.deepEqual(written(normalText, body), ["sshshim: a: error: lost: cannot connect\n"]);
  const [text = ""] = written(verboseText, body);
  const [head, ...stack] = text.trimEnd().split("\n");
  assert.match(head ?? "", /sshshim: a: error: lost: cannot connect$/);
  assert.equal(stack[0], "    Error: cannot connect");
  assert(stack.includes("    caused by TypeError: refused"));
  assert(stack.every((line) => line.startsWith("    ")));
});

Deno.test("an error without a message is shown by its name, with the errors that it holds", () => {
  const error = new AggregateError([new Error("::1 refused"), new Error("127.0.0.1 refused")]);
  const body = () => logger("a").warn("failed: {error}", { error });
  assert.deepEqual(written(normalText, body), ["sshshim: a: warning: failed: AggregateError\n"]);
  assert.deepEqual(parsed(written(normalJson, body)[0]).error, {
    name: "AggregateError",
    message: "",
    errors: [
      { name: "Error", message: "::1 refused" },
      { name: "Error", message: "127.0.0.1 refused" },
    ],
  });
});

Deno.test("the stack of a hostile error stays on indented lines", () => {
  const error = new Error("x\nsshshim: upstream: forged\x1b[2J");
  const [text = ""] = written(verboseText, () => logger("a").error("lost: {error}", { error }));
  const lines = text.trimEnd().split("\n");
  assert.equal(lines.filter((line) => !line.startsWith("    ")).length, 1);
  assert(!text.includes("\x1b"));
});

Deno.test("a property that is a secret by its name is masked, in the message too", () => {
  for (const key of ["password", "passphrase", "Password", "privateKey"]) {
    const body = () => logger("a").info(`with {${key}}`, { [key]: "hunter2", user: "u" });
    assert.deepEqual(written(normalText, body), ["sshshim: a: with ***\n"]);
    const line = written(verboseJson, body)[0] ?? "";
    assert(!line.includes("hunter2"), line);
    assert.equal(parsed(line)[key], "***");
  }
});

Deno.test("a later set-up replaces the earlier one", () => {
  const first: string[] = [];
  configureLogging({ ...normalText, write: (line) => first.push(line) });
  assert.equal(written(normalText, () => logger("a").info("x")).length, 1);
  assert.deepEqual(first, []);
});

Deno.test("a writer that fails does not reach whoever logs", () => {
  configureLogging({
    ...normalText,
    write() {
      throw new Error("disk full");
    },
  });
  try {
    logger("a").error("x");
  } finally {
    resetSync();
  }
});

/** A process of its own, whose stdin, stdout and stderr are pipes. */
function spawnScript(code: string): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", code],
    cwd: new URL("..", import.meta.url),
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

Deno.test("every line is on stderr when the process ends once they are flushed", async () => {
  const child = spawnScript(`
    import { configureLogging, logFlushed, logger } from "./lib/log.ts";
    configureLogging({ verbosity: "normal", format: "text" });
    for (let i = 0; i < 2000; i++) logger("a").info("line {i} {x}", { i, x: "y".repeat(100) });
    await logFlushed();
    Deno.exit(3);`);
  await child.stdin.close();
  const { code, stdout, stderr } = await child.output();
  const lines = new TextDecoder().decode(stderr).trimEnd().split("\n");
  assert.equal(lines.length, 2000, lines[0]);
  assert.equal(lines.at(-1), `sshshim: a: line 1999 ${"y".repeat(100)}`);
  assert.equal(code, 3);
  assert.equal(stdout.length, 0);
});

Deno.test("a stderr that nobody reads any more does not end the process", async () => {
  const child = spawnScript(`
    import { configureLogging, logger } from "./lib/log.ts";
    configureLogging({ verbosity: "normal", format: "text" });
    const [signal] = await Array.fromAsync(Deno.stdin.readable);
    logger("a").info("lost");
    console.log("alive", signal.length);`);
  await child.stderr.cancel();
  const writer = child.stdin.getWriter();
  await writer.write(new Uint8Array(1));
  await writer.close();
  assert.equal(await new Response(child.stdout).text(), "alive 1\n");
  assert.equal((await child.status).code, 0);
});
