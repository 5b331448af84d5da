/** A status and a list as people see them. */

import assert from "node:assert/strict";
import { widthOf } from "../lib/fold.ts";
import { durationText, sizeText } from "../lib/quantity_text.ts";
import { shownBytes, shownText } from "../lib/shown_text.ts";
import type { ChannelStatus, ShimStatus } from "../lib/status.ts";
import { withRates } from "../lib/status_rates.ts";
import { listText, statusText } from "../lib/status_text.ts";
import { ago, channel, exchange, hour, idle, minute } from "./support/statuses.ts";

/** One that is used. */
const busy: ShimStatus = {
  ...idle,
  local: { address: "127.0.0.1", port: 2222, sshNames: ["prod.shim"] },
  upstream: {
    ...idle.upstream,
    state: "ready",
    since: ago(2 * hour + 13 * minute),
    reason: null,
    exchange,
    roundTrip: { milliseconds: 12.345, time: ago(1000) },
    sessions: { count: 2, limit: 10, limitIs: "learned" },
    losses: [{
      since: ago(3 * minute),
      reason: "deploy@prod.example.com:22: Connection reset by peer",
      endedBy: "network",
      awayMs: 2100,
      attempts: 2,
      backBy: "client",
    }],
  },
  overflow: {
    maximum: 3,
    connections: [{ since: ago(minute), channels: 1, exchange, roundTrip: null }],
  },
  clients: [
    {
      id: 3,
      carrier: "port",
      since: ago(12 * minute),
      address: "127.0.0.1:51234",
      user: "git",
      key: null,
      exchange,
      program: { uid: 0, pid: 4711, name: "/usr/bin/ssh" },
      channels: [
        channel(9, {
          runs: {
            kind: "command",
            text: "make -j8 all && echo this is longer than any line of it",
          },
          toClientBytesPerSecond: 312_000,
          state: { kind: "half-closed", by: "client" },
        }),
        channel(13, { runs: { kind: "shell" }, hasTerminal: true, isOnOverflow: true }),
        channel(14, { type: "direct-tcpip", target: "127.0.0.1:5432" }),
      ],
    },
    {
      id: 4,
      carrier: "lane",
      since: ago(9999),
      address: null,
      user: null,
      key: null,
      exchange: null,
      program: null,
      channels: [channel(105, {
        state: { kind: "waiting", for: "session" },
        toHostBytes: 0,
        toClientBytes: 0,
        ageMs: 3200,
      })],
    },
  ],
  forwards: [
    { kind: "tcpip", place: "127.0.0.1:8080", state: "listening", since: ago(0), client: 3 },
    { kind: "streamlocal", place: "/run/x.sock", state: "lost", since: ago(0), client: 4 },
  ],
  waiting: { ...idle.waiting, session: { count: 1, longestMs: 3200 } },
};

Deno.test("a status in 80 columns has a table of channels", () => {
  assert.equal(
    statusText(busy, { columns: 80 }),
    `\
prod: deploy@prod.example.com:22 at 127.0.0.1:2222, ssh prod.shim
  connected for 2 h 13 min, round trip 12 ms
  curve25519-sha256 (not post-quantum), ssh-ed25519, aes128-ctr, hmac-sha2-256
  2 of 10 sessions (learned), 1 of 3 further connections
  waiting: 1 for a free session (3.2 s)
  lost once, last 3 min ago for 2.1 s, back for a client:
    deploy@prod.example.com:22: Connection reset by peer
  process 4000 for 3 h, 88 MB of memory
                                                TO HOST        FROM HOST     FOR
client 3, /usr/bin/ssh (pid 4711), from 127.0.0.1:51234, as git, for 12 min
    9 make -j8 all && echo thi..., half closed   1.2 kB  30 MB, 312 kB/s  12 min
   13 shell (terminal), further connection       1.2 kB            30 MB  12 min
   14 to 127.0.0.1:5432                          1.2 kB            30 MB  12 min
client 4, by the control socket, for 10 s
  105 session, waits for a free session             0 B              0 B   3.2 s
remote forwards
  127.0.0.1:8080 of client 3
  /run/x.sock of client 4, lost
`,
  );
});

Deno.test("in 40 columns each channel is a sentence", () => {
  assert.equal(
    statusText(busy, { columns: 40 }),
    `\
prod: deploy@prod.example.com:22 at
  127.0.0.1:2222, ssh prod.shim
  connected for 2 h 13 min, round
    trip 12 ms
  curve25519-sha256 (not
    post-quantum), ssh-ed25519,
    aes128-ctr, hmac-sha2-256
  2 of 10 sessions (learned), 1 of 3
    further connections
  waiting: 1 for a free session
    (3.2 s)
  lost once, last 3 min ago for
    2.1 s, back for a client:
    deploy@prod.example.com:22:
    Connection reset by peer
  process 4000 for 3 h, 88 MB of
    memory
client 3, /usr/bin/ssh (pid 4711),
  from 127.0.0.1:51234, as git, for
  12 min
  9 make -j8 all && echo thi..., half
    closed: 1.2 kB to the host,
    30 MB, 312 kB/s from it, 12 min
  13 shell (terminal), further
    connection: 1.2 kB to the host,
    30 MB from it, 12 min
  14 to 127.0.0.1:5432: 1.2 kB to the
    host, 30 MB from it, 12 min
client 4, by the control socket, for
  10 s
  105 session, waits for a free
    session: 0 B to the host, 0 B from
    it, 3.2 s
remote forwards
  127.0.0.1:8080 of client 3
  /run/x.sock of client 4, lost
`,
  );
});

