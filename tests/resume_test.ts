/** `--resume` with a real sshd: what runs goes on over every loss of the network. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { ShimStatus } from "../lib/status.ts";
import { type FaultyGround, startFaultyGround, untilLogged } from "./support/faulty.ts";
import { lead, startForwarding } from "./support/forwarding.ts";
import { freePort } from "./support/ports.ts";
import { waitUntil } from "./support/processes.ts";
import { Terminal } from "./support/pty.ts";
import { run, runChecked, text } from "./support/run.ts";
import {
  connect,
  exchange,
  readExactly,
  startEcho,
  tcpAddress,
  writeAll,
} from "./support/services.ts";

/** A ground whose shim keeps what runs; silence is noticed after 3 s. */
function startGround(options: Parameters<typeof startFaultyGround>[0] = {}): Promise<FaultyGround> {
  const keepalive = ["--keepalive-interval", "1", "--keepalive-count", "3"];
  return startFaultyGround({
    ...options,
    shim: ["--resume", ...keepalive, "--reconnect-max-delay", "1", ...options.shim ?? []],
  });
}

const away = /the connection is away/;
const back = /the connection is back/;

/** Cuts the network, and resolves when it is back. */
async function cut({ proxy, shim }: FaultyGround, how: "rst" | "fin" | "hole"): Promise<void> {
  const from = shim.log.text.length;
  if (how === "hole") proxy.blackHole();
  else proxy.cutAll(how);
  await untilLogged(shim.log, away, { from });
  if (how === "hole") {
    proxy.cutAll("rst");
    await proxy.restore();
  }
  await untilLogged(shim.log, back, { from });
}

for (const how of ["rst", "fin", "hole"] as const) {
  Deno.test(`what runs goes on over a cut by ${how}`, async () => {
    await using ground = await startGround();
    const { target, shim } = ground;
    await using resources = new AsyncDisposableStack();
    const cat = resources.use(target.startSsh("echo ready; read line; echo got $line; exit 7"));
    await cat.stdout.waitFor(/ready/);
    const shell = resources.use(
      new Terminal(target.sshCommand(undefined, ["-tt"]), { environment: target.environment }),
    );
    await shell.type("value=kept; echo he''llo\n");
    await shell.screen.waitFor(/^hello/m);
    const echo = resources.use(startEcho());
    const [localPort, remotePort] = [freePort(), freePort()];
    resources.use(await startForwarding(target, ["-L", lead(localPort, echo)]));
    resources.use(await startForwarding(target, ["-R", lead(remotePort, echo)]));
    using local = await connect(tcpAddress(localPort));
    using remote = await connect(tcpAddress(remotePort));
    const hasEchoed = async (connection: Deno.Conn, words: string) => {
      await writeAll(connection, new TextEncoder().encode(words));
      assert.equal(text(await readExactly(connection, words.length)), words);
    };
    await hasEchoed(local, "before");
    await hasEchoed(remote, "before");

    await cut(ground, how);
    await cut(ground, how === "hole" ? "rst" : how);

    await hasEchoed(local, "after");
    await hasEchoed(remote, "after");
    await shell.type("echo still $va''lue\n");
    await shell.screen.waitFor(/^still kept/m);
    await shell.type("exit 3\n");
    assert.equal(await shell.exit, 3);
    await cat.write("words\n");
    assert.equal((await cat.drained()).code, 7);
    assert.match(cat.stdout.text, /got words/);
    assert.equal(cat.stderr.text, "");
    assert.doesNotMatch(shim.log.text, /connection lost/);
    assert.equal(text(exchangeText(await target.ssh("echo new"))), "new\n");
  });
}

function exchangeText({ stdout }: { stdout: Uint8Array }): Uint8Array {
  return stdout;
}

Deno.test("transfers by scp and sftp are exact over many cuts", async () => {
  await using ground = await startGround();
  const { target, proxy, shim } = ground;
  const size = 24_000_000;
  const file = `${target.folder}/file`;
  const bytes = Uint8Array.from({ length: size }, (_, at) => (at * 31 + (at >> 8) * 7) & 255);
  await Deno.writeFile(file, bytes);
  const hash = createHash("sha256").update(bytes).digest("hex");
  let isDone = false;
  let cuts = 0;
  const cutting = (async () => {
    for (const sizes = [3_000_000, 1_700_001, 2_345_678]; !isDone; cuts++) {
      const from = shim.log.text.length;
      const direction = cuts % 2 === 0 ? "toTarget" : "toClient";
      void proxy.cutAfterBytes(sizes[cuts % 3]!, direction, cuts % 3 === 0 ? "fin" : "rst");
      await untilLogged(shim.log, back, { from });
      if (cuts >= 5) break;
    }
  })();
  const host = `anybody@${target.host}`;
  const scp = (from: string, to: string, flags: string[]) =>
    run(["scp", "-q", ...flags, ...target.clientOptions(), "-P", String(target.port), from, to], {
      environment: target.environment,
    });
  const results = await Promise.all([
    scp(file, `${host}:${file}.up`, []),
    scp(`${host}:${file}`, `${file}.down`, []),
    scp(file, `${host}:${file}.old`, ["-O"]),
    target.ssh(`cat ${file} | tee ${file}.tee`),
    target.ssh(`cat > ${file}.in; exit 5`, { stdinFile: file }),
  ]);
  isDone = true;
  assert.deepEqual(results.map(({ code }) => code), [0, 0, 0, 0, 5]);
  assert.equal(createHash("sha256").update(results[3].stdout).digest("hex"), hash);
  for (const end of ["up", "down", "old", "tee", "in"]) {
    const copy = await Deno.readFile(`${file}.${end}`);
    assert.equal(createHash("sha256").update(copy).digest("hex"), hash, end);
  }
  await cutting;
  assert.ok(cuts >= 3, `${cuts} cuts`);
  assert.doesNotMatch(shim.log.text, /connection lost/);
});

void exchange;
void runChecked;
void waitUntil;
export type { ShimStatus };
