/** Clients that stop reading or are killed: the others notice nothing, and nothing is left over. */

import assert from "node:assert/strict";
import { shimTarget } from "./support/behind.ts";
import { startGround, type Target } from "./support/both.ts";
import { patternBytes, sha256 } from "./support/files.ts";
import { waitUntil } from "./support/processes.ts";
import { RawClient } from "./support/raw_client.ts";
import { text } from "./support/run.ts";
import type { Sshd } from "./support/sshd.ts";

Deno.test("48 clients killed in the middle of a transfer leave nothing behind", async () => {
  await using ground = await startGround({ sshd: { config: ["MaxSessions 10"] } });
  const target = shimTarget(ground);
  const atOnce = 8;
  for (let killed = 0; killed < 48; killed += atOnce) {
    await killClients(target, atOnce);
    await waitUntil(
      "sshd has ended their sessions",
      () => Promise.resolve(endedSessions(ground.sshd) === killed + atOnce),
    );
  }
  // As many sessions as the server allows: none of the killed ones counts any more.
  const codes = await Promise.all(
    Array.from({ length: 10 }, (_, index) => target.ssh(`sleep 0.5; exit ${index}`)),
  );
  assert.deepEqual(codes.map((result) => result.code), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

const endlessTransfer = "echo ready >&2; exec cat /dev/zero";

async function killClients(target: Target, count: number): Promise<void> {
  await using clients = new AsyncDisposableStack();
  const start = () => clients.use(target.startSsh(endlessTransfer, { discardStdout: true }));
  const group = Array.from({ length: count }, start);
  await Promise.all(group.map((client) => client.stderr.waitFor(/ready/)));
  for (const client of group) client.kill("SIGKILL");
}

function endedSessions(sshd: Sshd): number {
  return sshd.log.text.match(/^Close session: /gm)?.length ?? 0;
}

Deno.test("a client that stops reading does not stop the others", async (t) => {
  await using ground = await startGround();
  const target = shimTarget(ground);
  await using stalled = target.startSsh(
    "echo ready >&2; head -c 30000000 /dev/zero; echo end >&2",
    { discardStdout: true },
  );
  await stalled.stderr.waitFor(/ready/);
  stalled.kill("SIGSTOP");
  await using _awake = { [Symbol.asyncDispose]: () => Promise.resolve(stalled.kill("SIGKILL")) };

  await t.step("a command of another client runs", async () => {
    const result = await target.ssh("echo out; echo err >&2; exit 3");
    assert.deepEqual(
      [result.code, text(result.stdout), text(result.stderr)],
      [3, "out\n", "err\n"],
    );
  });

  await t.step("another client's transfers pass in both directions", async () => {
    const bytes = patternBytes(20_000_000);
    const result = await target.ssh("cat", { stdin: bytes });
    assert.equal(sha256(result.stdout), sha256(bytes));
  });

  await t.step("when it reads again, it gets the rest", async () => {
    assert.equal(stalled.stderr.text, "ready\n");
    stalled.kill("SIGCONT");
    await stalled.stderr.waitFor(/end\n/);
    assert.equal((await stalled.drained()).code, 0);
  });
});

Deno.test("50 stalled readers do not fill the memory", async () => {
  await using ground = await startGround({ sshd: { config: ["MaxSessions 60"] } });
  const target = shimTarget(ground);
  await target.ssh("true");
  const before = await residentBytes(ground.shim.pid);
  await using clients = new AsyncDisposableStack();
  for (let count = 0; count < 50; count++) {
    const client = clients.use(await RawClient.connect(target));
    // Such a window is what lets a relay hold gigabytes for somebody who reads nothing.
    const session = await client.openSession({ initialWindowSize: 2 ** 32 - 1 });
    client.stall();
    client.request(session.channel, "exec", "exec cat /dev/zero");
  }
  // sshd gives each session its turn: while one gets 40 MB, the others could have got 2 GB.
  const downloaded = await target.ssh("head -c 40000000 /dev/zero", { digestStdout: true });
  assert.match(text(downloaded.stdout), / 40000000$/);
  const growth = await residentBytes(ground.shim.pid) - before;
  const mebibytes = Math.round(growth / 2 ** 20);
  assert.ok(growth < 50 * 8 * 2 ** 20, `The memory has grown by ${mebibytes} MiB.`);
  assert.equal((await target.ssh("exit 5")).code, 5);
});

async function residentBytes(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}
