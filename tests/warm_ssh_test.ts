/** The warm session of a real sshd: what leaves in the same flight, and what sshd makes of it. */

import assert from "node:assert/strict";
import { Reader } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { startFaultyGround, untilLogged } from "./support/faulty.ts";
import { RawClient } from "./support/raw_client.ts";

const { channelData, channelRequest } = MessageType;

/** What a command prints, in bytes: several packets. */
const outputBytes = 100_000;

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
    let received = 0;
    let status: number | undefined;
    // Of a terminal sshd tells the status before the last of the output.
    while (received < outputBytes || status === undefined) {
      const message = await client.receive(channelData, channelRequest);
      const reader = new Reader(message, 5);
      if (message[0] === channelData) {
        const { length } = reader.bytes();
        assert(length <= maximumPacketSize);
        received += length;
      } else if (reader.text() === "exit-status") {
        reader.boolean();
        status = reader.uint32();
      }
    }
    assert.equal(status, 7);
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
