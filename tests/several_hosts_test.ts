/** Several hosts in one process: an endpoint each, one log, one exit status. */

import assert from "node:assert/strict";
import { patternBytes } from "./support/files.ts";
import { loginEnvironment, shimCommand } from "./support/login.ts";
import { killDescendantsOf } from "./support/processes.ts";
import { freePort } from "./support/ports.ts";
import { run, text } from "./support/run.ts";
import { logins, startHosts, startShims, targetOf } from "./support/several.ts";

const json = ["--log-format", "json"];

Deno.test("each host has a port of its own, and the log names the host in each line", async () => {
  await using hosts = await startHosts(["prod", "staging"]);
  await using shim = startShims(hosts, [...json, "-v", "prod", "staging"]);
  for (const name of ["prod", "staging"]) {
    const target = await targetOf(hosts, shim, name);
    const result = await target.ssh("echo $SERVER; exit 3");
    assert.deepEqual([text(result.stdout), result.code], [`${name}\n`, 3], text(result.stderr));
  }
  // Reconnecting: timers, sockets and what waits for them.
  for (const name of ["prod", "staging"]) {
    const position = shim.stderr.text.length;
    await killDescendantsOf(hosts.servers[name]!.pid);
    await shim.stderr.waitFor(/connection lost/, { from: position });
    const result = await (await targetOf(hosts, shim, name)).ssh("echo $SERVER");
    assert.equal(text(result.stdout), `${name}\n`, text(result.stderr));
  }
  shim.kill("SIGTERM");
  assert.equal((await shim.drained()).code, 0);
  const ports = Object.entries(hosts.servers).map(([name, { port }]) => [name, port] as const);
  const nameless: string[] = [];
  for (const line of shim.stderr.lines) {
    const { category, host, message } = JSON.parse(line);
    for (const [name, port] of ports) {
      if (message.includes(`:${port}`)) assert.equal(host, name, line);
    }
    if (host === undefined) nameless.push(`${category}: ${message}`);
  }
  assert.deepEqual(nameless.filter((it) => !it.startsWith("sshshim.config: ")), [
    "sshshim: stopped by SIGTERM",
  ]);
});

Deno.test("as text, the name stands behind the program's", async () => {
  await using hosts = await startHosts(["prod", "staging"]);
  await using shim = startShims(hosts, ["prod", "staging"]);
  for (const name of ["prod", "staging"]) {
    const { port } = hosts.servers[name]!;
    await shim.stdout.waitFor(new RegExp(`^sshshim: ${name}: .*:${port} is at 127.0.0.1:`, "m"));
    await shim.stderr.waitFor(
      new RegExp(`^sshshim: ${name}: upstream: connected to .*:${port}$`, "m"),
    );
  }
  shim.kill("SIGTERM");
  assert.equal((await shim.drained()).code, 0);
});

Deno.test("a host that fails ends no other, and the last one ends the program", async () => {
  await using hosts = await startHosts(["prod", "staging"]);
  const nowhere = freePort();
  await Deno.writeTextFile(
    hosts.config,
    await Deno.readTextFile(hosts.config) + `Host gone\n  HostName 127.0.0.1\n  Port ${nowhere}\n`,
  );
  await using shim = startShims(hosts, [...json, "--no-reconnect", "gone", "prod", "staging"]);
  await shim.stderr.waitFor(
    new RegExp(`"host":"gone".*127.0.0.1:${nowhere}: .*refused.*"status":5`),
  );
  const staging = await targetOf(hosts, shim, "staging");
  const prod = await targetOf(hosts, shim, "prod");
  assert.equal(text((await prod.ssh("echo $SERVER")).stdout), "prod\n");
  const lose = async (name: string) => {
    await killDescendantsOf(hosts.servers[name]!.pid);
    await shim.stderr.waitFor(new RegExp(`"host":"${name}".*"status":5`));
  };
  await lose("prod");
  assert.equal((await prod.ssh("true")).code, 255);
  assert.equal(text((await staging.ssh("echo $SERVER")).stdout), "staging\n");
  await lose("staging");
  assert.equal((await shim.drained()).code, 5);
});

