/** Large streams, also while keys are exchanged again, and the programs that move files. */

import assert from "node:assert/strict";
import { type Ground, startGround, type Target } from "./support/both.ts";
import { makeTree, patternBytes, readTree, writePatternFile } from "./support/files.ts";
import { asyncssh } from "./support/python.ts";
import { type CommandResult, run, runChecked, type RunOptions, text } from "./support/run.ts";

/** Twenty times the window of a session, and forty keys where each lasts for one MB. */
const transferBytes = 40_000_000;

Deno.test("40 MB arrive whole both ways, whoever exchanges keys again", async (t) => {
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "transfer-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const file = `${folder}/data`;
  const checksum = await writePatternFile(file, transferBytes);
  const patient = resources.use(await startGround());
  const rekeying = resources.use(
    await startGround({ sshd: { config: ["RekeyLimit 1M", "KexAlgorithms curve25519-sha256"] } }),
  );

  // The exchange that the client would choose with the server alone takes 200 ms each time.
  const often = ["-o", "RekeyLimit=1M", "-o", "KexAlgorithms=curve25519-sha256"];
  for (
    const [when, ground, options] of [
      ["on one key", patient, []],
      ["while the client changes keys after each MB", patient, often],
      ["while the server changes keys after each MB", rekeying, []],
      ["while client and server change keys after each MB", rekeying, often],
    ] satisfies [string, Ground, string[]][]
  ) {
    await ground.step(
      t,
      `download ${when}`,
      (target) => target.ssh(`cat ${file}`, { options, digestStdout: true }),
      {
        expect: (result) => {
          assert.equal(text(result.stderr), "");
          assert.equal(text(result.stdout), `${checksum} ${transferBytes}`);
        },
        inTurn: true,
      },
    );
    await ground.step(
      t,
      `upload ${when}`,
      (target) => target.ssh("sha256sum", { options, stdinFile: file }),
      {
        expect: (result) => {
          assert.equal(text(result.stderr), "");
          assert.equal(text(result.stdout), `${checksum}  -\n`);
        },
        inTurn: true,
      },
    );
  }
});

Deno.test("a client that goes on sending while it exchanges keys is understood", async () => {
  await using ground = await startGround();
  // Debian 12's asyncssh does, against RFC 4253, section 7.1.
  const result = await ground.compare((target) =>
    asyncssh(
      target,
      `
data = bytes(range(256)) * 12_000
result = await connection.run("cat", input=data, encoding=None)
print(result.stdout == data, result.exit_status)
`,
      { rekeyBytes: 1_000_000 },
    )
  );
  assert.deepEqual([text(result.stdout), text(result.stderr)], ["True 0\n", ""]);
});

Deno.test("programs that move files work as they do directly", async (t) => {
  await using ground = await startGround();
  await sftpSteps(t, ground);
  await scpSteps(t, ground);
  await rsyncSteps(t, ground);
  await gitSteps(t, ground);
});

async function sftpSteps(t: Deno.TestContext, ground: Ground): Promise<void> {
  await ground.step(
    t,
    "a batch of sftp puts, lists, renames, changes and gets",
    async (target) => {
      const { folder } = target;
      await makeTree(`${folder}/source`);
      await Deno.mkdir(`${folder}/remote`);
      const batch = [
        `cd ${folder}/remote`,
        `lcd ${folder}`,
        "put -pR source",
        "mkdir made",
        "put -p source/large made/first",
        "rename made/first made/second",
        "chmod 640 made/second",
        "symlink second made/link",
        'get -p made/second "fetched file"',
        "ls -1 made",
        "ls -1 source",
        "rm source/empty",
        "rmdir source/empty\\ folder",
        "-rm missing",
        "get -pR source back",
        "pwd",
      ];
      const result = await runClient(target, ["sftp", "-b", "-", ...clientArguments(target)], {
        stdin: batch.join("\n") + "\n",
      });
      return { result, tree: await readTree(folder) };
    },
    {
      expect: ({ result, tree }) => {
        assert.equal(result.code, 0, text(result.stderr));
        const large = tree.find((entry) => entry.path === "source/large")?.sha256;
        for (const path of ["remote/made/second", "fetched file", "back/large"]) {
          assert.equal(tree.find((entry) => entry.path === path)?.sha256, large, path);
        }
        assert.ok(!tree.some((entry) => entry.path === "back/empty"));
      },
    },
  );

  await ground.step(
    t,
    "a failing line ends the batch of sftp with 1",
    (target) =>
      runClient(target, ["sftp", "-b", "-", ...clientArguments(target)], {
        stdin: "cd /no/such/folder\npwd\n",
      }),
    { expect: (result) => assert.equal(result.code, 1) },
  );
}

async function scpSteps(t: Deno.TestContext, ground: Ground): Promise<void> {
  for (const [protocol, option] of [["scp", "-O"], ["sftp", "-s"]] as const) {
    await ground.step(
      t,
      `scp in its ${protocol} protocol copies folders there and back, with times and modes`,
      async (target) => {
        const { folder, host } = target;
        await makeTree(`${folder}/source`);
        const scp = ["scp", option, "-p", "-r", ...target.clientOptions()];
        const there = await runClient(target, [
          ...scp,
          `${folder}/source`,
          `${host}:${folder}/there`,
        ]);
        const back = await runClient(target, [...scp, `${host}:${folder}/there`, `${folder}/back`]);
        return { there, back, tree: await readTree(folder) };
      },
      {
        expect: ({ there, back, tree }) => {
          assert.equal(there.code, 0, text(there.stderr));
          assert.equal(back.code, 0, text(back.stderr));
          assertSameTree(tree, "source", "back");
        },
      },
    );

    await ground.step(
      t,
      `scp in its ${protocol} protocol reports a missing file`,
      (target) =>
        runClient(target, [
          ...["scp", option, ...target.clientOptions()],
          ...[`${target.host}:/no/such/file`, `${target.folder}/back`],
        ]),
      {
        expect: (result) => {
          assert.notEqual(result.code, 0);
          assert.match(text(result.stderr), /No such file/);
        },
      },
    );
  }
}

