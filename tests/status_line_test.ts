/** The status line: its text, when it is told, and how it lives with what others write. */

import assert from "node:assert/strict";
import { widthOf } from "../lib/fold.ts";
import type { ShimStatus, UpstreamStatus } from "../lib/status.ts";
import { noRates, ratesBetween, statusLineText } from "../lib/status_line.ts";
import { StatusLine } from "../lib/status_line_feed.ts";
import { type LineTerminal, type LineText, TerminalLine } from "../lib/status_line_terminal.ts";
import { ManualClock } from "./support/memory.ts";
import { screenOf } from "./support/screen.ts";
import { settled } from "./support/scripted_connector.ts";
import { ago, channel, idle } from "./support/statuses.ts";

const roundTrip = { milliseconds: 12.345, time: ago(1000) };

function host(
  name: string,
  { clients = 0, channels = 0, ...upstream }:
    & Partial<UpstreamStatus>
    & { clients?: number; channels?: number } = {},
): ShimStatus {
  return {
    ...idle,
    name,
    upstream: { ...idle.upstream, reason: null, ...upstream },
    clients: Array.from({ length: clients }, (_, id) => ({
      ...{ id, carrier: "port", since: ago(1), address: null, user: null, key: null },
      ...{ exchange: null, program: null },
      channels: id > 0 ? [] : Array.from({ length: channels }, (_, number) => channel(number)),
    })),
  };
}

const prod = host("prod", { state: "ready", roundTrip, clients: 3, channels: 5 });
const staging = host("staging", { state: "waiting", nextAttempt: ago(-3400) });
const rates = { toHostBytes: 1_234_567, toClientBytes: 34_000 };

function shown(statuses: ShimStatus[], columns = 79, its = noRates): string {
  return statusLineText(statuses, { columns, rates: its });
}

Deno.test("the line tells the state, the round trip, clients, channels and rates", () => {
  assert.equal(shown([prod]), "prod ready 12 ms · 3 clients · 5 channels");
  assert.equal(
    shown([prod], 79, rates),
    "prod ready 12 ms · 3 clients · 5 channels · up 1.2 MB/s · down 34 kB/s",
  );
  assert.equal(
    shown([prod, staging]),
    "prod ready 12 ms · staging waiting 4 s · 3 clients · 5 channels",
  );
  const states: [Partial<UpstreamStatus> & { clients?: number }, string][] = [
    [{ state: "idle" }, "a starting · no clients"],
    [{ state: "connecting", clients: 1 }, "a connecting · 1 client"],
    [{ state: "ready" }, "a ready · no clients"],
    [
      { state: "ready", roundTrip: { ...roundTrip, milliseconds: 0.42 } },
      "a ready 0.4 ms · no clients",
    ],
    [{ state: "waiting", nextAttempt: ago(1) }, "a waiting · no clients"],
    [{ state: "waiting", nextAttempt: ago(-150_000) }, "a waiting 3 min · no clients"],
    [{ state: "asleep" }, "a asleep · no clients"],
    [{ state: "stopped" }, "a stopped · no clients"],
    [{ state: "closed" }, "a closed · no clients"],
  ];
  for (const [facts, text] of states) assert.equal(shown([host("a", facts)]), text);
});

Deno.test("where there is less room the line says less, and never takes more", () => {
  const forty = (statuses: ShimStatus[], its = noRates) => shown(statuses, 39, its);
  assert.equal(forty([prod]), "prod ready 12 ms · 3 clients");
  assert.equal(shown([prod], 45, rates), "prod ready 12 ms · 3 clients · 1.3 MB/s");
  assert.equal(forty([prod, staging]), "prod ready 12 ms · staging waiting 4 s");
  assert.equal(shown([prod, staging], 38), "prod ready · staging waiting");
  assert.equal(
    forty([prod, staging, host("database")], rates),
    "1 of 3 ready · 3 clients · 1.3 MB/s",
  );
  const long = host("a-very-long-name.of.some.example.com", { ...prod.upstream, clients: 1 });
  assert.equal(forty([long]), "a-very-lo... ready 12 ms · 1 client");
  for (const statuses of [[prod], [long], [prod, staging], Array<ShimStatus>(30).fill(prod)]) {
    for (let columns = 15; columns < 200; columns++) {
      const text = shown(statuses, columns, rates);
      assert(widthOf(text) <= columns, `${columns}: ${text}`);
      assert.notEqual(text, "");
    }
  }
});

