/** The cases of `deno task peers`: what is asked of each peer, and what has to come of it. */

import assert from "node:assert/strict";
import { echoed } from "./services.ts";
import { patternBytes, sha256 } from "./files.ts";

/** What one run of a case came to; bytes stand there by their checksum. */
export type PeerResult = Record<string, unknown>;

/** How long one program may take, in milliseconds. */
export const peerTimeoutMs = 60_000;

/** What goes through commands and forwards. */
export const someBytes = patternBytes(300_000);
/** What goes through a command while keys are exchanged again, after `rekeyBytes` each. */
export const manyBytes = patternBytes(3_000_000);
/** The limit that is set wherever one can be set, in bytes. */
export const rekeyBytes = 1_000_000;

/** Takes its input, says something on both streams, ends with a status of its own. */
export const execCommand = "cat; echo err >&2; exit 37";
/** Waits until its terminal has 40 rows and 120 columns, and repeats what is then typed. */
export const terminalCommand = "stty size; " +
  `until [ "$(stty size)" = "40 120" ]; do sleep 0.02; done; ` +
  'read word; echo "$word" "$TERM"; exit 3';
/** What the terminal shows from its first size on, when "go" was typed. */
export const terminalScreen = "30 100\r\ngo\r\ngo xterm\r\n";
/** What services that forwards lead to say first. */
export const greeting = "hello\n";

const forwarded = sha256(echoed(greeting, someBytes));

/** Each case, and the check of its result. */
export const peerCases = {
  exec: (result: PeerResult) =>
    assert.deepEqual(result, { code: 37, stdout: sha256(someBytes), stderr: "err\n" }),
  terminal: (result: PeerResult) => assert.deepEqual(result, { code: 3, screen: terminalScreen }),
  sftp: (result: PeerResult) =>
    assert.deepEqual(result, {
      remote: ["renamed"],
      back: sha256(someBytes),
      saysMissing: true,
    }),
  "-L": (result: PeerResult) => assert.deepEqual(result, { answer: forwarded }),
  "-R": (result: PeerResult) => assert.deepEqual(result, { answers: [forwarded, forwarded] }),
  "own rekey": (result: PeerResult) =>
    assert.deepEqual(result, { code: 37, stdout: sha256(manyBytes), stderr: "err\n" }),
  "other rekey": (result: PeerResult) =>
    assert.deepEqual(result, { code: 37, stdout: sha256(manyBytes), stderr: "err\n" }),
  "ten at once": (result: PeerResult) =>
    assert.deepEqual(result, {
      sessions: Array.from(
        { length: 10 },
        (_, number) => ({ code: number, stdout: sha256(tenthInput(number)) }),
      ),
    }),
};

export type PeerCase = keyof typeof peerCases;

/** What the session of this number, 0 to 9, is given. */
export function tenthInput(number: number): Uint8Array {
  return new TextEncoder().encode(String(number).repeat(20_000));
}
