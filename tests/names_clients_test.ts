/** Real clients in an empty home reach the host by the name alone. */

import assert from "node:assert/strict";
import { type AccountHome, canHaveHome, makeHome } from "./support/account_home.ts";
import { pythonProgram } from "./support/python.ts";
import { type RunningProcess, text } from "./support/run.ts";
import { program, upstreamArguments } from "./support/shim.ts";
import { startSshd } from "./support/sshd.ts";

const ignore = !await canHaveHome();

async function check(home: AccountHome, words: string[], expected: RegExp): Promise<void> {
  const { code, stdout, stderr } = await home.run(words);
  assert.equal(code, 0, `${words.join(" ")}: ${text(stderr)}`);
  assert.match(text(stdout), expected);
}

async function stop(shim: RunningProcess): Promise<void> {
  shim.kill("SIGTERM");
  assert.equal((await shim.drained()).code, 0, shim.stderr.text);
}

Deno.test({
  name: "after setup clients need the name alone, and it is gone with the shim",
  // It needs a mount namespace, for ssh takes the home from the user database.
  ignore,
  async fn(t) {
    await using sshd = await startSshd();
    await using home = await makeHome();
    await Deno.mkdir(`${home.path}/.ssh`, { mode: 0o700 });
    // What most people have there would lead elsewhere.
    const config = "Host *\n  ProxyJump nowhere.invalid\n  User nobody\n  Port 1\n";
    await Deno.writeTextFile(`${home.path}/.ssh/config`, config, { mode: 0o600 });
    await check(home, [...program, "setup", "--yes"], /begins with "Include/);
    await using shim = home.start(
      ["-F", "none", ...upstreamArguments(sshd), "--name", "prod", "--local-port", "0"],
    );
    await shim.stdout.waitFor(/^ {2}ssh prod\.shim$[^]*Ctrl-C/m);
    const folder = `${home.path}/there`;
    await Deno.mkdir(folder);
    await Deno.writeTextFile(`${folder}/file`, "content\n");
    const batch = ["-o", "BatchMode=yes"];
    const steps: Record<string, string[]> = {
      ssh: ["ssh", ...batch, "prod.shim", "cat", `${folder}/file`],
      scp: ["scp", "-q", ...batch, `prod.shim:${folder}/file`, "by-scp"],
      sftp: ["sftp", "-q", ...batch, `prod.shim:${folder}/file`, "by-sftp"],
      rsync: ["rsync", `prod.shim:${folder}/file`, "by-rsync"],
      "ssh -F": ["ssh", "-F", `${home.path}/.ssh/sshshim/prod.conf`, "prod.shim", "echo content"],
    };
    for (const [name, words] of Object.entries(steps)) {
      await t.step(name, () => check(home, words, name.startsWith("ssh") ? /^content$/m : /^/));
    }
    for (const name of ["by-scp", "by-sftp", "by-rsync"]) {
      assert.equal(await Deno.readTextFile(`${home.path}/${name}`), "content\n");
    }
    await t.step("git", async () => {
      await check(home, ["git", "init", "-q", "--bare", `${folder}/repository`], /^$/);
      await check(home, ["git", "clone", "-q", `prod.shim:${folder}/repository`, "clone"], /^$/);
    });
    await t.step("ssh -J, to a host behind it", () =>
      check(home, [
        ...["ssh", ...batch, "-J", "prod.shim", "-p", String(sshd.port), "-i", sshd.keyFile],
        ...["-o", `UserKnownHostsFile=${sshd.knownHostsFile}`, "-l", sshd.username],
        ...[sshd.host, `cat ${folder}/file`],
      ], /^content$/m));
    await t.step("Ansible", () =>
      check(home, [
        ...["ansible", "all", "-i", "prod.shim,", "-m", "raw", "-a", `cat ${folder}/file`],
      ], /^content$/m));
    await t.step("plink, by a session of PuTTY's", async () => {
      const [, port] = / is at 127\.0\.0\.1:(\d+)\n/.exec(shim.stdout.text)!;
      const [fingerprint] = /SHA256:\S+/.exec(shim.stdout.text)!;
      const session = `${home.path}/.putty/sessions/prod`;
      await Deno.mkdir(`${home.path}/.putty/sessions`, { recursive: true });
      await Deno.writeTextFile(
        session,
        `HostName=127.0.0.1\nPortNumber=${port}\nProtocol=ssh\nUserName=me\n` +
          `SSHManualHostKeys=${fingerprint}=\n`,
      );
      await check(home, ["plink", "-batch", "-load", "prod", `cat ${folder}/file`], /^content$/m);
    });
    await t.step("paramiko's SSHConfig", () =>
      check(home, [
        ...[pythonProgram, "-W", "ignore", "-c"],
        [
          "import paramiko",
          `config = paramiko.SSHConfig.from_path(${
            JSON.stringify(`${home.path}/.ssh/sshshim/prod.conf`)
          })`,
          "host = config.lookup('prod.shim')",
          "client = paramiko.SSHClient()",
          "client.load_host_keys(host['userknownhostsfile'])",
          "keys = client.get_host_keys()",
          "port = int(host['port'])",
          "transport = paramiko.Transport((host['hostname'], port))",
          "transport.start_client()",
          "assert keys.check(host['hostkeyalias'], transport.get_remote_server_key())",
          "transport.auth_none(host['user'])",
          "channel = transport.open_session()",
          `channel.exec_command('cat ${folder}/file')`,
          "print(channel.makefile().read().decode())",
          "transport.close()",
        ].join("\n"),
      ], /content/));
    await stop(shim);
    const names = Array.from(Deno.readDirSync(`${home.path}/.ssh/sshshim`), ({ name }) => name);
    assert.deepEqual(names, [".lock"]);
    await check(home, [...program, "setup", "--undo"], /what it was before/);
    assert.equal(await Deno.readTextFile(`${home.path}/.ssh/config`), config);
  },
});

Deno.test({
  name: "with --print-ssh-config the lines are printed, and not written",
  ignore,
  async fn() {
    await using sshd = await startSshd();
    await using home = await makeHome();
    await using shim = home.start([
      ...["-F", "none", ...upstreamArguments(sshd), "--name", "prod", "--local-port", "0"],
      "--print-ssh-config",
    ]);
    const [printed] = await shim.stdout.waitFor(/^Host prod\.shim$[^]*ControlPath .*$(?=\n)/m);
    // The port has an owner all the same, of whom others are told.
    const written = await Deno.readTextFile(`${home.path}/.ssh/sshshim/prod.conf`);
    assert.match(written, /^# sshshim: pid \d+, port \d+; .*\n$/);
    await Deno.writeTextFile(`${home.path}/config`, printed);
    await check(home, ["ssh", "-F", "config", "prod.shim", "echo here"], /^here$/m);
    await stop(shim);
  },
});

Deno.test({
  name: "with --as the host's own name leads to the port, and the shim's way there does not",
  ignore,
  async fn() {
    await using sshd = await startSshd();
    await using home = await makeHome();
    await Deno.mkdir(`${home.path}/.ssh`, { mode: 0o700 });
    const { host, port, keyFile, knownHostsFile, username } = sshd;
    const lines = [
      "Include ~/.ssh/sshshim/*.conf",
      "Host prod",
      ...[`HostName ${host}`, `Port ${port}`, `User ${username}`, `IdentityFile ${keyFile}`],
      `UserKnownHostsFile ${knownHostsFile}`,
      "ProxyCommand ssh -o ProxyCommand=none -W %h:%p prod",
      "",
    ];
    await Deno.writeTextFile(`${home.path}/.ssh/config`, lines.join("\n"), { mode: 0o600 });
    await using first = home.start(["prod", "--as", "prod", "--local-port", "0"]);
    await first.stdout.waitFor(/Ctrl-C/);
    const [, local] = / is at 127\.0\.0\.1:(\d+)\n/.exec(first.stdout.text)!;
    await check(home, ["ssh", "-G", "prod"], new RegExp(`^port ${local}$`, "m"));
    await check(home, ["ssh", "-o", "BatchMode=yes", "prod", "echo", "here"], /^here$/m);
    // Neither is another one of the same host led through the first.
    await check(home, [...program, "-G", "prod"], new RegExp(`^port ${port}$`, "m"));
    await using second = home.start(["prod"]);
    await second.stdout.waitFor(/ssh prod-2\.shim$/m);
    assert.match(second.stderr.text, /prod\.shim is another sshshim: this one is prod-2\.shim/);
    await stop(second);
    await stop(first);
  },
});
