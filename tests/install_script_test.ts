/** install.sh, run against releases that are there, damaged, or missing. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { patternBytes, sha256 } from "./support/files.ts";
import { type CommandResult, run, runChecked, text } from "./support/run.ts";
import { startService, writeAll } from "./support/services.ts";

const script = fileURLToPath(new URL("../.github/install.sh", import.meta.url));
const platform = `linux-${Deno.build.arch}`;

/** A place with releases, and a person's home. */
interface Ground extends AsyncDisposable {
  folder: string;
  home: string;
  program: string;
  /** What the server has, by path. */
  files: Map<string, Uint8Array>;
  /** Runs the script. */
  install(args?: string[], options?: InstallOptions): Promise<CommandResult>;
}

interface InstallOptions {
  environment?: Record<string, string>;
  /** What runs the script; sh by default. */
  shell?: string[];
  releases?: string;
}

async function startGround(): Promise<Ground> {
  const folder = await Deno.makeTempDir({ prefix: "install-" });
  const files = new Map<string, Uint8Array>();
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const body = files.get(new URL(request.url).pathname);
    return body ? new Response(body.slice()) : new Response("none", { status: 404 });
  });
  const home = `${folder}/home`;
  await Deno.mkdir(`${folder}/temporary`);
  await Deno.mkdir(home);
  const ground: Ground = {
    folder,
    home,
    program: `${home}/.local/bin/sshshim`,
    files,
    install: (args = [], { environment = {}, shell = ["sh"], releases } = {}) =>
      run([...shell, script, ...args], {
        environment: {
          PATH: Deno.env.get("PATH")!,
          HOME: home,
          TMPDIR: `${folder}/temporary`,
          SSHSHIM_RELEASES: releases ?? `http://127.0.0.1:${server.addr.port}`,
          ...environment,
        },
      }),
    async [Symbol.asyncDispose]() {
      await server.shutdown();
      await Deno.remove(folder, { recursive: true });
    },
  };
  await addRelease(ground, "1.0.0");
  await addRelease(ground, "1.1.0");
  return ground;
}

/** Adds a release that is the newest from now on; its program tells its version. */
async function addRelease({ folder, files }: Ground, version: string): Promise<void> {
  const name = `sshshim-${version}-${platform}`;
  await Deno.mkdir(`${folder}/${name}`);
  const padding = patternBytes(100_000).toBase64();
  await Deno.writeTextFile(
    `${folder}/${name}/sshshim`,
    `#!/bin/sh\necho "sshshim ${version}"\nexit\n${padding}\n`,
    { mode: 0o755 },
  );
  await runChecked(["tar", "-czf", `${folder}/${name}.tar.gz`, "-C", folder, name]);
  const archive = await Deno.readFile(`${folder}/${name}.tar.gz`);
  files.set(`/download/${version}/${name}.tar.gz`, archive);
  const sums = new TextEncoder().encode(
    `${"0".repeat(64)}  sshshim-${version}-macos-aarch64.tar.gz\n` +
      `${sha256(archive)}  ${name}.tar.gz\n`,
  );
  files.set(`/download/${version}/SHA256SUMS`, sums);
  files.set("/latest/download/SHA256SUMS", sums);
}

function archivePath(version: string): string {
  return `/download/${version}/sshshim-${version}-${platform}.tar.gz`;
}

/** Asserts that an installation failed, said why, and left everything as it was. */
async function assertFailed(
  { folder, program }: Ground,
  result: CommandResult,
  { message, before }: { message: RegExp; before?: string },
): Promise<void> {
  assert.notEqual(result.code, 0);
  assert.match(text(result.stderr), message);
  assert.match(text(result.stderr), /^install: .*\.$/m);
  assert.deepEqual(Array.from(Deno.readDirSync(`${folder}/temporary`)), []);
  const bin = program.slice(0, program.lastIndexOf("/"));
  const names = await runChecked(["sh", "-c", `ls -A "$0" 2>/dev/null || true`, bin]);
  assert.equal(names, before === undefined ? "" : "sshshim\n");
  if (before !== undefined) assert.equal(await runChecked([program]), before);
}

Deno.test("install.sh has no fault that shellcheck knows", async () => {
  await runChecked(["shellcheck", "--shell", "sh", script]);
});

