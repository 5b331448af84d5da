/** What is seen while the network is away with `--resume`: at terminals, and by those who watch. */

import assert from "node:assert/strict";
import { awayNoticeMs, showAway } from "../lib/away_notice.ts";
import type { Away } from "../lib/carried.ts";
import {
  type FaultyGround,
  startFaultyPath,
  targetThrough,
  untilLogged,
} from "./support/faulty.ts";
import { ManualClock } from "./support/memory.ts";
import { parseOpenMetrics } from "./support/openmetrics.ts";
import { Terminal } from "./support/pty.ts";
import { text } from "./support/run.ts";
import { screenOf } from "./support/screen.ts";
import { startServiceManager } from "./support/service_manager.ts";
import { startShim } from "./support/shim.ts";

const dimensions = { rows: 8, columns: 60 };
const notice = /no network since \d\d:\d\d:\d\d; what runs here is kept/;
// deno-lint-ignore no-control-regex
const takenBack = /\x1b\[2K\x1b8/;

async function startGround(words: string[] = [], environment = {}): Promise<FaultyGround> {
  await using resources = new AsyncDisposableStack();
  const path = resources.use(await startFaultyPath());
  const shim = resources.use(
    await startShim(path.upstream, {
      arguments: ["-F", "none", "--resume", "--reconnect-max-delay", "1", ...words],
      environment,
    }),
  );
  const target = targetThrough(shim, path);
  const owned = resources.move();
  return { ...path, shim, target, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function goAway({ proxy, shim }: FaultyGround): Promise<void> {
  await proxy.refuse();
  proxy.cutAll("rst");
  await untilLogged(shim.log, /the connection is away/);
}

function startShell({ target }: FaultyGround, command = "PS1='$ ' bash --norc --noprofile -i") {
  const words = target.sshCommand(command, ["-tt"]);
  return new Terminal(words, { environment: target.environment, dimensions });
}

Deno.test("a terminal has a line while the network is away, and one with a program on all of it has none", async () => {
  await using ground = await startGround();
  await using shell = startShell(ground);
  await shell.type("echo he''llo; seq 30\n");
  await shell.screen.waitFor(/^30\r\n.*\$ $/m);
  await shell.type("unfinished");
  await shell.screen.waitFor(/unfinished/);
  await using alternate = startShell(ground, "printf '\\33[?1049hwhole screen'; read line");
  await alternate.screen.waitFor(/whole screen/);
  const before = shell.screen.text;

  await goAway(ground);
  await shell.screen.waitFor(notice);
  const [shown, ...above] = screenOf(shell.screen.text, dimensions).reverse();
  assert.match(shown!, /^sshshim: no network since/);
  assert.deepEqual(above.reverse(), screenOf(before, dimensions).slice(-7));
  await ground.proxy.restore();
  await shell.screen.waitFor(takenBack);
  // One row of it has scrolled away, and the cursor is where it was.
  await shell.type("_go\n");
  await shell.screen.waitFor(/command not found/);
  const after = screenOf(shell.screen.text, dimensions);
  assert.ok(after.includes("$ unfinished_go"), after.join("\n"));
  assert.doesNotMatch(after.join("\n"), /network/);
  assert.doesNotMatch(alternate.screen.text, /network/);
});

Deno.test("with --quiet-resume terminals are told nothing", async () => {
  await using ground = await startGround(["--quiet-resume"]);
  await using shell = startShell(ground);
  await shell.screen.waitFor(/\$ $/);
  const from = ground.shim.log.text.length;
  await goAway(ground);
  // Longer than it takes elsewhere.
  await untilLogged(ground.shim.log, /is away since/, { from, count: 5 });
  await ground.proxy.restore();
  await untilLogged(ground.shim.log, /the connection is back/, { from });
  await shell.type("echo st''ill\n");
  await shell.screen.waitFor(/^still/m);
  assert.doesNotMatch(shell.screen.text, /network/);
});

Deno.test("the service manager and the metrics tell that the network is away", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const address = `${folder}/notify`;
    await using manager = await startServiceManager(address);
    await using ground = await startGround(["--notify", "--metrics", "127.0.0.1:0"], {
      NOTIFY_SOCKET: address,
    });
    const url = (await ground.shim.log.waitFor(/"url":"(http:[^"]+)"/))[1]!;
    const isAway = async () => {
      const page = await (await fetch(url)).text();
      const values = new Map(
        [...parseOpenMetrics(page).values()].flatMap(({ samples }) => [...samples]),
      );
      const host = `{host="${ground.upstream.host}"}`;
      const since = values.get(`sshshim_away_since_timestamp_seconds${host}`);
      return { away: values.get(`sshshim_away${host}`), hasSince: since !== undefined };
    };
    await manager.stdout.waitFor(/^STATUS=\S+: connected$/m);
    assert.deepEqual(await isAway(), { away: 0, hasSince: false });
    await goAway(ground);
    await manager.stdout.waitFor(
      /^STATUS=\S+: away since \S+, sessions are kept: .*reset/m,
    );
    assert.deepEqual(await isAway(), { away: 1, hasSince: true });
    const from = manager.stdout.text.length;
    await ground.proxy.restore();
    await manager.stdout.waitFor(/^STATUS=\S+: connected$/m, { from });
    assert.deepEqual(await isAway(), { away: 0, hasSince: false });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

// It counts whole seconds, so that one may be two.
Deno.test("a server that would end what does not answer it is told of once", async () => {
  await using path = await startFaultyPath({ config: ["ClientAliveInterval 1"] });
  await using shim = await startShim(path.upstream, { arguments: ["-F", "none", "--resume"] });
  await untilLogged(
    shim.log,
    /asks about every [12] s for a sign of life \(ClientAliveInterval\).*: \d s/,
  );
  const target = targetThrough(shim, path);
  const from = shim.log.text.length;
  path.proxy.cutAll("rst");
  await untilLogged(shim.log, /the connection is back/, { from });
  assert.equal(text((await target.ssh("echo there")).stdout), "there\n");
});

Deno.test("a line comes after a while, and is gone before the connection is back", () => {
  const clock = new ManualClock();
  let away: Away | undefined;
  let onChange = () => {};
  const seen: string[] = [];
  const become = (next: Partial<Away> | undefined) => {
    const since = Date.now();
    away = next && { since, reason: new Error("reset"), isReached: false, ...next };
    onChange();
  };
  showAway({
    get away() {
      return away;
    },
    watch: (it) => onChange = it,
  }, {
    schedule: clock.schedule.bind(clock),
    show: (words) => seen.push(words.replace(/\d\d:\d\d:\d\d/, "TIME")),
    takeBack: () => seen.push("back"),
  });
  become({});
  clock.advance(awayNoticeMs - 500);
  become(undefined);
  clock.advance(awayNoticeMs);
  assert.deepEqual(seen, []);
  become({});
  clock.advance(awayNoticeMs);
  become({});
  assert.deepEqual(seen, ["no network since TIME; what runs here is kept"]);
  become({ isReached: true });
  assert.deepEqual(seen.splice(0)[1], "back");
  // The host was reached in vain: the time is over already.
  become({ since: Date.now() - 10_000 });
  clock.advance(0);
  assert.equal(seen.length, 1);
  become(undefined);
  assert.equal(seen[1], "back");
});
