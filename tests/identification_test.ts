/** The first bytes of a connection: the identification line, in whatever pieces it comes. */

import assert from "node:assert/strict";
import { IdentificationCollector } from "../lib/ssh2_socket.ts";

const encoder = new TextEncoder();
const line = "SSH-2.0-OpenSSH_9.9p1 Debian-3\r\n";

/** Pushes pieces until one completes the line; the bytes that come out then. */
function collect(role: "server" | "client", pieces: string[]): string | undefined {
  const collector = new IdentificationCollector(role);
  for (const piece of pieces) {
    assert.equal(collector.isComplete, false);
    const ready = collector.push(encoder.encode(piece));
    if (ready === undefined) continue;
    assert.equal(collector.isComplete, true);
    return new TextDecoder().decode(ready);
  }
  assert.equal(collector.isComplete, false);
  return undefined;
}

Deno.test("an identification line comes out whole, wherever it was cut", () => {
  for (const role of ["server", "client"] as const) {
    assert.equal(collect(role, [line]), line);
    assert.equal(collect(role, [...line]), line);
    for (let at = 0; at <= line.length; at++) {
      assert.equal(collect(role, [line.slice(0, at), line.slice(at)]), line);
    }
  }
});

Deno.test("a line without its end is waited for", () => {
  for (let length = 0; length < line.length; length++) {
    assert.equal(collect("server", [line.slice(0, length)]), undefined);
  }
});

Deno.test("what follows the line comes with it", () => {
  const text = `${line}\0\0\x05\x0c`;
  assert.equal(collect("server", [text]), text);
  assert.equal(collect("server", [...line.slice(0, -1), "\nrest"]), `${line}rest`);
});

Deno.test("a line may end with a newline alone", () => {
  assert.equal(collect("server", [..."SSH-2.0-dropbear\n"]), "SSH-2.0-dropbear\n");
});

Deno.test("a client that speaks something else is refused at its first wrong byte", () => {
  for (
    const text of [
      "GET / HTTP/1.1\r\n",
      "S\r\n",
      "\n",
      "\r\n",
      "\0",
      "ssh-2.0-x\r\n",
      "SSH2\r\n",
      "SSH\n",
    ]
  ) {
    assert.throws(() => collect("server", [text]), /does not speak SSH/, text);
  }
  const collector = new IdentificationCollector("server");
  collector.push(encoder.encode("SS"));
  assert.throws(() => collector.push(encoder.encode("L")), /does not speak SSH/);
});

Deno.test("a line of 255 bytes is taken, a longer one is refused even before its end", () => {
  const longest = `SSH-2.0-${"x".repeat(247)}`;
  assert.equal(collect("server", [`${longest}\n`]), `${longest}\n`);
  assert.equal(collect("server", [longest, "\n"]), `${longest}\n`);
  for (const role of ["server", "client"] as const) {
    assert.throws(() => collect(role, [`${longest}x\n`]), /does not speak SSH/);
    assert.throws(() => collect(role, [...longest, "x"]), /does not speak SSH/);
  }
});

Deno.test("a server may greet with lines of any kind before it identifies itself", () => {
  for (
    const greeting of [
      "Welcome\r\n",
      "\n",
      "\r\n\r\n",
      "S\n",
      "SS\n",
      "SSH\n",
      "SSH without a dash\n",
      "one\ntwo\n\nSS",
    ].map((text) => text.endsWith("\n") ? text : `${text}\n`)
  ) {
    const text = `${greeting}${line}`;
    assert.equal(collect("client", [text]), text);
    assert.equal(collect("client", [...text]), text);
    for (let at = 0; at <= text.length; at++) {
      assert.equal(collect("client", [text.slice(0, at), text.slice(at)]), text);
    }
  }
});

Deno.test("a server's greeting has at most 8192 bytes and 1024 lines", () => {
  const long = `${"x".repeat(8191)}\n`;
  assert.equal(collect("client", [long]), undefined);
  assert.equal(collect("client", [long, line]), `${long}${line}`);
  assert.equal(collect("client", [`${long}${line}more`]), `${long}${line}more`);
  assert.throws(() => collect("client", [`x${long}`]), /does not speak SSH/);
  assert.throws(() => collect("client", ["x".repeat(8192)]), /does not speak SSH/);
  assert.throws(() => collect("client", [long, "x"]), /does not speak SSH/);
  const lines = "\n".repeat(1024);
  assert.equal(collect("client", [lines, line]), `${lines}${line}`);
  assert.equal(collect("client", [`${lines}${line}`]), `${lines}${line}`);
  assert.throws(() => collect("client", [`\n${lines}${line}`]), /does not speak SSH/);
});

Deno.test("bytes that were pushed may be changed afterwards", () => {
  const collector = new IdentificationCollector("server");
  const piece = encoder.encode("SSH-2.0-");
  collector.push(piece);
  piece.fill(0);
  assert.deepEqual(collector.push(encoder.encode("x\n")), encoder.encode("SSH-2.0-x\n"));
});