Deno.test("install.sh installs the newest release or the one that is named, and removes it", async () => {
  await using ground = await startGround();
  const first = await ground.install();
  assert.equal(first.code, 0, text(first.stderr));
  assert.match(text(first.stdout), /^Installed sshshim 1\.1\.0 at .*\/\.local\/bin\/sshshim\.$/m);
  assert.match(
    text(first.stdout),
    /not in your PATH.*\n {2}export PATH="\$HOME\/\.local\/bin:\$PATH"/,
  );
  assert.equal((await Deno.stat(ground.program)).mode! & 0o777, 0o755);

  const path = `${ground.home}/.local/bin:${Deno.env.get("PATH")}`;
  const older = await ground.install(["--version", "1.0.0"], { environment: { PATH: path } });
  assert.equal(text(older.stdout), `Installed sshshim 1.0.0 at ${ground.program}.\n`);
  assert.equal(await runChecked([ground.program]), "sshshim 1.0.0\n");
  assert.deepEqual(Array.from(Deno.readDirSync(`${ground.folder}/temporary`)), []);

  const removed = await ground.install(["--uninstall"]);
  assert.equal(removed.code, 0);
  assert.match(text(removed.stdout), /^Removed .*host keys are left in/);
  const again = await ground.install(["--uninstall"]);
  await assertFailed(ground, again, { message: /there is no .*\/sshshim\./ });
});

Deno.test("install.sh works with other shells, and with wget in place of curl", async (t) => {
  await using ground = await startGround();
  const tools = `${ground.folder}/tools`;
  await Deno.mkdir(tools);
  const names = "sh uname ldd grep sed mktemp rm tar gzip mkdir cp chmod mv sha256sum wget cut cat";
  for (const name of names.split(" ")) {
    const [path] = (await runChecked(["sh", "-c", `command -v ${name}`])).split("\n");
    await Deno.symlink(path!, `${tools}/${name}`);
  }
  for (const shell of [["dash"], ["bash", "--posix"], ["bash"]]) {
    await t.step(shell.join(" "), async () => {
      const result = await ground.install([], { shell });
      assert.equal(result.code, 0, text(result.stderr));
    });
  }
  await t.step("wget", async () => {
    const shell = [await runChecked(["sh", "-c", "command -v dash"]).then((it) => it.trim())];
    const result = await ground.install([], { shell, environment: { PATH: tools } });
    assert.equal(result.code, 0, text(result.stderr));
    await Deno.remove(`${tools}/wget`);
    const neither = await ground.install([], { shell, environment: { PATH: tools } });
    await assertFailed(ground, neither, {
      message: /neither curl nor wget is here/,
      before: "sshshim 1.1.0\n",
    });
  });
});

Deno.test("install.sh leaves what is there when a release is damaged or missing", async (t) => {
  await using ground = await startGround();
  await ground.install(["--version", "1.0.0"]);
  const before = "sshshim 1.0.0\n";
  const good = ground.files.get(archivePath("1.1.0"))!;

  await t.step("an archive with one bit changed", async () => {
    const damaged = good.slice();
    damaged[damaged.length >> 1]! ^= 1;
    ground.files.set(archivePath("1.1.0"), damaged);
    await assertFailed(ground, await ground.install(), { message: /is damaged/, before });
  });
  await t.step("a page of a proxy in place of the archive", async () => {
    ground.files.set(archivePath("1.1.0"), new TextEncoder().encode("<html>Log in</html>"));
    await assertFailed(ground, await ground.install(), { message: /is damaged/, before });
  });
  await t.step("a release without the archive", async () => {
    ground.files.delete(archivePath("1.1.0"));
    await assertFailed(ground, await ground.install(), { message: /cannot download/, before });
  });
  await t.step("a version that was never released", async () => {
    const result = await ground.install(["--version", "9.9.9"]);
    await assertFailed(ground, result, { message: /cannot download .*9\.9\.9/, before });
  });
  await t.step("a program that does not run here", async () => {
    await addRelease(ground, "1.2.0");
    const name = `sshshim-1.2.0-${platform}`;
    await Deno.writeTextFile(`${ground.folder}/${name}/sshshim`, "#!/nowhere\n");
    await runChecked(["tar", "-czf", `${ground.folder}/x.tar.gz`, "-C", ground.folder, name]);
    const archive = await Deno.readFile(`${ground.folder}/x.tar.gz`);
    ground.files.set(archivePath("1.2.0"), archive);
    const sums = new TextEncoder().encode(`${sha256(archive)}  ${name}.tar.gz\n`);
    ground.files.set("/latest/download/SHA256SUMS", sums);
    await assertFailed(ground, await ground.install(), { message: /does not run/, before });
  });
  await t.step("an answer that ends halfway", async () => {
    const sums = ground.files.get("/download/1.1.0/SHA256SUMS")!;
    await using server = startService(async (connection) => {
      const buffer = new Uint8Array(4096);
      const request = text(buffer.subarray(0, await connection.read(buffer) ?? 0));
      const body = request.includes("SHA256SUMS") ? sums : good;
      const head = `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`;
      await writeAll(connection, new TextEncoder().encode(head));
      await writeAll(connection, body === sums ? sums : good.subarray(0, good.length >> 1));
    });
    const result = await ground.install([], { releases: `http://127.0.0.1:${server.port}` });
    await assertFailed(ground, result, { message: /cannot download/, before });
  });
  await t.step("nobody who answers", async () => {
    const result = await ground.install([], { releases: "http://127.0.0.1:1" });
    await assertFailed(ground, result, { message: /cannot download/, before });
  });
});

