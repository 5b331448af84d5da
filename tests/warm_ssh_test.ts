/** The warm session of a real sshd: what leaves in the same flight, and what sshd makes of it. */

import assert from "node:assert/strict";
import { Reader } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { startFaultyGround, untilLogged } from "./support/faulty.ts";
import { RawClient } from "./support/raw_client.ts";
import { text } from "./support/run.ts";

const { channelData, channelRequest } = MessageType;

/** What the log says when sshd has opened a session that nobody has. */
const isWarm = /the warm session is open/;

Deno.test("a client has its session, and asks all of it, before anything has passed to the host", async () => {
  await using ground = await startFaultyGround({ shim: ["--verbose"] });
  const { proxy, shim, target } = ground;
  await untilLogged(shim.log, isWarm);
  await using client = await RawClient.connect(target);
  proxy.blackHole();
  const { channel } = await client.openSession();
  client.request(channel, "pty-req", "xterm", 80, 24, 0, 0, "");
  client.request(channel, "exec", "echo here; exit 7");
  await proxy.restore();
  const data = new Reader(await client.receive(channelData), 5).bytes();
  assert.match(text(data), /here/);
  const request = new Reader(await client.receive(channelRequest), 5);
  assert.equal(request.text(), "exit-status");
  request.boolean();
  assert.equal(request.uint32(), 7);
});

Deno.test("with --no-warm sshd is asked when a client asks", async () => {
  await using ground = await startFaultyGround({ shim: ["--verbose", "--no-warm"] });
  const { shim, target } = ground;
  assert.equal((await target.ssh("true")).code, 0);
  assert.doesNotMatch(shim.log.text, isWarm);
});
