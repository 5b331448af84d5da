/** `.github/TROUBLESHOOTING.md` has every message of the program, as it is shown, and no other. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { readSourceTexts, type SourceText, textsOf } from "./support/messages.ts";

/** Texts with words that are no messages, values that are put in as `…`. */
const noMessages = [
  // For programs to read.
  "# sshshim: pid …, port ……; written at its start, removed at its end",
  "config and folder",
  "text/plain; charset=utf-8",
  "if not defined … exit 1",
  'originalhost … !exec "…"',
  `SSH_ORIGINAL_COMMAND="$(printf %b '…')"; export SSH_ORIGINAL_COMMAND; …`,
  // What is told in the log when nothing is wrong.
  " (not post-quantum)",
  "key exchange ……, host key …, cipher …",
  "the key … (…)",
  "…, of the agent",
  "a client's request for the end",
  // To a server alone.
  "unforeseen algorithms",
  // How it goes, for the service manager.
  "away since …, sessions are kept: …",
  // Before a stack.
  "caused by …",
  // Reasons that nobody is shown.
  "The words ask for something else than a run.",
  "… is not a table of the kernel's",
  "… ends inside a row",
  "it has left",
  "no session is warm",
  "libcrypto does not encrypt",
  "libcrypto does not authenticate",
  '"…" cannot be opened',
  "it has left before its streams came",
  "it has ended before its request",
  "another version of the protocol",
  "nobody reads it",
  "no client has come yet",
  "no command is run",
  "the stream is closed",
  'the certificate of "…"',
  "the connecting process belongs to user …",
  "this system does not tell who we are",
  "user … also stands for the users that this namespace does not know",
];

const page = await Deno.readTextFile(
  fileURLToPath(new URL("../.github/TROUBLESHOOTING.md", import.meta.url)),
);

/** The messages of a page: the lines of its blocks of text. */
function messagesOf(page: string): string[] {
  return [...page.matchAll(/^```text\n([^]*?)^```$/gm)].flatMap(([, block]) =>
    block!.trimEnd().split("\n")
  );
}

/** What finds a text in a message, each fixed part of it in a group. */
function patternOf({ parts }: SourceText): RegExp {
  const last = parts.length - 1;
  const fixed = parts.map((part, index) => {
    const start = index === 0 ? part.trimStart() : part;
    const whole = index === last ? start.trimEnd() : start;
    return `(${RegExp.escape(whole)})`;
  });
  return new RegExp(fixed.join(".*?"), "dg");
}

/** Texts that are in none of the messages. */
function missingFrom(messages: string[], texts: SourceText[]): string[] {
  const all = messages.join("\n");
  return texts.filter((it) => it.hasWords && !patternOf(it).test(all))
    .map((it) => `${it.place}: ${describe(it)}`);
}

function describe({ parts }: SourceText): string {
  return parts.join("…");
}

/** What is in no text, of each message that has such a part; options and names in capitals aside. */
function strangeIn(messages: string[], texts: SourceText[]): string[] {
  const patterns = texts.filter(({ hasWords, parts }) => hasWords || parts.length > 1)
    .map(patternOf);
  return messages.flatMap((message) => {
    const left = message.split("");
    for (const pattern of patterns) {
      for (const { indices } of message.matchAll(pattern)) {
        for (const [start, end] of indices!.slice(1) as [number, number][]) {
          left.fill("\0", start, end);
        }
      }
    }
    const strange = left.join("").split("\0").filter((it) =>
      /\p{Ll}/u.test(it.replace(/(?<!\S)(-\w|--[\w-]+)/g, ""))
    );
    return strange.length === 0 ? [] : [`${message}: ${strange.join(" … ")}`];
  });
}

const texts = readSourceTexts();
const messages = texts.filter((it) => !noMessages.includes(describe(it)));

Deno.test("each message of the program has an entry", () => {
  assert.deepEqual(missingFrom(messagesOf(page), messages), []);
});

Deno.test("each entry is a message of the program", () => {
  assert.deepEqual(strangeIn(messagesOf(page), messages), []);
});

Deno.test("what counts as no message is still in the program", () => {
  assert.deepEqual(noMessages.filter((it) => !texts.map(describe).includes(it)), []);
});

Deno.test("each link within the page leads to one of its headings", () => {
  const headings = [...page.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!.toLowerCase().replace(/[^\w -]/g, "").replaceAll(" ", "-")
  );
  const links = [...page.matchAll(/\]\(#([^)]*)\)/g)].map(([, target]) => target!);
  assert.deepEqual(links.filter((it) => !headings.includes(it)), []);
});

const source = `
  import { log } from "./a name with words.ts";
  function toggle(name: string, description: string) {}
  /** A comment with words. */
  export function fail(host: string, reason: "a type with words") {
    log.warn("the file {path} is passed over", { path: host });
    log.info("the host {name} is there", { name: host });
    toggle("--lazy", "Log in later.");
    const advice = host === "a host with words" ? "Try it again." : \`Ask \${host} about it.\`;
    if (reason.includes("some other words")) throw new ProtocolError("a window that overflows");
    throw new UsageError(
      \`The host \${host} is gone: \` + reason +
        \`. \${advice}\\nTry another one.\`,
    );
  }
`;

Deno.test("a message is found wherever it is made, and help and log lines are none", () => {
  const found = textsOf("sample.ts", source).filter(({ hasWords }) => hasWords);
  assert.deepEqual(found.map((it) => `${it.place}: ${describe(it)}`), [
    "sample.ts:6: the file … is passed over",
    "sample.ts:9: Try it again.",
    "sample.ts:9: Ask … about it.",
    "sample.ts:12: The host … is gone: …. …",
    "sample.ts:12: Try another one.",
  ]);
});

const samplePage = `
\`\`\`text
The host HOST is gone: REASON. Try it again.
The host HOST is gone: REASON. Ask HOST about it.
Try another one.
the file FILE is passed over
\`\`\`
`;

Deno.test("a message is noticed that is added, changed or taken away", () => {
  const compare = (source: string, page = samplePage) => {
    const texts = textsOf("sample.ts", source);
    return [missingFrom(messagesOf(page), texts), strangeIn(messagesOf(page), texts)];
  };
  assert.deepEqual(compare(source), [[], []]);
  assert.deepEqual(compare(`${source}throw new Error("there is no way");`), [
    ["sample.ts:16: there is no way"],
    [],
  ]);
  assert.deepEqual(compare(source.replace("passed over", "left out")), [
    ["sample.ts:6: the file … is left out"],
    ["the file FILE is passed over: the file FILE is passed over"],
  ]);
  assert.deepEqual(compare(source.replace("Try it again.", "")), [
    [],
    ["The host HOST is gone: REASON. Try it again.: Try it again."],
  ]);
  assert.deepEqual(compare(source, samplePage.replace("Try another one.\n", "")), [
    ["sample.ts:12: Try another one."],
    [],
  ]);
});
