/** Servers to which a connection comes back, and what they are sent before they have answered. */

import assert from "node:assert/strict";
import { clientEnvironment, makeTarget, type Target } from "./support/both.ts";
import { type DropbearServer, startDropbear } from "./support/dropbear.ts";
import {
  cutAndReturn,
  type FaultyGround,
  messagesOf,
  startFaultyGround,
  startFaultyPath,
  targetThrough,
} from "./support/faulty.ts";
import { type Proxy, startProxy } from "./support/proxy.ts";
import { text } from "./support/run.ts";
import { type Shim, startShim } from "./support/shim.ts";

const taken = /has taken what was sent ahead/;
const onceMore = /once more, waiting for each answer/;

Deno.test("OpenSSH's server is sent the signature at once when a connection comes back", async () => {
  await using ground = await startFaultyGround({
    sshd: { config: ["LogLevel DEBUG2"] },
    shim: ["-v"],
  });
  const { sshd, shim } = ground;
  await assertWorks(ground.target);
  for (let count = 0; count < 2; count++) {
    const [from, logFrom] = [sshd.log.text.length, shim.log.text.length];
    await cutAndReturn(ground, "rst");
    await assertWorks(ground.target);
    const seen = sshd.log.text.slice(from);
    const methods = [...seen.matchAll(/userauth-request for user .* method (\S+)/g)];
    assert.deepEqual(methods.map(([, method]) => method), ["publickey-hostbound-v00@openssh.com"]);
    assert.doesNotMatch(seen, /Postponed|test pkalg/);
    const messages = messagesOf(shim.log, logFrom);
    assert.ok(messages.some((message) => taken.test(message)), messages.join("\n"));
    assert.ok(!messages.some((message) => onceMore.test(message)), messages.join("\n"));
  }
});

Deno.test("OpenSSH's server has an acknowledgment of each answer that others wait behind", async () => {
  await using ground = await startFaultyGround({ sshd: { config: ["LogLevel DEBUG3"] } });
  const { sshd } = ground;
  const types = async (from: number) => {
    await sshd.log.waitFor(/(receive packet: type 2\b[^]*){2}/, { from });
    const packets = sshd.log.text.slice(from).matchAll(/receive packet: type (\d+)/g);
    return Array.from(packets, ([, type]) => type).join(" ");
  };
  // Behind SERVICE_ACCEPT, and behind the server's word on its keys.
  assert.match(await types(0), /^20 30 21 5 (50 )*2 (50 )*(90 )*2\b/);
  const from = sshd.log.text.length;
  await cutAndReturn(ground, "rst");
  assert.match(await types(from), /^20 30 21 5 (50 )?(90 )?2 (50 )?(90 )?2\b/);
});

Deno.test("OpenSSH's server that takes another key than before gets all that waits, by one connection", async () => {
  await using path = await startFaultyPath({ config: ["LogLevel DEBUG2"] });
  const { sshd, gate, proxy } = path;
  const more = ["-F", "none", "-i", sshd.rsaKeyFile];
  await using shim = await startShim(path.upstream, { arguments: more });
  const target = targetThrough(shim, path);
  await assertWorks(target);
  const authorizedKeys = `${sshd.folder}/authorized_keys`;
  const lines = (await Deno.readTextFile(authorizedKeys)).split("\n");
  const others = lines.filter((line) => !line.startsWith("ssh-ed25519"));
  await Deno.writeTextFile(authorizedKeys, others.join("\n"));
  const [from, accepted] = [sshd.log.text.length, gate.acceptedCount];
  proxy.cutAll("rst");
  await Promise.all([1, 2, 3].map(() => assertWorks(target)));
  assert.equal(gate.acceptedCount, accepted + 1);
  // CHANNEL_OPEN came with the signature.
  assert.match(sshd.log.text.slice(from), /dispatch_protocol_error: type 90/);
});

Deno.test("a server whose algorithms have changed meanwhile is met anew, without a wait", async () => {
  await using ground = await startFaultyGround({ shim: ["-v"] });
  await assertWorks(ground.target);
  const config = `${ground.sshd.folder}/sshd_config`;
  const before = await Deno.readTextFile(config);
  await Deno.writeTextFile(config, `KexAlgorithms ecdh-sha2-nistp256\n${before}`);
  await reload(ground);
  const accepted = ground.gate.acceptedCount;
  assert.equal(await countRetries(ground), 1);
  assert.equal(ground.gate.acceptedCount, accepted + 2);

  // From here on it is foreseen again, or at least what follows it.
  await Deno.writeTextFile(config, before);
  await reload(ground);
  assert.equal(await countRetries(ground), 0);
  assert.equal(await countRetries(ground), 0);
});

Deno.test("Dropbear is asked first, and sent everything at once when a connection comes back", async () => {
  await using server = await startDropbear();
  await using proxy = await startProxy({ target: { hostname: server.host, port: server.port } });
  await using shim = await startThrough(proxy, server);
  const target = makeTarget({
    ...{ mode: "shim", host: shim.host, port: shim.port, knownHostsFile: shim.knownHostsFile },
    ...{ username: server.username, keyFile: server.keyFile, folder: shim.folder },
    environment: clientEnvironment(shim.folder),
  });
  await assertWorks(target);
  assert.doesNotMatch(shim.log.text, taken);
  for (let count = 0; count < 2; count++) {
    const from = shim.log.text.length;
    proxy.cutAll("rst");
    await assertWorks(target);
    const seen = shim.log.text.slice(from);
    assert.match(seen, taken);
    assert.doesNotMatch(seen, onceMore);
  }
});

/** Cuts the connection, and counts how often its return begins anew before it is there. */
async function countRetries(ground: FaultyGround): Promise<number> {
  const from = ground.shim.log.text.length;
  await cutAndReturn(ground, "rst");
  await assertWorks(ground.target);
  return messagesOf(ground.shim.log, from).filter((message) => onceMore.test(message)).length;
}

async function reload({ sshd: { pid, log } }: FaultyGround): Promise<void> {
  const from = log.text.length;
  Deno.kill(pid, "SIGHUP");
  await log.waitFor(/^Server listening on /m, { from });
}

async function startThrough(
  proxy: Proxy,
  server: DropbearServer,
): Promise<Shim & { folder: string }> {
  const folder = server.keyFile.replace(/\/[^/]*$/, "");
  const knownHostsFile = `${folder}/known_hosts_of_proxy`;
  const known = await Deno.readTextFile(server.knownHostsFile);
  await Deno.writeTextFile(knownHostsFile, known.replace(/:\d+ /, `:${proxy.port} `));
  const { username, keyFile } = server;
  const upstream = { host: proxy.hostname, port: proxy.port, username, keyFile, knownHostsFile };
  const more = ["-F", "none", "-v", "--max-sessions", "1"];
  return Object.assign(await startShim(upstream, { arguments: more }), { folder });
}

async function assertWorks(target: Target): Promise<void> {
  // With so much in its log, OpenSSH's server writes to standard error as well.
  const { code, stdout } = await target.ssh("echo back");
  assert.deepEqual([code, text(stdout)], [0, "back\n"]);
}