async function rsyncSteps(t: Deno.TestContext, ground: Ground): Promise<void> {
  await ground.step(
    t,
    "rsync copies there, updates, deletes, and copies back",
    async (target) => {
      const { folder, host } = target;
      await makeTree(`${folder}/source`);
      const shell = ["ssh", ...target.clientOptions()].join(" ");
      const rsync = (from: string, to: string) =>
        runClient(target, [
          ...["rsync", "--archive", "--checksum", "--delete", "--itemize-changes"],
          // The times of folders are those of this run.
          ...["--omit-dir-times", "-e", shell, from, to],
        ]);
      const results = [await rsync(`${folder}/source/`, `${host}:${folder}/there/`)];
      await Deno.remove(`${folder}/source/empty`);
      await Deno.writeFile(`${folder}/source/large`, patternBytes(5_000_000, 7));
      await Deno.utime(`${folder}/source/large`, 1_100_000_000, 1_100_000_000);
      results.push(await rsync(`${folder}/source/`, `${host}:${folder}/there/`));
      results.push(await rsync(`${host}:${folder}/there/`, `${folder}/back/`));
      results.push(await rsync(`${host}:${folder}/there/`, `${folder}/back/`));
      return { results, tree: await readTree(folder) };
    },
    {
      expect: ({ results, tree }) => {
        for (const result of results) assert.equal(result.code, 0, text(result.stderr));
        const [, update, , again] = results.map((result) => text(result.stdout));
        assert.equal(update, "*deleting   empty\n<fc.t...... large\n");
        assert.equal(again, "");
        assertSameTree(tree, "source", "back");
      },
    },
  );
}

async function gitSteps(t: Deno.TestContext, ground: Ground): Promise<void> {
  await ground.step(
    t,
    "git clones, pushes and fetches",
    async (target) => {
      const { folder } = target;
      const git = gitOf(target);
      await git(folder, "init", "--quiet", "--bare", "remote.git");
      await git(folder, "init", "--quiet", "first");
      await makeTree(`${folder}/first/tree`);
      const url = `ssh://${target.host}${folder}/remote.git`;
      await git(`${folder}/first`, "remote", "add", "origin", url);
      await git(`${folder}/first`, "add", ".");
      await git(`${folder}/first`, "commit", "--quiet", "-m", "first");
      const pushed = await git(`${folder}/first`, "push", "-u", "origin", "main");
      await git(folder, "clone", url, "second");
      await Deno.writeFile(`${folder}/second/more`, patternBytes(1_000_000, 3));
      await git(`${folder}/second`, "add", ".");
      await git(`${folder}/second`, "commit", "--quiet", "-m", "second");
      await git(`${folder}/second`, "push", "origin", "main");
      await git(`${folder}/first`, "pull", "--quiet", "--ff-only");
      return {
        pushed,
        log: await git(`${folder}/first`, "log", "--format=%H %s"),
        remote: await git(`${folder}/remote.git`, "rev-parse", "main"),
        check: await git(`${folder}/remote.git`, "fsck", "--full"),
      };
    },
    {
      expect: ({ log, remote }) => {
        assert.match(log, /^[0-9a-f]{40} second\n[0-9a-f]{40} first\n$/);
        assert.ok(log.startsWith(remote.trim()));
      },
    },
  );
}

/** Options and host for clients that take no command. */
function clientArguments(target: Target): string[] {
  return [...target.clientOptions(), target.host];
}

function runClient(
  target: Target,
  command: string[],
  options: RunOptions = {},
): Promise<CommandResult> {
  return run(command, { environment: target.environment, ...options });
}

/** Runs git, which has to succeed, with authors and times that are always the same. */
function gitOf(target: Target): (folder: string, ...args: string[]) => Promise<string> {
  const date = "2001-02-03T04:05:06Z";
  const environment = {
    ...target.environment,
    GIT_SSH_COMMAND: ["ssh", ...target.clientOptions()].join(" "),
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_CONFIG_NOSYSTEM: "1",
    ...{ GIT_AUTHOR_NAME: "A", GIT_AUTHOR_EMAIL: "a@example.com", GIT_AUTHOR_DATE: date },
    ...{ GIT_COMMITTER_NAME: "A", GIT_COMMITTER_EMAIL: "a@example.com", GIT_COMMITTER_DATE: date },
  };
  return (folder, ...args) =>
    runChecked(["git", "-c", "init.defaultBranch=main", ...args], { environment, folder });
}

/** Asserts that two folders of a tree hold the same files; a link may have become its target. */
function assertSameTree(
  tree: Awaited<ReturnType<typeof readTree>>,
  source: string,
  copy: string,
): void {
  const below = (folder: string) =>
    tree.filter((entry) => entry.path.startsWith(`${folder}/`) && !entry.path.endsWith("/link"))
      .map((entry) => ({ ...entry, path: entry.path.slice(folder.length) }));
  assert.ok(below(source).length > 5);
  assert.deepEqual(below(copy), below(source));
}
