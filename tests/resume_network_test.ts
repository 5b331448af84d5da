/** `--resume` where the network comes back as another one, or only half of it has gone. */

import assert from "node:assert/strict";
import {
  type FaultyGround,
  startFaultyPath,
  targetThrough,
  untilLogged,
} from "./support/faulty.ts";
import { forceCommand } from "./support/force_command.ts";
import { lead, startForwarding } from "./support/forwarding.ts";
import { freePort } from "./support/ports.ts";
import { waitUntil } from "./support/processes.ts";
import { keepersOf } from "./support/resume_keepers.ts";
import { runChecked, RunningProcess, text } from "./support/run.ts";
import { connect, readExactly, startEcho, tcpAddress, writeAll } from "./support/services.ts";
import { startShim } from "./support/shim.ts";
import type { SshdOptions } from "./support/sshd.ts";
import { startDisplay, xClient } from "./support/x11.ts";

/** ssh wants the whole path. */
const xauth = (await runChecked(["/bin/sh", "-c", "command -v xauth"])).trim();

const away = /the connection is away/;
const back = /the connection is back/;

async function startGround(
  words: string[] = [],
  options: SshdOptions = {},
): Promise<FaultyGround> {
  await using resources = new AsyncDisposableStack();
  const path = resources.use(await startFaultyPath(options));
  const args = ["-F", "none", "--resume", "--reconnect-max-delay", "1", ...words];
  const shim = resources.use(await startShim(path.upstream, { arguments: args }));
  const target = targetThrough(shim, path);
  const owned = resources.move();
  return { ...path, shim, target, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

Deno.test("a carrier that the host still believes in makes way for the next one", async () => {
  await using ground = await startGround();
  const { target, proxy, gate, shim, sshd } = ground;
  await using client = target.startSsh("echo ready; read line; echo got $line; exit 7");
  await client.stdout.waitFor(/ready/);
  gate.keepLost();
  for (let cuts = 0; cuts < 3; cuts++) {
    const from = shim.log.text.length;
    proxy.cutAll("rst");
    await untilLogged(shim.log, back, { from });
    assert.equal(text((await target.ssh(`echo ${cuts}`)).stdout), `${cuts}\n`);
  }
  assert.equal((await keepersOf(sshd.port)).length, 1);
  await gate.releaseLost();
  await client.write("words\n");
  assert.equal((await client.drained()).code, 7);
  assert.match(client.stdout.text, /got words/);
  assert.doesNotMatch(shim.log.text, /connection lost/);
});

Deno.test("the host may be reached from another address afterwards", async () => {
  await using ground = await startGround();
  const { target, proxy, gate, shim } = ground;
  await using client = target.startSsh("echo ready; cat; exit 5");
  await client.stdout.waitFor(/ready/);
  for (const localAddress of ["127.0.0.2", "127.0.0.3"]) {
    gate.localAddress = localAddress;
    const from = shim.log.text.length;
    proxy.cutAll("rst");
    await untilLogged(shim.log, back, { from });
    await ground.sshd.log.waitFor(new RegExp(`Accepted publickey for \\S+ from ${localAddress}`));
    await client.write(`from ${localAddress}\n`);
    await client.stdout.waitFor(new RegExp(`from ${localAddress}`));
  }
  await client.closeStdin();
  assert.equal((await client.drained()).code, 5);
});

Deno.test("who comes to a remote forward meanwhile is served afterwards", async () => {
  await using ground = await startGround();
  const { target, proxy, shim } = ground;
  await using echo = startEcho();
  const port = freePort();
  await using _forwarding = await startForwarding(target, ["-R", lead(port, echo)]);
  await proxy.refuse();
  proxy.cutAll("rst");
  await untilLogged(shim.log, away);
  using connection = await connect(tcpAddress(port));
  await writeAll(connection, new TextEncoder().encode("meanwhile"));
  await proxy.restore();
  assert.equal(text(await readExactly(connection, 9)), "meanwhile");
});

Deno.test("further connections for sessions go on as well", async () => {
  await using ground = await startGround(["--overflow", "2"], { config: ["MaxSessions 2"] });
  const { target, proxy, shim, sshd } = ground;
  await using resources = new AsyncDisposableStack();
  const clients = Array.from(
    { length: 5 },
    (_, index) =>
      resources.use(target.startSsh(`echo ready; read line; echo got $line; exit ${index + 1}`)),
  );
  for (const client of clients) await client.stdout.waitFor(/ready/);
  assert.equal((await keepersOf(sshd.port)).length, 3);
  const from = shim.log.text.length;
  proxy.cutAll("rst");
  await untilLogged(shim.log, back, { from, count: 3 });
  for (const [index, client] of clients.entries()) {
    await client.write(`${index}\n`);
    assert.equal((await client.drained()).code, index + 1);
    assert.match(client.stdout.text, new RegExp(`got ${index}`));
  }
  await shim.stop();
  await waitUntil("no keeper is left", async () => (await keepersOf(sshd.port)).length === 0);
});

Deno.test("where the home cannot be written, or is not there, another folder is taken", async () => {
  for (const home of ["/nowhere", "/proc"]) {
    await using path = await startFaultyPath();
    await forceCommand(path.sshd, `HOME=${home} sh -c "$SSH_ORIGINAL_COMMAND"`);
    await using shim = await startShim(path.upstream, { arguments: ["-F", "none", "--resume"] });
    const from = shim.log.text.length;
    path.proxy.cutAll("rst");
    await untilLogged(shim.log, back, { from });
    const target = targetThrough(shim, path);
    assert.equal(text((await target.ssh("echo there")).stdout), "there\n");
    assert.doesNotMatch(shim.log.text, /cannot keep/);
  }
});

Deno.test("a program on the host reaches the client's display after a loss as well", async () => {
  const folder = await Deno.makeTempDir({ prefix: "x11-" });
  try {
    await Deno.writeTextFile(`${folder}/authority`, "", { mode: 0o600 });
    await using ground = await startGround([], {
      config: ["X11Forwarding yes", "X11UseLocalhost yes"],
      environment: { XAUTHORITY: `${folder}/authority` },
    });
    const { target, proxy, shim } = ground;
    await using display = await startDisplay(target.folder, "display");
    const client = xClient();
    const script = `${client}; read line; ${client}; exit 3`;
    await using session = new RunningProcess(
      target.sshCommand(script, ["-Y", "-o", `XAuthLocation=${xauth}`]),
      {
        environment: {
          ...{ ...target.environment, DISPLAY: display.display },
          XAUTHORITY: display.authority,
        },
      },
    );
    await session.stdout.waitFor(/display\n/);
    const from = shim.log.text.length;
    proxy.cutAll("rst");
    await untilLogged(shim.log, back, { from });
    await session.write("once more\n");
    assert.equal((await session.drained()).code, 3);
    assert.equal(session.stdout.text, "display\ndisplay\n");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a return that needs a person asks once, when something is wanted", async () => {
  await using path = await startFaultyPath();
  const { sshd, proxy, upstream } = path;
  const { folder, rsaKeyFile } = sshd;
  await runChecked(["ssh-keygen", "-q", "-p", "-f", rsaKeyFile, "-P", "", "-N", "open sesame"]);
  const askpass = `${folder}/askpass`;
  const script = `#!/bin/sh\necho asked >> ${folder}/asked\necho open sesame\n`;
  await Deno.writeTextFile(askpass, script, { mode: 0o700 });
  await using shim = await startShim(upstream, {
    arguments: ["-F", "none", "--resume", "-i", rsaKeyFile],
    environment: { SSH_ASKPASS: askpass, SSH_ASKPASS_REQUIRE: "force" },
  });
  const target = targetThrough(shim, path);
  await using client = target.startSsh("echo ready; read line; echo got $line; exit 4");
  await client.stdout.waitFor(/ready/);
  // From now on the host wants the key that has a passphrase.
  const keys = (await Deno.readTextFile(`${folder}/authorized_keys`)).trim().split("\n");
  await Deno.writeTextFile(`${folder}/authorized_keys`, `${keys.find((it) => /rsa/.test(it))}\n`);
  const from = shim.log.text.length;
  proxy.cutAll("rst");
  await untilLogged(shim.log, /It is tried again when something is wanted/, { from });
  await assert.rejects(Deno.lstat(`${folder}/asked`), Deno.errors.NotFound);
  await client.write("words\n");
  assert.equal((await client.drained()).code, 4);
  assert.match(client.stdout.text, /got words/);
  assert.equal(await Deno.readTextFile(`${folder}/asked`), "asked\n");
  // What has been answered is not asked again.
  proxy.cutAll("rst");
  await untilLogged(shim.log, back, { from, count: 2 });
  assert.equal(await Deno.readTextFile(`${folder}/asked`), "asked\n");
});