Deno.test("with --lazy the first client brings the login", async (t) => {
  await using hosts = await startHosts(["prod", "staging"]);
  await using shim = startShims(hosts, [...json, "--lazy", "prod", "staging"]);
  const prod = await targetOf(hosts, shim, "prod");
  await targetOf(hosts, shim, "staging");
  const { prod: first, staging: second } = hosts.servers;
  assert.deepEqual([logins(first!), logins(second!)], [0, 0]);
  assert.equal(text((await prod.ssh("echo $SERVER")).stdout), "prod\n");
  assert.deepEqual([logins(first!), logins(second!)], [1, 0]);
  shim.kill("SIGTERM");
  assert.equal((await shim.drained()).code, 0);

  await t.step("one that fails is told to the client, and the next one tries again", async () => {
    const port = freePort();
    await Deno.writeTextFile(hosts.config, `Host gone\n  HostName 127.0.0.1\n  Port ${port}\n`);
    await using alone = startShims(hosts, [...json, "--lazy", "gone", "other"]);
    const gone = await targetOf(hosts, alone, "gone");
    for (let client = 0; client < 2; client++) {
      const result = await gone.ssh("true");
      assert.equal(result.code, 255);
      assert.match(
        text(result.stderr),
        new RegExp(`127.0.0.1:${port}: the connection was refused`),
      );
    }
    alone.kill("SIGTERM");
    assert.equal((await alone.drained()).code, 0);
  });
});

Deno.test("what cannot be of several hosts is refused before anything is begun", async (t) => {
  await using hosts = await startHosts([]);
  const refused: [what: string, args: string[], environment: Record<string, string>, RegExp][] = [
    ["one host twice", ["prod", "root@prod"], {}, /Two of the hosts are prod/],
    ["a password", ["prod", "db"], { SSHSHIM_PASSWORD: "secret" }, /SSHSHIM_PASSWORD is for one/],
  ];
  for (const [what, args, environment, message] of refused) {
    await t.step(what, async () => {
      const result = await run(shimCommand(args), {
        environment: loginEnvironment(hosts.folder, environment),
      });
      assert.equal(result.code, 2);
      assert.match(text(result.stderr), message);
      assert.doesNotMatch(text(result.stderr), /secret/);
    });
  }
});

Deno.test("a host behind another one is reached through its connection, which comes back first", async () => {
  await using hosts = await startHosts(["prod", "inner"]);
  await hosts.configure({ inner: ["ProxyJump prod"] });
  const { prod, inner } = hosts.servers;
  // The one that waits for the other is given first.
  await using shim = startShims(hosts, [...json, "inner", "prod"]);
  const target = await targetOf(hosts, shim, "inner");
  const result = await target.ssh("cat; echo $SERVER; exit 3", { stdin: "in\n" });
  assert.deepEqual([text(result.stdout), result.code], ["in\ninner\n", 3], text(result.stderr));
  const content = patternBytes(3_000_000);
  const copied = await target.ssh("cat", { stdin: content });
  assert.deepEqual(copied.stdout, content);
  assert.deepEqual([logins(prod!), logins(inner!)], [1, 1]);

  const position = shim.stderr.text.length;
  await killDescendantsOf(prod!.pid);
  await shim.stderr.waitFor(/"host":"inner".*connection lost/, { from: position });
  const again = await target.ssh("echo $SERVER");
  assert.equal(text(again.stdout), "inner\n", text(again.stderr));
  assert.deepEqual([logins(prod!), logins(inner!)], [2, 2]);
  shim.kill("SIGTERM");
  assert.equal((await shim.drained()).code, 0);
});

Deno.test("where the host before it cannot be reached, the one behind it fails alike", async () => {
  await using hosts = await startHosts(["inner"]);
  await hosts.configure({ inner: ["ProxyJump gone"] });
  const config = await Deno.readTextFile(hosts.config);
  const gone = `Host gone\n  HostName 127.0.0.1\n  Port ${freePort()}\n`;
  await Deno.writeTextFile(hosts.config, config + gone);
  await using shim = startShims(hosts, [...json, "inner", "gone"]);
  assert.equal((await shim.drained()).code, 5);
  const failed = shim.stderr.lines.map((line) => JSON.parse(line))
    .filter(({ level }) => level === "error");
  assert.deepEqual(failed.map(({ host }) => host).toSorted(), ["gone", "inner"]);
  for (const { message } of failed) assert.match(message, /refused/);
});