Deno.test("each state says what comes next", () => {
  const lineOf = (upstream: Partial<ShimStatus["upstream"]>) =>
    statusText({ ...idle, upstream: { ...idle.upstream, ...upstream } }, { columns: 200 })
      .split("\n")[1]!.trim();
  const reason = "gone";
  assert.equal(lineOf({}), "asleep for 5.0 s until a client comes: no client has come yet");
  assert.equal(
    lineOf({ state: "waiting", nextAttempt: ago(-7000), reason }),
    "lost, tried again in 7.0 s: gone",
  );
  assert.equal(
    lineOf({ state: "stopped", reason }),
    "stopped for 5.0 s, and not tried again before SIGUSR2: gone",
  );
  assert.equal(lineOf({ state: "connecting", reason: null }), "connecting for 5.0 s");
  assert.equal(lineOf({ state: "idle", reason: null }), "starting for 5.0 s");
  assert.equal(lineOf({ state: "closed", reason: null }), "closed for 5.0 s");
  assert.equal(
    lineOf({ state: "ready", reason: null, away: { since: ago(3000), reason: "reset" } }),
    "the connection is away for 3.0 s, sessions are kept: reset",
  );
});

Deno.test("no line is wider than the terminal, whatever clients ask for", () => {
  const texts = ["\u{1f600}".repeat(100), "語".repeat(200), "x".repeat(200), "a b ".repeat(50)];
  for (const text of texts) {
    const odd = channel(1, { runs: { kind: "command", text }, toHostBytes: 10 ** 15 });
    const [client] = busy.clients;
    const status = {
      ...busy,
      clients: [{ ...client!, user: text, channels: [odd] }],
      forwards: [{ ...busy.forwards[0]!, place: text }],
    };
    for (const columns of [30, 40, 60, 61, 80, 132]) {
      for (const line of statusText(status, { columns }).split("\n")) {
        assert(widthOf(line) <= columns, `${columns}: ${line}`);
      }
    }
  }
});

Deno.test("a list has a line for each host", () => {
  const second = { ...idle, name: "staging", local: { ...idle.local, address: "::1" } };
  assert.equal(
    listText([busy, second]),
    `\
NAME       HOST                        ADDRESS         STATE      CLIENTS  UP FOR
prod.shim  deploy@prod.example.com:22  127.0.0.1:2222  connected  2        3 h
staging    deploy@prod.example.com:22  [::1]:2222      asleep     0        3 h
`,
  );
  assert.equal(listText([]), "NAME  HOST  ADDRESS  STATE  CLIENTS  UP FOR\n");
});

Deno.test("two statuses tell the rates of the channels that both have", () => {
  const [client] = busy.clients;
  const withChannels = (time: string, channels: ChannelStatus[]): ShimStatus => ({
    ...busy,
    time,
    clients: [{ ...client!, channels }],
  });
  const before = withChannels(ago(2000), [channel(1, { toHostBytes: 100, toClientBytes: 5 })]);
  const after = withChannels(ago(0), [
    channel(1, { toHostBytes: 4100, toClientBytes: 5 }),
    channel(2),
  ]);
  const ratesOf = (status: ShimStatus) =>
    status.clients[0]!.channels.map((it) => [it.toHostBytesPerSecond, it.toClientBytesPerSecond]);
  assert.deepEqual(ratesOf(withRates(before, after)), [[2000, 0], [null, null]]);
  const other = { ...before, process: { ...before.process, pid: 4001 } };
  assert.deepEqual(ratesOf(withRates(other, after)), [[null, null], [null, null]]);
  assert.deepEqual(ratesOf(withRates(after, after)), [[null, null], [null, null]]);
});

Deno.test("sizes and durations have two digits or three, and the unit that fits", () => {
  const sizes: [number, string][] = [
    ...[[0, "0 B"], [999, "999 B"], [1000, "1.0 kB"], [9949, "9.9 kB"]] as [number, string][],
    ...[[9950, "10 kB"], [999_499, "999 kB"], [999_500, "1.0 MB"]] as [number, string][],
    ...[[1e9, "1.0 GB"], [2 ** 53, "9.0 PB"]] as [number, string][],
  ];
  for (const [bytes, text] of sizes) assert.equal(sizeText(bytes), text);
  const durations: [number, string][] = [
    ...[[0, "0.0 s"], [9949, "9.9 s"], [9950, "10 s"], [59_499, "59 s"]] as [number, string][],
    ...[[59_500, "1 min"], [59.4 * minute, "59 min"]] as [number, string][],
    ...[[59.6 * minute, "1 h"], [133 * minute, "2 h 13 min"]] as [number, string][],
    ...[[24 * hour, "1 d"], [76 * hour, "3 d 4 h"]] as [number, string][],
  ];
  for (const [ms, text] of durations) assert.equal(durationText(ms), text);
});

Deno.test("text from elsewhere is cut, and drives no terminal", () => {
  assert.equal(shownText("\x1b[31m\u202eabc\n"), "\\x1b[31m\\u202eabc\\n");
  assert.equal(shownText("x".repeat(200)), "x".repeat(200));
  assert.equal(shownText("x".repeat(201)), `${"x".repeat(199)}…`);
  assert.equal(shownText("\x1b".repeat(200)), `${"\\x1b".repeat(50).slice(0, 199)}…`);
  assert.equal(shownBytes(new TextEncoder().encode("é\0".repeat(1000)), 10), "é\\x00é\\x0…");
  assert.equal(shownBytes(new TextEncoder().encode("語".repeat(10)), 10), "語".repeat(10));
  assert.equal(shownBytes(Uint8Array.of(0xff, 0x61)), "\ufffda");
  assert(shownText("\u{1f600}".repeat(300)).isWellFormed());
});
