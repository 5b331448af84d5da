/** Clients of the control socket that pass what no ssh passes, or leave when no ssh leaves. */

import assert from "node:assert/strict";
import { laneTarget } from "./support/behind.ts";
import { type Ground, startGround } from "./support/both.ts";
import { runControlClient, startControlClient } from "./support/control_client.ts";
import { waitUntil } from "./support/processes.ts";
import { text } from "./support/run.ts";
import { startEcho } from "./support/services.ts";

/** How many descriptors the shim has open. */
async function descriptorCount({ shim }: Ground): Promise<number> {
  return (await Array.fromAsync(Deno.readDir(`/proc/${shim.pid}/fd`))).length;
}

/** A client has left, and nothing of it is there any more. */
async function assertNothingIsLeft(ground: Ground, before: number): Promise<void> {
  await waitUntil(
    "its descriptors are closed",
    async () => await descriptorCount(ground) <= before,
  );
  const result = await laneTarget(ground).ssh("echo here");
  assert.deepEqual([result.code, text(result.stdout)], [0, "here\n"], text(result.stderr));
}

async function startWarmGround(): Promise<{ ground: Ground; before: number }> {
  const ground = await startGround({ sshd: { config: ["MaxSessions 100"] } });
  await laneTarget(ground).ssh("true");
  return { ground, before: await descriptorCount(ground) };
}

Deno.test("a connection has one session, and what is passed for another one is closed", async () => {
  const { ground, before } = await startWarmGround();
  await using _ = ground;
  const printed = await runControlClient(
    laneTarget(ground),
    `
client = Client()
client.session("sleep 1000", nothing, nothing, nothing)
client.expect(OPENED)
client.session("echo second", nothing, nothing, nothing, request=2)
print(client.expect(FAILURE)[8:].decode())
`,
  );
  assert.match(printed, /there is a session already/);
  await assertNothingIsLeft(ground, before);
});

Deno.test("a forwarded connection whose output nobody takes ends with its client", async () => {
  const { ground, before } = await startWarmGround();
  await using _ = ground;
  await using echo = startEcho({ greeting: "x".repeat(4 * 1024 * 1024) });
  await using client = await startControlClient(
    laneTarget(ground),
    `
reader, writer = os.pipe()
client = Client()
client.connection(${echo.port}, os.pipe()[0], writer)
client.expect(OPENED)
while len(select.select([], [writer], [], 0)[1]):
    select.select([reader], [], [])
print("full", flush=True)
client.close()
sys.stdin.readline()
`,
  );
  await client.stdout.waitFor(/full/);
  await assertNothingIsLeft(ground, before);
});

Deno.test("what was not opened for reading is not read from, nor written to what was not opened for that", async () => {
  const { ground, before } = await startWarmGround();
  await using _ = ground;
  await runControlClient(
    laneTarget(ground),
    `
reader, writer = os.pipe()
os.write(writer, b"for others")
client = Client()
out, into = os.pipe()
client.session("echo started; cat", writer, into, nothing)
client.expect(OPENED)
assert os.read(out, 100) == b"started\\n"
other = Client()
other.session("echo wrong; echo right >&2", nothing, reader, into)
other.expect(OPENED)
assert os.read(out, 100) == b"right\\n"
assert os.read(reader, 100) == b"for others"
`,
  );
  await assertNothingIsLeft(ground, before);
});

Deno.test("terminals by the name /dev/tty that take nothing hold up nobody else", async () => {
  const { ground, before } = await startWarmGround();
  await using _ = ground;
  await runControlClient(
    laneTarget(ground),
    `
kept = []
for _ in range(40):
    master, tty, alive = terminal()
    client = Client()
    client.session("head -c 300000 /dev/zero; sleep 1000", nothing, tty, nothing)
    client.expect(OPENED)
    os.close(tty)
    kept.append((master, client, alive))
    assert output_of("echo here") == (b"here\\n", 0)
for master, client, alive in kept:
    client.close()
    alive.close()
    os.close(master)
`,
  );
  await assertNothingIsLeft(ground, before);
});
