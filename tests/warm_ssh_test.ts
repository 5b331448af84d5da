/** The warm session of a real sshd: what leaves in the same flight, and what sshd makes of it. */

import assert from "node:assert/strict";
import { Reader } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { countMessages, startFaultyGround, untilLogged } from "./support/faulty.ts";
import { RawClient } from "./support/raw_client.ts";

const { channelData, channelRequest } = MessageType;

/** What a command prints, in bytes: several packets. */
const outputBytes = 100_000;

/** The same as `seq 100000 | head -c` prints it. */
const expectedOutput = Array.from({ length: 100_000 }, (_, index) => `${index + 1}\n`).join("")
  .slice(0, outputBytes);

/** What the log says when sshd has opened a session that nobody has. */
const isWarm = /the warm session is open/;

// OpenSSH's terminals announce half of what its commands do.
for (const [kind, maximumPacketSize] of [["command", 32_768], ["terminal", 16_384]] as const) {
  Deno.test(`a ${kind} is asked for, whole, before anything has passed to the host`, async () => {
    await using ground = await startFaultyGround({ shim: ["--verbose"] });
    const { proxy, shim, target } = ground;
    await untilLogged(shim.log, isWarm);
    await using client = await RawClient.connect(target);
    proxy.blackHole();
    const { channel } = await client.openSession({ maximumPacketSize });
    if (kind === "terminal") client.request(channel, "pty-req", "xterm", 80, 24, 0, 0, "");
    client.request(channel, "exec", `head -c ${outputBytes} /dev/zero; exit 7`);
    await proxy.restore();
    const { pieces, status } = await receiveOutput(client);
    assert(pieces.every(({ length }) => length <= maximumPacketSize));
    assert.equal(status, 7);
  });
}

/** All that a session prints, which is `outputBytes`, and its exit status. */
async function receiveOutput(client: RawClient): Promise<{ pieces: Uint8Array[]; status: number }> {
  const pieces: Uint8Array[] = [];
  let received = 0;
  let status: number | undefined;
  // Of a terminal sshd tells the status before the last of the output.
  while (received < outputBytes || status === undefined) {
    const message = await client.receive(channelData, channelRequest);
    const reader = new Reader(message, 5);
    if (message[0] === channelData) {
      const piece = reader.bytes();
      pieces.push(piece.slice());
      received += piece.length;
    } else if (reader.text() === "exit-status") {
      reader.boolean();
      status = reader.uint32();
    }
  }
  return { pieces, status };
}

for (const how of ["rst", "fin", "hole"] as const) {
  Deno.test(`with --resume it is used while the network is away by ${how}, once, and none is lost`, async () => {
    const keepalive = ["--keepalive-interval", "1", "--keepalive-count", "2"];
    const shimWords = ["--verbose", "--resume", "--reconnect-max-delay", "1", ...keepalive];
    await using ground = await startFaultyGround({ shim: shimWords });
    const { proxy, shim, target } = ground;
    await untilLogged(shim.log, isWarm);
    const runs = `${target.folder}/runs`;
    for (const status of [7, 8, 9]) {
      const from = shim.log.text.length;
      const lose = async () => {
        if (how === "hole") proxy.blackHole();
        else {
          await proxy.refuse();
          proxy.cutAll(how);
        }
      };
      await lose();
      await using client = await RawClient.connect(target);
      // Nothing passes to the host: it is upstream's confirmation of before.
      const { channel } = await client.openSession({ maximumPacketSize: 32_768 });
      client.request(
        channel,
        "exec",
        `echo ${status} >> ${runs}; seq 100000 | head -c ${outputBytes}; exit ${status}`,
      );
      await untilLogged(shim.log, /the connection is away/, { from });
      assert.equal(countMessages(shim.log, isWarm), status - 6);
      if (how === "hole") proxy.cutAll("rst");
      await proxy.restore();
      const output = await receiveOutput(client);
      const text = await new Blob(output.pieces as Uint8Array<ArrayBuffer>[]).text();
      assert.equal(text, expectedOutput);
      assert.equal(output.status, status);
      await untilLogged(shim.log, isWarm, { from });
      // Once more, with nobody there but the warm one.
      const again = shim.log.text.length;
      await lose();
      await untilLogged(shim.log, /the connection is away/, { from: again });
      if (how === "hole") proxy.cutAll("rst");
      await proxy.restore();
      await untilLogged(shim.log, /the connection is back/, { from: again });
    }
    assert.equal(await Deno.readTextFile(runs), "7\n8\n9\n");
    assert.equal((await target.ssh("exit 5")).code, 5);
    // One for each session, and the next one.
    await untilLogged(shim.log, isWarm, { count: 5 });
    assert.equal(countMessages(shim.log, isWarm), 5);
    assert.doesNotMatch(shim.log.text, /connection lost|warm session is (closed|refused)/);
  });
}

Deno.test("sshd asks on it whether the connection lives, and is answered", async () => {
  const config = ["ClientAliveInterval 1", "ClientAliveCountMax 1", "LogLevel DEBUG1"];
  await using ground = await startFaultyGround({ sshd: { config }, shim: ["--verbose"] });
  // CHANNEL_FAILURE, which it counts as a sign of life.
  for (let from = 0, count = 0; count < 2; count++) {
    const { index } = await ground.sshd.log.waitFor(/Got 100\/\d+ for keepalive/, { from });
    from += index + 1;
  }
  assert.equal((await ground.target.ssh("true")).code, 0);
});

Deno.test("a connection that has nothing but a warm session is unused to sshd, and sleeps", async () => {
  const config = ["UnusedConnectionTimeout 1"];
  await using ground = await startFaultyGround({ sshd: { config }, shim: ["--verbose"] });
  const { shim, target } = ground;
  await untilLogged(shim.log, isWarm);
  await untilLogged(shim.log, /the next client wakes the connection/);
  const from = shim.log.text.length;
  assert.equal((await target.ssh("true")).code, 0);
  await untilLogged(shim.log, isWarm, { from });
});

Deno.test("with --no-warm sshd is asked when a client asks", async () => {
  await using ground = await startFaultyGround({ shim: ["--verbose", "--no-warm"] });
  const { shim, target } = ground;
  assert.equal((await target.ssh("true")).code, 0);
  assert.doesNotMatch(shim.log.text, isWarm);
});