Deno.test("install.sh tells what it cannot do here", async (t) => {
  await using ground = await startGround();
  const fake = `${ground.folder}/fake`;
  await Deno.mkdir(fake);
  const pretend = async (name: string, words: string) => {
    await Deno.writeTextFile(`${fake}/${name}`, `#!/bin/sh\n${words}\n`, { mode: 0o755 });
  };
  const environment = { PATH: `${fake}:${Deno.env.get("PATH")}` };
  const cases = [
    { uname: "case $1 in -s) echo Linux;; *) echo riscv64;; esac", message: /a riscv64 processor/ },
    { uname: "case $1 in -s) echo SunOS;; *) echo x86_64;; esac", message: /for SunOS here/ },
  ];
  for (const { uname, message } of cases) {
    await t.step(message.source, async () => {
      await pretend("uname", uname);
      await assertFailed(ground, await ground.install([], { environment }), { message });
    });
  }
  await Deno.remove(`${fake}/uname`);
  await t.step("musl", async () => {
    await pretend("ldd", "echo 'musl libc (x86_64)' >&2; exit 1");
    await assertFailed(ground, await ground.install([], { environment }), { message: /musl/ });
    await Deno.remove(`${fake}/ldd`);
  });
  await t.step("options that it does not have", async () => {
    for (
      const [args, message] of [
        [["--prefix", "/usr"], /no option --prefix/],
        [["--version"], /wants a version/],
        [["--version", "../../x"], /wants a version/],
      ] as const
    ) {
      await assertFailed(ground, await ground.install([...args]), { message });
    }
  });
  await t.step("a copy that belongs to no release", async () => {
    const result = await ground.install([], { environment: { SSHSHIM_RELEASES: "" } });
    await assertFailed(ground, result, { message: /belongs to no release/ });
  });
  await t.step("a folder that it cannot write to", async () => {
    await Deno.writeTextFile(`${ground.home}/.local`, "a file");
    const result = await ground.install();
    await Deno.remove(`${ground.home}/.local`);
    await assertFailed(ground, result, { message: /cannot make the folder/ });
  });
  await t.step("half of the script does nothing", async () => {
    const whole = await Deno.readTextFile(script);
    const half = `${ground.folder}/half.sh`;
    await Deno.writeTextFile(half, whole.slice(0, whole.lastIndexOf("main")));
    const result = await run(["sh", half], { environment: { HOME: ground.home } });
    assert.deepEqual([text(result.stdout), text(result.stderr)], ["", ""]);
  });
});

Deno.test("install.sh leaves what is there when the disk is full", async (t) => {
  await using ground = await startGround();
  await ground.install(["--version", "1.0.0"]);
  for (
    const [where, folder] of [
      ["for temporary files", `${ground.folder}/temporary`],
      ["of the program", `${ground.home}/.local/bin`],
    ] as const
  ) {
    await t.step(`the disk ${where}`, async () => {
      // What the small disk holds afterwards is told as the last line.
      const script = [
        `mount -t tmpfs -o size=64k none "$0"`,
        `echo old > "$0/sshshim"`,
        `status=0; sh "$@" || status=$?`,
        `ls -A "$0"; exit $status`,
      ].join("\n");
      const shell = ["unshare", "--mount", "/bin/sh", "-c", script, folder];
      const result = await ground.install([], { shell });
      assert.notEqual(result.code, 0);
      assert.match(text(result.stderr), /^install: cannot .*[.?]$/m);
      assert.equal(text(result.stdout), "sshshim\n");
    });
  }
  assert.equal(await runChecked([ground.program]), "sshshim 1.0.0\n");
});
