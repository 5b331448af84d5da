/**
 * What is different about a compiled sshshim, the one that SSHSHIM_BINARY names:
 *
 *     SSHSHIM_BINARY=dist/sshshim deno test -A .ci/binary_test.ts
 *
 * With that variable the tests of `tests/` run the compiled program as well. As root on Linux.
 */

import assert from "node:assert/strict";
import { isListening } from "../tests/support/ports.ts";
import { run, runChecked, RunningProcess, text } from "../tests/support/run.ts";
import { shimEnvironment, upstreamArguments } from "../tests/support/shim.ts";
import { type Sshd, startSshd } from "../tests/support/sshd.ts";
import config from "../deno.json" with { type: "json" };

const variable = Deno.env.get("SSHSHIM_BINARY");
if (variable === undefined) throw new Error("Set SSHSHIM_BINARY to the path of the program.");
const binary = await Deno.realPath(variable);

async function makeFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir({ prefix: "binary-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

Deno.test("it tells its version and commit, and refuses a wrong command line", async () => {
  const version = await runChecked([binary, "--version"]);
  assert.match(version, /^sshshim [\d.]+\+[0-9a-f]{12}(\.changed)?\n$/);
  assert(version.startsWith(`sshshim ${config.version}+`));
  const wrong = await run([binary, "host", "--no-such-option", "secret"]);
  assert.equal(wrong.code, 2);
  assert.match(text(wrong.stderr), /^sshshim: There is no option --no-such-option\./);
  assert.doesNotMatch(text(wrong.stderr), /secret/);
});

Deno.test("it keeps nothing in the folder for temporary files, where others may write", async () => {
  await using folder = await makeFolder();
  const temporary = `${folder.path}/temporary`;
  await Deno.mkdir(temporary);
  await using sshd = await startSshd();
  // A second start would take what the first one has left.
  for (let start = 1; start <= 2; start++) {
    await using shim = new RunningProcess(
      [binary, ...upstreamArguments(sshd), "--local-port", "0", "-F", "none"],
      { environment: { ...shimEnvironment(folder.path), TMPDIR: temporary } },
    );
    await shim.stdout.waitFor(/Ctrl-C ends it/);
    shim.kill("SIGTERM");
    assert.equal((await shim.drained()).code, 0, shim.stderr.text);
    assert.deepEqual(Array.from(Deno.readDirSync(temporary)), []);
  }
});

Deno.test("it asks about an unknown host key, by SSH_ASKPASS", async () => {
  await using folder = await makeFolder();
  await using sshd = await startSshd();
  const askpass = `${folder.path}/askpass`;
  const words = `#!/bin/sh\nprintf '%s\\n' "$1" > '${folder.path}/question'\necho yes\n`;
  await Deno.writeTextFile(askpass, words, { mode: 0o755 });
  const args = upstreamArguments(sshd);
  args[args.indexOf("--known-hosts") + 1] = `${folder.path}/known_hosts`;
  await using shim = new RunningProcess([binary, ...args, "--local-port", "0", "-F", "none"], {
    environment: {
      ...shimEnvironment(folder.path),
      SSH_ASKPASS: askpass,
      SSH_ASKPASS_REQUIRE: "force",
    },
  });
  await shim.stdout.waitFor(/Ctrl-C ends it/);
  assert.match(await Deno.readTextFile(`${folder.path}/question`), /SHA256:\S{43}/);
  assert.match(await Deno.readTextFile(`${folder.path}/known_hosts`), / ssh-ed25519 /);
  shim.kill("SIGTERM");
  assert.equal((await shim.drained()).code, 0, shim.stderr.text);
});

/** Nobody has this user id. */
const containerUser = "54321";

/**
 * Runs a command in a root folder that has the program, its libraries, what is in `$IN` and the
 * kernel's /proc, and that cannot be written to: as a user without a name, with an empty
 * environment but for USER. It is in a mount namespace of its own, and so ends with the command.
 */
const containerScript = `
set -eu
root=$(mktemp -d -p "$IN")
mount -t tmpfs -o mode=755 none "$root"
cp "$BINARY" "$root/sshshim"
ldd "$BINARY" | grep -oE '/[^ ]+' | while read -r library; do
  mkdir -p "$root\${library%/*}"
  cp "$library" "$root$library"
done
mkdir "$root/in" "$root/proc"
cp "$IN"/key "$IN"/known_hosts "$root/in"
chown -R "$CONTAINER_USER" "$root/in"
mount --rbind /proc "$root/proc"
mount -o remount,ro "$root"
exec env -i USER=somebody \
  /usr/sbin/chroot --userspec="$CONTAINER_USER:$CONTAINER_USER" --groups= "$root" /sshshim "$@"
`;

function container(folder: string, args: string[]): RunningProcess {
  return new RunningProcess(
    ["unshare", "--mount", "/bin/sh", "-c", containerScript, "sh", ...args],
    {
      environment: {
        PATH: "/usr/bin:/bin:/usr/sbin:/sbin",
        IN: folder,
        BINARY: binary,
        CONTAINER_USER: containerUser,
      },
    },
  );
}

async function fillContainer(folder: string, sshd: Sshd): Promise<string[]> {
  await Deno.copyFile(sshd.keyFile, `${folder}/key`);
  await Deno.copyFile(sshd.knownHostsFile, `${folder}/known_hosts`);
  return [
    `${sshd.username}@${sshd.host}:${sshd.port}`,
    ...["--ed25519-key", "/in/key", "--known-hosts", "/in/known_hosts", "--local-port", "0"],
  ];
}

/** ssh refuses to run for a user without a name; plink does not. */
function plink(port: string, hostKey: string, command: string, user = containerUser): string[] {
  return [
    ...["setpriv", `--reuid=${user}`, `--regid=${user}`, "--clear-groups"],
    ...["env", "HOME=/nonexistent", "plink", "-batch", "-P", port, "-hostkey", hostKey],
    ...["-l", "anybody", "127.0.0.1", command],
  ];
}

Deno.test("it runs where there is nothing else: no user, no home, no shell, nothing to write to", async () => {
  await using folder = await makeFolder();
  await using sshd = await startSshd();
  await using shim = container(folder.path, await fillContainer(folder.path, sshd));
  const [, port = ""] = await shim.stdout.waitFor(/ is at 127\.0\.0\.1:(\d+)$/m).catch((cause) => {
    throw new Error(shim.stderr.text, { cause });
  });
  const [hostKey] = await shim.stdout.waitFor(/SHA256:\S+/);
  assert.match(shim.stderr.text, /cannot hold the local host key: Read-only file system/);

  const result = await run(plink(port, hostKey, "cat; echo err >&2; exit 37"), { stdin: "in" });
  assert.deepEqual([result.code, text(result.stdout)], [37, "in"], text(result.stderr));
  assert.match(text(result.stderr), /^err$/m);
  const other = await run(plink(port, hostKey, "true", "54322"));
  assert.notEqual(other.code, 0, "Another user was let in.");

  shim.kill("SIGTERM");
  assert.equal((await shim.drained()).code, 0, shim.stderr.text);
  assert.equal(await isListening(Number(port)), false);
});

Deno.test("where there is nothing else, what is missing is told", async (t) => {
  await using folder = await makeFolder();
  await using sshd = await startSshd();
  const args = await fillContainer(folder.path, sshd);
  const cases: { what: string; args: string[]; status: number; message: RegExp }[] = [
    {
      what: "a shell for ProxyCommand",
      args: [...args, "-o", "ProxyCommand=cat"],
      status: 5,
      message: /ProxyCommand/,
    },
    {
      what: "a person to ask",
      args: args.map((it) => it === "/in/known_hosts" ? "/in/none" : it),
      status: 4,
      message: /is unknown: ssh-ed25519 SHA256:/,
    },
    {
      what: "a file that is named",
      args: [...args, "-F", "/in/config"],
      status: 2,
      message: /\/in\/config/,
    },
  ];
  for (const { what, args, status, message } of cases) {
    await t.step(what, async () => {
      await using shim = container(folder.path, args);
      assert.equal((await shim.drained()).code, status, shim.stderr.text);
      assert.match(shim.stderr.text, message);
      assert.doesNotMatch(shim.stderr.text, /internal error/);
    });
  }

  await t.step("a place to remember an unknown host key, which ends nothing", async () => {
    const unknown = args.map((it) => it === "/in/known_hosts" ? "/in/none" : it);
    await using shim = container(folder.path, [...unknown, "--accept-new"]);
    await shim.stdout.waitFor(/Ctrl-C ends it/);
    assert.match(shim.stderr.text, /Cannot add the key of host .*Read-only file system/);
    shim.kill("SIGTERM");
    assert.equal((await shim.drained()).code, 0, shim.stderr.text);
  });
});
