/**
 * Tries a compiled sshshim against a real OpenSSH server: it starts, passes on a command's exit
 * status and a file over SFTP, and stops.
 *
 *     deno run -A .ci/binary_smoke.ts BINARY
 */

import assert from "node:assert/strict";
import { resolve } from "node:path";
import { clientEnvironment, makeTarget } from "../tests/support/both.ts";
import { patternBytes } from "../tests/support/files.ts";
import { isListening } from "../tests/support/ports.ts";
import { run, runChecked, RunningProcess, text } from "../tests/support/run.ts";
import { shimEnvironment, upstreamArguments } from "../tests/support/shim.ts";
import { startSshd } from "../tests/support/sshd.ts";

const [argument] = Deno.args;
if (argument === undefined) throw new Error("Name the binary.");
const binary = resolve(argument);

const version = await runChecked([binary, "--version"]);
assert.match(version, /\d+\.\d+\.\d+/);
assert.equal((await run([binary, "--no-such-option"])).code, 2);

await using resources = new AsyncDisposableStack();
const folder = await Deno.makeTempDir();
resources.defer(() => Deno.remove(folder, { recursive: true }));
const sshd = resources.use(await startSshd());
const shim = resources.use(
  new RunningProcess([binary, ...upstreamArguments(sshd), "--local-port", "0"], {
    environment: shimEnvironment(folder),
  }),
);
const [, address = "", port = ""] = await shim.stdout.waitFor(/ is at ([\d.]+):(\d+)$/m);
const [, hostKeyLine] = await shim.stdout.waitFor(/echo '([^']+)'/);
const knownHostsFile = `${folder}/known_hosts`;
await Deno.writeTextFile(knownHostsFile, `${hostKeyLine}\n`);
const target = makeTarget({
  mode: "shim",
  host: address,
  port: Number(port),
  username: sshd.username,
  keyFile: sshd.keyFile,
  knownHostsFile,
  folder,
  environment: clientEnvironment(folder),
});

const result = await target.ssh("cat; echo err >&2; exit 37", { stdin: "in" });
assert.deepEqual([result.code, text(result.stdout)], [37, "in"], text(result.stderr));
assert.equal(text(result.stderr), "err\n");

const content = patternBytes(3_000_000);
await Deno.writeFile(`${folder}/file`, content);
await runChecked(["sftp", "-b", "-", ...target.clientOptions(), address], {
  environment: target.environment,
  stdin: `put ${folder}/file ${folder}/there\nget ${folder}/there ${folder}/back\n`,
});
assert.deepEqual(await Deno.readFile(`${folder}/back`), content);

shim.kill("SIGTERM");
const { code } = await shim.drained({ timeoutMs: 10_000 });
assert.equal(code, 0, shim.stderr.text);
assert.equal(await isListening(target.port), false);
console.log(`binary: ${version.trim()} starts, runs a command, copies a file and stops`);