Deno.test("names with wide, combining and controlling characters take no more room than is counted", () => {
  assert.equal(shown([host("a\u202eb\u001b[2J")]), "a\\u202eb\\x1b[2J asleep · no clients");
  assert.equal(shown([host("漢字漢字漢字漢字")], 39), "漢字漢字漢字漢字 asleep · no clients");
  assert.equal(shown([host("漢字漢字漢字漢字")], 35), "漢字漢字... asleep · no clients");
  assert.equal(shown([host("größe")], 28), "größe asleep · no clients");
  assert.equal(shown([host("größe")], 27), "größe asleep");
});

Deno.test("rates are what all hosts have relayed in the time between, and little is none", () => {
  const later = (status: ShimStatus, toHostBytes: number, toClientBytes: number) => ({
    ...status,
    time: ago(-2000),
    totals: { ...status.totals, toHostBytes, toClientBytes },
  });
  const found = ratesBetween([prod, staging], [later(prod, 5000, 0), later(staging, 1000, 900)]);
  assert.deepEqual(found, { toHostBytes: 3000, toClientBytes: 450 });
  assert.equal(shown([prod], 79, found), "prod ready 12 ms · 3 clients · 5 channels · up 3.0 kB/s");
  assert.deepEqual(ratesBetween([prod], [prod]), noRates);
});

/** A status line whose texts are kept, and whose time is simulated. */
function startLine(statuses: () => ShimStatus[]) {
  const clock = new ManualClock();
  const texts: (string | undefined)[] = [];
  const line = new StatusLine({
    line: { show: (text: LineText | undefined) => texts.push(text?.(79)) },
    readStatuses: () => Promise.resolve(statuses()),
    schedule: (delayMs, action) => clock.schedule(delayMs, action),
    now: () => clock.nowMs,
  });
  const pass = async (ms: number) => {
    clock.advance(ms);
    await settled();
  };
  return { line, texts, clock, pass };
}

Deno.test("changes are told at once, at most twice a second, and without any there is no timer", async () => {
  let count = 0;
  const { line, texts, clock, pass } = startLine(() => [host("a", { clients: ++count })]);
  await pass(0);
  assert.deepEqual(texts, ["a asleep · 1 client"]);
  assert.equal(clock.pending, 0);
  for (let change = 0; change < 10; change++) line.onChange();
  await pass(499);
  assert.equal(texts.length, 1);
  await pass(1);
  assert.deepEqual(texts.slice(1), ["a asleep · 2 clients"]);
  await pass(10_000);
  assert.equal(clock.pending, 0);
  line.onTick();
  line.onTick();
  await pass(0);
  assert.deepEqual(texts.slice(2), ["a asleep · 3 clients"]);
  assert.equal(clock.pending, 0);
  line.onChange();
  line.close();
  line.onChange();
  line.onTick();
  await pass(10_000);
  assert.deepEqual(texts.slice(3), [undefined]);
});

Deno.test("rates are told while data crosses, and no longer", async () => {
  const start = Date.parse(ago(0));
  let toHostBytes = 0;
  const { line, texts, clock, pass } = startLine(() => [{
    ...prod,
    time: new Date(start + clock.nowMs).toISOString(),
    totals: { ...prod.totals, toHostBytes },
  }]);
  await pass(0);
  for (const bytes of [2_000_000, 500_000, 0]) {
    toHostBytes += bytes;
    clock.advance(1000);
    line.onTick();
    await settled();
  }
  assert.deepEqual(texts.map((text) => text!.split(" · ").slice(3)), [
    [],
    ["up 2.0 MB/s"],
    ["up 500 kB/s"],
    [],
  ]);
});

/** A terminal that can be stopped. */
class Screen implements LineTerminal {
  written = "";
  size: { columns: number; rows: number } | undefined = { columns: 40, rows: 8 };
  hasColours = false;
  writeCount = 0;
  #stop: PromiseWithResolvers<void> | undefined;

  async write(bytes: Uint8Array): Promise<number> {
    this.writeCount++;
    await this.#stop?.promise;
    this.writeNow(bytes);
    return bytes.length;
  }

  writeNow(bytes: Uint8Array): void {
    this.written += new TextDecoder().decode(bytes).replaceAll("\n", "\r\n");
  }

  dimensions() {
    return this.size;
  }

  /** Takes nothing until the returned function is called. */
  stop(): () => void {
    this.#stop = Promise.withResolvers();
    return () => {
      this.#stop!.resolve();
      this.#stop = undefined;
    };
  }

