import assert from "node:assert/strict";
import { MalformedDataError } from "../lib/errors.ts";
import { SocksNegotiation } from "../lib/socks_server.ts";

const text = (words: string) => [...new TextEncoder().encode(words)];
const port80 = [0, 80];
const greeting = [5, 1, 0];

/** What a client says at once, what it is answered, and where it is led. */
const understood: [string, number[], { answer: number[]; host: string; port: number }][] = [
  [
    "version 4 with an address",
    [4, 1, ...port80, 192, 0, 2, 7, ...text("jane"), 0],
    { answer: [0, 90, 0, 0, 0, 0, 0, 0], host: "192.0.2.7", port: 80 },
  ],
  [
    "version 4 without a user",
    [4, 1, 0xff, 0xff, 10, 0, 0, 1, 0],
    { answer: [0, 90, 0, 0, 0, 0, 0, 0], host: "10.0.0.1", port: 65_535 },
  ],
  [
    "version 4a with a name",
    [4, 1, ...port80, 0, 0, 0, 1, ...text("jane"), 0, ...text("example.com"), 0],
    { answer: [0, 90, 0, 0, 0, 0, 0, 0], host: "example.com", port: 80 },
  ],
  [
    "version 4 with the address of no host",
    [4, 1, ...port80, 0, 0, 0, 0, 0],
    { answer: [0, 90, 0, 0, 0, 0, 0, 0], host: "0.0.0.0", port: 80 },
  ],
  [
    "version 5 with an address",
    [...greeting, 5, 1, 0, 1, 192, 0, 2, 7, ...port80],
    { answer: [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, ...port80], host: "192.0.2.7", port: 80 },
  ],
  [
    "version 5 with a name",
    [...greeting, 5, 1, 0, 3, 11, ...text("example.com"), 1, 187],
    { answer: [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 1, 187], host: "example.com", port: 443 },
  ],
  [
    "version 5 with the longest name",
    [...greeting, 5, 1, 0, 3, 255, ...text("x".repeat(255)), ...port80],
    { answer: [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, ...port80], host: "x".repeat(255), port: 80 },
  ],
  [
    "version 5 with an address of IPv6",
    [...greeting, 5, 1, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, ...port80],
    { answer: [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, ...port80], host: "2001:db8::1", port: 80 },
  ],
  [
    "version 5 with several ways to authenticate",
    [5, 3, 2, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, ...port80],
    { answer: [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, ...port80], host: "127.0.0.1", port: 80 },
  ],
];

for (const [what, said, { answer, ...destination }] of understood) {
  Deno.test(`SOCKS: ${what} is understood, in pieces too, and nothing behind it is taken`, () => {
    const behind = text("GET /");
    const { answer: answered, request } = new SocksNegotiation().take(
      Uint8Array.of(...said, ...behind),
    );
    assert.deepEqual([...answered], answer);
    assert.deepEqual(request?.destination, destination);
    assert.deepEqual([...request!.rest], behind);

    const negotiation = new SocksNegotiation();
    const steps = said.map((byte) => negotiation.take(Uint8Array.of(byte)));
    assert.deepEqual(steps.flatMap((step) => [...step.answer]), answer);
    assert.deepEqual(steps.findIndex((step) => step.request), said.length - 1);
    assert.deepEqual(steps.at(-1)!.request?.destination, destination);
    assert.equal(steps.at(-1)!.request?.rest.length, 0);
  });
}

Deno.test("SOCKS: the greeting of version 5 is answered before there is a request", () => {
  const negotiation = new SocksNegotiation();
  assert.deepEqual([...negotiation.take(Uint8Array.of(5, 1)).answer], []);
  const { answer, request } = negotiation.take(Uint8Array.of(0));
  assert.deepEqual([...answer], [5, 0]);
  assert.equal(request, undefined);
});

/** What is not answered. */
const refused: [string, number[]][] = [
  ["a request of HTTP", text("G")],
  ["an unknown version", [6]],
  ["version 4 that wants to listen", [4, 2, ...port80, 192, 0, 2, 7, 0]],
  ["version 4a without a name", [4, 1, ...port80, 0, 0, 0, 1, 0, 0]],
  ["version 4 with an endless user", [4, 1, ...port80, 192, 0, 2, 7, ...text("x".repeat(1025))]],
  ["version 4 with a long user", [4, 1, ...port80, 1, 2, 3, 4, ...text("x".repeat(1025)), 0]],
  ["version 4a with an endless name", [4, 1, 0, 80, 0, 0, 0, 1, 0, ...text("x".repeat(1025))]],
  ["version 5 with a password alone", [5, 1, 2]],
  ["version 5 without any way to authenticate", [5, 0]],
  ["version 5 that wants to listen", [...greeting, 5, 2, 0, 1, 127, 0, 0, 1, ...port80]],
  ["version 5 with datagrams", [...greeting, 5, 3, 0, 1, 127, 0, 0, 1, ...port80]],
  ["version 5 with an unknown kind of address", [...greeting, 5, 1, 0, 2, 0]],
  ["version 5 with an empty name", [...greeting, 5, 1, 0, 3, 0, ...port80]],
  ["version 5 with a NUL in a name", [...greeting, 5, 1, 0, 3, 3, 97, 0, 98, ...port80]],
  ["a request of another version after the greeting", [...greeting, 4]],
];

for (const [what, said] of refused) {
  Deno.test(`SOCKS: ${what} is not understood`, () => {
    assert.throws(() => new SocksNegotiation().take(Uint8Array.from(said)), MalformedDataError);
    // And not before its last byte at the latest.
    const negotiation = new SocksNegotiation();
    assert.throws(() => {
      for (const byte of said) {
        assert.equal(negotiation.take(Uint8Array.of(byte)).request, undefined);
      }
    }, MalformedDataError);
  });
}
