/**
 * The connection upstream is cut after N bytes, with N swept over what a connection lives through.
 * One shim sees all of it, and comes back each time.
 */

import assert from "node:assert/strict";
import { within } from "./support/deadline.ts";
import {
  cutAndReturn,
  type FaultyGround,
  messagesOf,
  startFaultyGround,
  untilLogged,
} from "./support/faulty.ts";
import { lead } from "./support/forwarding.ts";
import { freePort } from "./support/ports.ts";
import type { Direction } from "./support/proxy.ts";
import { text } from "./support/run.ts";
import { echoed, exchange, startEcho, tcpAddress } from "./support/services.ts";
import { assertNothingOpen } from "./support/soak.ts";

const directions: readonly Direction[] = ["toTarget", "toClient"];

/** Where in an exchange a cut comes, as shares of its bytes. */
const shares = [0, 0.25, 0.5, 0.75, 0.97];

/** What is read in each transfer. No cut is so late that the transfer may have ended before. */
const transferBytes = 8_000_000;

/** The first one comes while the channel is opened, the last one once its window has moved. */
const transferCuts = [200, 60_000, 3_500_000];

/** After a cut the shim says which of these it is up to. */
const consequence = /trying again|wakes the connection|once more/;

Deno.test("after a cut at any byte the shim comes back by itself", async (context) => {
  await using ground = await startFaultyGround({ shim: ["--reconnect-max-delay", "1", "-v"] });

  const login = await measureReconnection(ground);
  for (const [index, { direction, count }] of cuts(login).entries()) {
    const how = index % 2 === 0 ? "rst" : "fin";
    const name = `${how} after ${count} of ${login[direction]} bytes of a login ${direction}`;
    await context.step(name, async () => {
      const from = ground.shim.log.text.length;
      const done = ground.proxy.cutAfterBytes(count, direction, how);
      ground.proxy.cutAll("rst");
      await within(done, "No cut came");
      await untilLogged(ground.shim.log, consequence, { from, count: 2 });
      await assertWorks(ground);
    });
  }

  for (const count of transferCuts) {
    for (const how of ["rst", "fin"] as const) {
      const name = `${how} after ${count} bytes of an upload and of a download`;
      await context.step(name, async () => {
        await cutTransfer(ground, { count, direction: "toTarget", how });
        await cutTransfer(ground, { count, direction: "toClient", how });
      });
    }
  }

  await using echo = startEcho();
  const port = freePort();
  const options = ["-N", "-v", "-R", lead(port, echo), "-o", "ExitOnForwardFailure=yes"];
  await using forward = ground.target.startSsh(undefined, { options });
  await forward.stderr.waitFor(/remote forward success/);
  const reconnection = await measureReconnection(ground, /remote forward .* is back/);
  for (const [index, { direction, count }] of cuts(reconnection).entries()) {
    if (index % 2 === 1) continue; // Every second place is enough: the login has had them all.
    const how = index % 4 === 0 ? "fin" : "rst";
    await context.step(
      `${how} after ${count} of ${reconnection[direction]} bytes of a reconnection ${direction}`,
      async () => {
        const from = ground.shim.log.text.length;
        const done = ground.proxy.cutAfterBytes(count, direction, how);
        ground.proxy.cutAll("rst");
        const waiting = assertWorks(ground);
        await Promise.all([within(done, "No cut came"), waiting]);
        await untilLogged(ground.shim.log, /remote forward .* is back/, { from });
        const answer = await within(exchange(tcpAddress(port), "hello"), "No answer came");
        assert.deepEqual(answer, echoed("", "hello"));
      },
    );
  }
  forward.kill("SIGTERM");
  await forward.drained();

  await assertNothingOpen(ground);
  assert.deepEqual(
    messagesOf(ground.shim.log).filter((message) => /internal error|SIGUSR2/.test(message)),
    [],
  );
});

/** How many bytes pass in each direction until the shim is connected again and has said so. */
async function measureReconnection(
  ground: FaultyGround,
  end = /connected to/,
): Promise<Record<Direction, number>> {
  const before = { ...ground.proxy.passedBytes };
  const from = ground.shim.log.text.length;
  await cutAndReturn(ground, "rst");
  await untilLogged(ground.shim.log, end, { from });
  const { toTarget, toClient } = ground.proxy.passedBytes;
  return { toTarget: toTarget - before.toTarget, toClient: toClient - before.toClient };
}

function cuts(total: Record<Direction, number>): { direction: Direction; count: number }[] {
  return directions.flatMap((direction) =>
    shares.map((share) => ({ direction, count: Math.max(1, Math.floor(share * total[direction])) }))
  );
}

/** Cuts while a session transfers; one that was open ends with ssh's 255. */
async function cutTransfer(
  ground: FaultyGround,
  { count, direction, how }: { count: number; direction: Direction; how: "rst" | "fin" },
): Promise<void> {
  const { proxy, shim, target } = ground;
  const from = shim.log.text.length;
  const done = proxy.cutAfterBytes(count, direction, how);
  const { code, stdout, stderr } = direction === "toTarget"
    ? await target.ssh(`head -c ${transferBytes} | wc -c`, { stdinFile: "/dev/zero" })
    : await target.ssh(`head -c ${transferBytes} /dev/zero`, { digestStdout: true });
  await within(done, "No cut came");
  if (count === transferCuts[0] && code === 0) {
    // The channel was not open yet: it has waited for the next connection and is whole.
    assert.ok(text(stdout).includes(String(transferBytes)));
  } else {
    assert.equal(code, 255, text(stderr));
    const last = text(stderr).trimEnd().split("\n").at(-1)!;
    assert.match(last, /^sshshim: connection lost: /);
  }
  await untilLogged(shim.log, /connected to/, { from });
  await assertWorks(ground);
}

/** The account's own start files may write to standard error; the shim does not. */
async function assertWorks({ target }: FaultyGround): Promise<void> {
  const { code, stderr } = await target.ssh("true");
  assert.equal(code, 0, text(stderr));
  assert.doesNotMatch(text(stderr), /sshshim/);
}
