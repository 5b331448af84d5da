/**
 * Tries a compiled sshshim on any system, with the system's own ssh, against the demo's toy server:
 * it starts, passes on a command's output and exit status, and stops.
 *
 *     deno run -A .ci/binary_smoke.ts BINARY
 */

import assert from "node:assert/strict";
import { resolve } from "node:path";
import { sameUserSupported } from "../lib/access.ts";
import { generateKey } from "../lib/local_host_key.ts";
import { isListening } from "../tests/support/ports.ts";
import { run, runChecked, RunningProcess, text } from "../tests/support/run.ts";
import { startToyUpstream } from "../tests/support/toy_upstream.ts";

const [argument] = Deno.args;
if (argument === undefined) throw new Error("Name the program.");
const binary = resolve(argument);
const isWindows = Deno.build.os === "windows";

const version = await runChecked([binary, "--version"]);
assert.match(version, /^sshshim \d+\.\d+\.\d+/);
assert.match(await runChecked([binary, "--help"]), /^Usage: sshshim/m);
assert.equal((await run([binary, "--no-such-option"])).code, 2);

await using resources = new AsyncDisposableStack();
const folder = await Deno.makeTempDir();
resources.defer(() => Deno.remove(folder, { recursive: true }));
const userKey = generateKey();
await Deno.writeTextFile(`${folder}/key`, userKey.privateKey, { mode: 0o600 });
const upstream = resources.use(await startToyUpstream(userKey.publicKey));
await Deno.writeTextFile(`${folder}/upstream`, upstream.knownHostsLine);

const shim = resources.use(
  new RunningProcess([
    binary,
    `${upstream.username}@${upstream.host}:${upstream.port}`,
    ...["--ed25519-key", `${folder}/key`, "--known-hosts", `${folder}/upstream`],
    ...["-F", "none", "--local-port", "0", "--log-format", "json"],
    ...(sameUserSupported() ? [] : ["--local-auth", "none"]),
  ], {
    environment: {
      ...Deno.env.toObject(),
      XDG_STATE_HOME: folder,
      LOCALAPPDATA: folder,
      ...(isWindows ? {} : { HOME: folder }),
    },
  }),
);
const [line] = await shim.stdout.waitFor(/^\{.*"listening".*\}$(?=\r?\n)/m).catch((cause) => {
  throw new Error(shim.stderr.text, { cause });
});
const { localPort, knownHostsLine } = JSON.parse(line);
await Deno.writeTextFile(`${folder}/known_hosts`, `${knownHostsLine}\n`);

const result = await run([
  ...["ssh", "-F", isWindows ? "NUL" : "/dev/null", "-p", String(localPort)],
  ...["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"],
  ...["-o", `UserKnownHostsFile=${folder}/known_hosts`, "127.0.0.1"],
  isWindows ? "echo out& exit 37" : "echo out; exit 37",
]);
assert.deepEqual([result.code, text(result.stdout).trim()], [37, "out"], text(result.stderr));

shim.kill("SIGTERM");
const { code } = await shim.drained({ timeoutMs: 10_000 });
// Windows has no such signal: Deno ends the process there.
if (!isWindows) assert.equal(code, 0, shim.stderr.text);
assert.equal(await isListening(localPort), false);
console.log(`${version.trim()} starts, runs a command and stops`);