  get rows(): string[] {
    return screenOf(this.written, { columns: 40, rows: 8 });
  }
}

const bytes = (text: string) => new TextEncoder().encode(text);

function startTerminal() {
  const screen = new Screen();
  const line = new TerminalLine(screen);
  return { screen, line, above: line.above(screen) };
}

Deno.test("what is written goes above the line, also at the bottom of the screen", async () => {
  const { screen, line, above } = startTerminal();
  await above.write(bytes("before\n"));
  assert.equal(screen.written, "before\r\n");
  line.show(() => "line");
  await settled();
  assert.deepEqual(screen.rows, ["before", "", "line"]);
  for (let number = 0; number < 9; number++) await above.write(bytes(`log ${number}\n`));
  const logs = ["log 3", "log 4", "log 5", "log 6", "log 7", "log 8"];
  assert.deepEqual(screen.rows, [...logs, "", "line"]);
  line.show(() => "another");
  await settled();
  assert.deepEqual(screen.rows, [...logs, "", "another"]);
  line.show(undefined);
  await settled();
  assert.deepEqual(screen.rows, logs);
  await above.write(bytes("after\n"));
  assert.deepEqual(screen.rows, [...logs, "after"]);
});

Deno.test("what others write stays, also half a line of it", async () => {
  const { screen, line, above } = startTerminal();
  line.show(() => "line");
  await settled();
  screen.writeNow(bytes("of others\nPassword: "));
  line.show(() => "longer line");
  await settled();
  assert.deepEqual(screen.rows, ["of others", "Password:", "longer line"]);
  await above.write(bytes("log\n"));
  assert.deepEqual(screen.rows, ["of others", "Password: log", "", "longer line"]);
});

Deno.test("it is drawn when its text is another one, or others have changed what stands there", async () => {
  const { screen, line } = startTerminal();
  line.show(() => "line");
  await settled();
  const { written } = screen;
  line.show(() => "line");
  await settled();
  assert.equal(screen.written, written);
  line.redraw();
  await settled();
  assert.equal(screen.written, written + written);
});

Deno.test("it has as many columns as there are less one, and is gone where there are too few", async () => {
  const { screen, line } = startTerminal();
  line.show((columns) => String(columns));
  await settled();
  assert.deepEqual(screen.rows, ["", "39"]);
  screen.size = { columns: 20, rows: 8 };
  line.redraw();
  await settled();
  assert.deepEqual(screen.rows, ["", "19"]);
  for (const size of [{ columns: 15, rows: 8 }, { columns: 20, rows: 3 }]) {
    screen.size = size;
    line.redraw();
    await settled();
    assert.deepEqual(screen.rows, [""]);
  }
});

Deno.test("it is gone while it is hidden, as often as that was wanted, and while the terminal is another's", async () => {
  const { screen, line, above } = startTerminal();
  line.show(() => "line");
  await settled();
  await Promise.all([line.hide(), line.hide()]);
  screen.writeNow(bytes("Code: "));
  await above.write(bytes("log\n"));
  line.unhide();
  line.show(() => "new");
  await settled();
  assert.deepEqual(screen.rows, ["Code: log"]);
  line.unhide();
  await settled();
  assert.deepEqual(screen.rows, ["Code: log", "", "new"]);
  line.clearNow();
  const { size } = screen;
  screen.size = undefined;
  line.redraw();
  await above.write(bytes("behind\n"));
  assert.deepEqual(screen.rows, ["Code: log", "behind"]);
  screen.size = size;
  line.redraw();
  await settled();
  assert.deepEqual(screen.rows, ["Code: log", "behind", "", "new"]);
});

Deno.test("while the terminal takes nothing, one write waits, and the last text is shown then", async () => {
  const { screen, line } = startTerminal();
  line.show(() => "0");
  await settled();
  const resume = screen.stop();
  for (let number = 1; number < 100; number++) {
    line.show(() => String(number));
    await settled();
  }
  assert.equal(screen.writeCount, 2);
  resume();
  await settled();
  assert.deepEqual(screen.rows, ["", "99"]);
  assert.equal(screen.writeCount, 3);
});

Deno.test("a terminal that is gone is the concern of whoever writes, and nobody else's", async () => {
  const { screen, line } = startTerminal();
  screen.write = () => Promise.reject(new Error("gone"));
  const above = line.above({ write: () => Promise.reject(new Error("gone")) });
  line.show(() => "line");
  await assert.rejects(above.write(bytes("log\n")), /gone/);
  await line.hide();
  line.unhide();
  await settled();
});
