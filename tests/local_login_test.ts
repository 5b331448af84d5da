/** Logging in to the endpoint with a key: who gets in, with which programs, and who does not. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { startAgent } from "./support/agent.ts";
import { clientEnvironment, makeTarget, startGround, type Target } from "./support/both.ts";
import { shimTarget } from "./support/behind.ts";
import { patternBytes, sha256 } from "./support/files.ts";
import { finish, lead, startForwarding } from "./support/forwarding.ts";
import { freePort } from "./support/ports.ts";
import { paramiko, pythonProgram } from "./support/python.ts";
import { type CommandResult, run, runChecked, text } from "./support/run.ts";
import { echoed, exchange, startEcho, tcpAddress } from "./support/services.ts";
import { makeKey } from "./support/sshd.ts";

/** Only root can become somebody else, so that is what these steps need. */
const canSwitchUser = Deno.build.os === "linux" && Deno.uid() === 0;
const becomeNobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

/** A target whose only key is in this file. */
function withKey(target: Target, keyFile: string): Target {
  return makeTarget({ ...target, keyFile });
}

async function isLetIn(target: Target): Promise<boolean> {
  const { code, stderr } = await target.ssh("exit 4");
  if (code !== 4) {
    assert.match(text(stderr), /Permission denied \(publickey\)|Connection (closed|reset)/);
  }
  return code === 4;
}

