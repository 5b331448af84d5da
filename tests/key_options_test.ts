/** What the options before a key mean, and what a file of authorized keys says of one. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { isAddressPattern, isFrom } from "../lib/address_patterns.ts";
import { AuthorizedKeys } from "../lib/authorized_keys.ts";
import { everything } from "../lib/client_rules.ts";
import { parseKeyOptions } from "../lib/key_options.ts";
import { encodeFields } from "../lib/ssh_data.ts";

function optionsOf(text: string) {
  const parsed = parseKeyOptions(text);
  assert(typeof parsed !== "string", `${text}: ${parsed}`);
  return parsed;
}

Deno.test("options are read as sshd reads them, one after the other", () => {
  assert.deepEqual(optionsOf("").permissions, everything);
  const { permissions } = optionsOf(
    'restrict,pty,permitopen="[::1]:80",PermitOpen="*:*",permitlisten="8080",permitlisten="a*:1"',
  );
  assert.deepEqual(permissions, {
    ...everything,
    ...{ terminal: true, agentForwarding: false, x11Forwarding: false, portForwarding: false },
    permittedOpens: [{ host: "::1", port: 80 }, { host: "*", port: "*" }],
    permittedListens: [{ host: "*", port: 8080 }, { host: "a*", port: 1 }],
  });
  // The last of two that contradict each other counts.
  assert.equal(optionsOf("pty,restrict").permissions.terminal, false);
  assert.equal(optionsOf("no-pty,pty").permissions.terminal, true);
  assert.equal(optionsOf('command="a \\"b\\" \\c,d=e"').permissions.command, 'a "b" \\c,d=e');
  const { needsTouch, needsVerification } = optionsOf("no-touch-required,verify-required");
  assert.deepEqual([needsTouch, needsVerification], [false, true]);
});

Deno.test("times end a key at their last moment, in UTC or in this machine's time", () => {
  const timeOf = (text: string) => optionsOf(`expiry-time="${text}"`).expiresAt;
  assert.equal(timeOf("20240229Z"), Date.UTC(2024, 1, 29));
  assert.equal(timeOf("202402292359z"), Date.UTC(2024, 1, 29, 23, 59));
  assert.equal(timeOf("20240229235958UTC"), Date.UTC(2024, 1, 29, 23, 59, 58));
  assert.equal(timeOf("20240229235958"), new Date(2024, 1, 29, 23, 59, 58).getTime());
  for (
    const text of ["", "2024", "20240230", "20241301", "202402292460", "20240229 ", "x0240229"]
  ) {
    assert.equal(typeof parseKeyOptions(`expiry-time="${text}"`), "string", text);
  }
});

Deno.test("what is not understood is told without repeating it at length", () => {
  for (
    const text of [
      ...["x".repeat(1000), `${"x".repeat(1000)}="y"`, ",", "pty,", ",pty", "pty,,pty", "pty pty"],
      ...['command="', 'command="a\\"', 'command="a"b', 'command=""', 'command="internal-sftp x"'],
      ...['permitopen=":80"', 'permitopen="::1:80"', 'permitopen="a:b"', 'permitopen="a/b:1"'],
      ...['from="10.0.0.0/8,1.2.3.4/40"', 'from="a,,b"', 'from="a",from="b"', 'environment="=x"'],
      ...["\u00e9", "pty\0", 'command="a\0b"'],
    ]
  ) {
    const reason = parseKeyOptions(text);
    assert(typeof reason === "string", JSON.stringify(text));
    assert.match(reason, /^its options? [\w…-]{0,40} ?(is|are|cannot)/);
  }
});

Deno.test("addresses are compared with wildcards and networks of both families", () => {
  const cases: [address: string, patterns: string, isMeant: boolean][] = [
    ["10.1.2.3", "10.0.0.0/8", true],
    ["11.1.2.3", "10.0.0.0/8", false],
    ["10.1.2.3", "10.0.0.0/8,!10.1.0.0/16", false],
    ["10.1.2.3", "!10.1.0.0/16", false],
    ["::ffff:10.1.2.3", "10.1.2.3", true],
    ["2001:db8::1", "2001:DB8::/32", true],
    ["2001:db8::1", "2001:db8:0:0:0:0:0:1", true],
    ["2001:db8::1", "2001:db8::*", true],
    ["::1", "127.0.0.1", false],
    ["127.0.0.1", "::1,127.0.0.?", true],
  ];
  for (const [address, patterns, isMeant] of cases) {
    assert.equal(isFrom(address, patterns.split(",")), isMeant, `${address} ${patterns}`);
  }
  for (const pattern of ["", "!", "10.0.0.1/8", "10.0.0.0/33", "a/b"]) {
    assert.equal(isAddressPattern(pattern), false, pattern);
  }
});

const key = encodeFields("ssh-ed25519", new Uint8Array(32).fill(7));
const other = encodeFields("ssh-ed25519", new Uint8Array(32).fill(8));
const lineOf = (publicKey: Uint8Array) =>
  `ssh-ed25519 ${Buffer.from(publicKey).toString("base64")}`;

Deno.test("the first line that has a key and counts is the one", () => {
  const judge = (text: string, publicKey = key) =>
    new AuthorizedKeys("FILE", new TextEncoder().encode(text))
      .judge(publicKey, { address: "127.0.0.1", now: Date.UTC(2026, 0, 1) });
  const accepted = (text: string) => {
    const verdict = judge(text);
    assert(verdict.kind === "accepted", text);
    return verdict.key;
  };
  assert.equal(accepted(`\n# x\n${lineOf(key)} a comment`).name, "FILE, line 3");
  assert.equal(accepted(`${lineOf(other)}\n\t ${lineOf(key)}\r\n`).permissions, undefined);
  assert.equal(accepted(`restrict ${lineOf(key)}\n${lineOf(key)}`).permissions?.terminal, false);
  assert.equal(
    accepted(`from="10.*" ${lineOf(key)}\nexpiry-time="2025" ${lineOf(other)}\n${lineOf(key)}`)
      .name,
    "FILE, line 3",
  );
  assert.equal(
    accepted(`command="echo a b" \t ${lineOf(key)} "x`).permissions?.command,
    "echo a b",
  );
  for (
    const text of [
      `expiry-time="20250101Z" ${lineOf(key)}`,
      `from="10.*" ${lineOf(key)}`,
      `no-such ${lineOf(key)}\n${lineOf(key)}`,
      `${lineOf(key)}\ncommand="x ${lineOf(key)}`,
      `${lineOf(key)}\nssh-ed25519${lineOf(key)}`,
    ]
  ) {
    const verdict = judge(text);
    assert(verdict.kind === "refused", text);
    assert.match(verdict.reason, /^FILE, line \d: /);
  }
  for (const text of ["", lineOf(other), `#${lineOf(key)}`, "ssh-ed25519", "x\n".repeat(1000)]) {
    assert.equal(judge(text).kind, "unknown");
  }
  const faults = new AuthorizedKeys("FILE", new TextEncoder().encode(`x ${lineOf(key)}\nrubbish`));
  assert.deepEqual(faults.faults, [
    "FILE, line 1: its option x is unknown",
    "FILE, line 2: there is no key in it",
  ]);
});