/** Runs ssh as another user, with a copy of a key that this user can read. */
async function sshAsNobody(target: Target, keyFile?: string): Promise<CommandResult> {
  const folder = await Deno.makeTempDir({ prefix: "nobody-" });
  try {
    const copy = `${folder}/key`;
    if (keyFile !== undefined) {
      await Deno.copyFile(keyFile, copy);
      await Deno.chmod(copy, 0o600);
      await Deno.chown(copy, 65534, 65534);
    }
    await Deno.chmod(folder, 0o755);
    return await run([
      ...becomeNobody,
      ...["ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"],
      ...["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"],
      ...(keyFile === undefined ? [] : ["-o", "IdentitiesOnly=yes", "-i", copy]),
      ...["-p", String(target.port), `anything@${target.host}`, "exit 4"],
    ], { environment: { ...target.environment, HOME: "/nonexistent" }, folder: "/" });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("where the system does not tell, the keys that only the user has log in", async (t) => {
  const home = await Deno.makeTempDir({ prefix: "home-" });
  await using resources = new AsyncDisposableStack();
  resources.defer(() => Deno.remove(home, { recursive: true }));
  await Deno.mkdir(`${home}/.ssh`, { mode: 0o700 });
  await makeKey(`${home}/.ssh/id_ed25519`, "ed25519");
  await runChecked(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", `${home}/.ssh/id_ecdsa`]);
  await makeKey(`${home}/foreign`, "ed25519");
  await Deno.copyFile(`${home}/foreign.pub`, `${home}/.ssh/id_foreign.pub`);
  const agent = resources.use(await startAgent(home, "agent"));
  const preload = fileURLToPath(new URL("./support/no_tables.ts", import.meta.url));
  const ground = resources.use(
    await startGround({
      shim: { preload, environment: { HOME: home, SSH_AUTH_SOCK: agent.socket } },
    }),
  );
  const target = shimTarget(ground);
  const clientKey = ground.shim.banner.clientKeyFile!;

  await t.step("the key that sshshim has made is named by the banner, and logs in", async () => {
    assert.equal((await Deno.stat(clientKey)).mode! & 0o777, 0o600);
    assert.ok(await isLetIn(withKey(target, clientKey)));
    await ground.shim.log.waitFor(
      /client \d+ connected .* as \S+ with the key SHA256:\S+ \(\S+client_key\)/,
    );
  });

  await t.step("keys in ~/.ssh log in, one made just now as well", async () => {
    assert.ok(await isLetIn(withKey(target, `${home}/.ssh/id_ed25519`)));
    assert.ok(await isLetIn(withKey(target, `${home}/.ssh/id_ecdsa`)));
    await makeKey(`${home}/.ssh/id_rsa`, "rsa");
    assert.ok(await isLetIn(withKey(target, `${home}/.ssh/id_rsa`)));
  });

  await t.step("the agent's keys log in, by the agent", async () => {
    const { code } = await run(
      target.sshCommand("exit 4", [
        "-o",
        "IdentitiesOnly=no",
        "-o",
        `IdentityAgent=${agent.socket}`,
        "-i",
        "/none",
      ]),
      { environment: target.environment },
    );
    assert.equal(code, 4);
  });

  await t.step("ssh without any option but the port logs in as anybody", async () => {
    const { code } = await run(
      [
        "ssh",
        "-F",
        "/dev/null",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "BatchMode=yes",
        "-o",
        `UserKnownHostsFile=${ground.shim.knownHostsFile}`,
        "-i",
        `${home}/.ssh/id_ed25519`,
        "-p",
        String(target.port),
        `anything@${target.host}`,
        "exit 4",
      ],
      { environment: { ...clientEnvironment(home), SSH_AUTH_SOCK: agent.socket } },
    );
    assert.equal(code, 4);
  });

  await t.step(
    "a key that is nobody's, and one whose public half alone is there, do not",
    async () => {
      assert.ok(!await isLetIn(withKey(target, ground.sshd.keyFile)));
      assert.ok(!await isLetIn(withKey(target, `${home}/foreign`)));
      await ground.shim.log.waitFor(/turned away a connection \(none of its keys counts\)/);
    },
  );

  await t.step("no password and no question is accepted", async () => {
    for (const method of ["none", "password", "keyboard-interactive", "hostbased"]) {
      const { code, stderr } = await target.ssh("exit 4", {
        options: ["-o", `PreferredAuthentications=${method}`],
      });
      assert.equal(code, 255);
      assert.match(text(stderr), /Permission denied \(publickey\)/);
    }
    const script = `
import paramiko, sys
transport = paramiko.Transport((${JSON.stringify(target.host)}, ${target.port}))
transport.start_client()
try:
    transport.auth_password("root", "secret", fallback=False)
    print("let in")
except paramiko.BadAuthenticationType as error:
    print(error.allowed_types)
finally:
    transport.close()
`;
    const { stdout } = await run([pythonProgram, "-W", "ignore", "-c", script]);
    assert.equal(text(stdout), "['publickey']\n");
  });

  await t.step({
    name: "another user is refused without a key, whether it knows the port or looks for it",
    ignore: !canSwitchUser,
    async fn() {
      const { code, stderr } = await sshAsNobody(target);
      assert.equal(code, 255);
      assert.match(text(stderr), /Permission denied \(publickey\)/);
      const script = `
import paramiko
ports = [int(line.split()[1].split(":")[1], 16) for line in open("/proc/net/tcp").readlines()[1:]
         if line.split()[3] == "0A" and line.split()[1].startswith("0100007F")]
assert ${target.port} in ports
transport = paramiko.Transport(("127.0.0.1", ${target.port}))
transport.start_client()
for attempt in (lambda: transport.auth_none("root"), lambda: transport.auth_publickey("root", paramiko.ECDSAKey.generate())):
    try:
        attempt()
        print("let in")
    except paramiko.SSHException:
        print("refused")
transport.close()
`;
      const { stdout } = await run([...becomeNobody, pythonProgram, "-W", "ignore", "-c", script], {
        folder: "/",
      });
      assert.equal(text(stdout), "refused\nrefused\n");
    },
  });
});

Deno.test("where the tables cannot be read, keys are asked for", async () => {
  const preload = fileURLToPath(new URL("./support/unreadable_tables.ts", import.meta.url));
  const home = await Deno.makeTempDir({ prefix: "home-" });
  await using resources = new AsyncDisposableStack();
  resources.defer(() => Deno.remove(home, { recursive: true }));
  await Deno.mkdir(`${home}/.ssh`, { mode: 0o700 });
  await makeKey(`${home}/.ssh/id_ed25519`, "ed25519");
  const ground = resources.use(
    await startGround({ shim: { preload, environment: { HOME: home } } }),
  );
  const target = shimTarget(ground);
  assert.ok(!await isLetIn(target));
  assert.ok(await isLetIn(withKey(target, `${home}/.ssh/id_ed25519`)));
});

Deno.test({
  name:
    "another user with the user's key is refused by the kernel's word, and let in where keys decide",
  ignore: !canSwitchUser,
  async fn() {
    const home = await Deno.makeTempDir({ prefix: "home-" });
    await using resources = new AsyncDisposableStack();
    resources.defer(() => Deno.remove(home, { recursive: true }));
    await Deno.mkdir(`${home}/.ssh`, { mode: 0o700 });
    const keyFile = `${home}/.ssh/id_ed25519`;
    await makeKey(keyFile, "ed25519");
    for (const who of ["same-user", "publickey"]) {
      await using ground = await startGround({
        shim: { environment: { HOME: home }, arguments: ["--local-auth", who], demandsKeys: false },
      });
      const target = shimTarget(ground);
      const isByKey = who === "publickey";
      assert.equal((await sshAsNobody(target, keyFile)).code, isByKey ? 4 : 255);
      assert.equal((await sshAsNobody(target)).code, 255);
      assert.equal(await isLetIn(target), !isByKey);
      assert.ok(await isLetIn(withKey(target, keyFile)));
    }
  },
});

Deno.test("with keys asked for, everything passes as it does directly", async (t) => {
  await using ground = await startGround({ shim: { demandsKeys: true } });
  await using echo = startEcho({ greeting: "hello\n" });
  const bytes = patternBytes(3_000_000);

  await t.step("commands, their input and their ends", async () => {
    const result = await ground.compare((target) =>
      target.ssh("sha256sum; echo words >&2; exit 7", { stdin: bytes })
    );
    assert.equal(text(result.stdout).split(" ")[0], sha256(bytes));
    assert.deepEqual([result.code, text(result.stderr)], [7, "words\n"]);
  });

  await t.step("files by sftp and scp", async () => {
    const result = await ground.compare(async (target) => {
      await Deno.writeFile(`${target.folder}/file`, bytes);
      const sftp = await run(["sftp", "-b", "-", ...target.sshArguments()], {
        environment: target.environment,
        stdin: `put ${target.folder}/file ${target.folder}/sent\n`,
      });
      const scp = await run([
        ...["scp", ...target.clientOptions(), `${target.host}:${target.folder}/sent`],
        `${target.folder}/fetched`,
      ], { environment: target.environment });
      return [sftp.code, scp.code, sha256(await Deno.readFile(`${target.folder}/fetched`))];
    });
    assert.deepEqual(result, [0, 0, sha256(bytes)]);
  });

  await t.step("forwards both ways", async () => {
    const answers = await ground.compare(async (target) => {
      const [here, there] = [freePort(), freePort()];
      await using client = await startForwarding(target, [
        ...["-L", lead(here, echo), "-R", lead(there, echo)],
      ]);
      const received = await Promise.all(
        [here, there].map((port) => exchange(tcpAddress(port), "words")),
      );
      return [received.map(text), await finish(client)];
    });
    const answer = text(echoed("hello\n", "words"));
    assert.deepEqual(answers, [[answer, answer], { code: 0, stderr: "" }]);
  });

  await t.step("forty clients at once", async () => {
    const target = shimTarget(ground);
    const ends = await Promise.all(Array.from({ length: 40 }, () => target.ssh("exit 4")));
    assert.deepEqual(new Set(ends.map(({ code }) => code)), new Set([4]));
  });

  await t.step("the first attempt of each program succeeds", async () => {
    const target = shimTarget(ground);
    const { stdout } = await paramiko(
      target,
      'print(client.exec_command("echo paramiko")[1].read().decode())',
    );
    assert.equal(text(stdout).trim(), "paramiko");
    const [ppk, host] = [`${ground.sshd.folder}/user.ppk`, ground.shim.banner.fingerprint];
    await runChecked(["puttygen", ground.sshd.keyFile, "-o", ppk]);
    const plink = await run([
      ...["plink", "-batch", "-v", "-ssh", "-i", ppk, "-hostkey", host, "-P", String(target.port)],
      ...[`${target.username}@${target.host}`, "echo plink"],
    ], { environment: target.environment });
    assert.equal(text(plink.stdout).trim(), "plink");
    assert.doesNotMatch(text(plink.stderr), /refused our key|Server refused/);
    const verbose = await target.ssh("true", { options: ["-v"] });
    const words = text(verbose.stderr);
    assert.equal(words.match(/Offering public key/g)?.length, 1, words);
    assert.equal(words.match(/Server accepts key/g)?.length, 1, words);
    const algorithms = /server-sig-algs=<([^>]*)>/.exec(words)![1]!.split(",");
    assert.ok(algorithms.includes("rsa-sha2-512") && algorithms.includes("ecdsa-sha2-nistp521"));
  });
});

Deno.test("the endpoint listens at the address that it is told", async (t) => {
  await t.step("::1", async () => {
    await using ground = await startGround({ shim: { arguments: ["--local-host", "::1"] } });
    assert.equal(ground.shim.host, "::1");
    assert.equal((await shimTarget(ground).ssh("exit 4")).code, 4);
  });

  await t.step("every address, where from= still names the client's", async () => {
    const folder = await Deno.makeTempDir({ prefix: "keys-" });
    await using resources = new AsyncDisposableStack();
    resources.defer(() => Deno.remove(folder, { recursive: true }));
    await makeKey(`${folder}/key`, "ed25519");
    const publicKey = await Deno.readTextFile(`${folder}/key.pub`);
    const file = `${folder}/authorized_keys`;
    await Deno.writeTextFile(file, `from="127.0.0.0/8" ${publicKey}`, { mode: 0o600 });
    const ground = resources.use(
      await startGround({
        shim: { arguments: ["--local-host", "::", "--authorized-keys", file], demandsKeys: false },
      }),
    );
    const target = withKey(shimTarget(ground), `${folder}/key`);
    const plain = makeTarget({ ...target, host: "127.0.0.1", knownHostsFile: "/dev/null" });
    const loose = ["-o", "StrictHostKeyChecking=no"];
    assert.equal((await plain.ssh("exit 4", { options: loose })).code, 4);
    const other = makeTarget({ ...target, host: "::1", knownHostsFile: "/dev/null" });
    assert.equal((await other.ssh("exit 4", { options: loose })).code, 255);
  });
});
