/** Remote forwards come back after a loss: on a real sshd, at their places, for who still wants them. */

import assert from "node:assert/strict";
import {
  countMessages,
  cutAndReturn,
  type FaultyGround,
  startFaultyGround,
  startMany,
  untilLogged,
} from "./support/faulty.ts";
import { lead } from "./support/forwarding.ts";
import { freePort } from "./support/ports.ts";
import { waitUntil } from "./support/processes.ts";
import { type RunningProcess, text } from "./support/run.ts";
import {
  type Address,
  echoed,
  exchange,
  isFree,
  type Service,
  startEcho,
  tcpAddress,
} from "./support/services.ts";

Deno.test("forwards of three clients come back where they were once the dead connection lets go", async () => {
  // Without it sshd leaves the socket of a dead connection in the way of everybody.
  await using ground = await startFaultyGround({
    sshd: { config: ["StreamLocalBindUnlink yes"] },
  });
  const { shim, proxy, gate, sshd } = ground;
  await using resources = new AsyncDisposableStack();
  const echoes = ["fixed ", "free ", "socket "].map((greeting) =>
    resources.use(startEcho({ greeting }))
  );
  const [fixed, free, socket] = echoes as [Service, Service, Service];
  const port = freePort();
  const path = `${sshd.folder}/socket`;
  resources.use(await startListening(ground, lead(port, fixed)));
  const asking = resources.use(await startListening(ground, `0:127.0.0.1:${free.port}`));
  resources.use(await startListening(ground, `${path}:127.0.0.1:${socket.port}`));
  const allocated = allocatedPort(asking);
  const ports = [port, allocated];

  const assertLeadsHome = async () => {
    const answers: [Address, string][] = [
      [tcpAddress(port), "fixed "],
      [tcpAddress(allocated), "free "],
      [{ transport: "unix", path }, "socket "],
    ];
    for (const [address, greeting] of answers) {
      assert.deepEqual(text(await exchange(address, "hello")), text(echoed(greeting, "hello")));
    }
  };

  await assertLeadsHome();
  for (let round = 0; round < 2; round++) {
    const from = shim.log.text.length;
    gate.keepLost();
    proxy.cutAll("rst");
    for (const taken of ports) {
      await untilLogged(shim.log, new RegExp(`remote forward .*:${taken} is still taken`), {
        from,
      });
    }
    await untilLogged(shim.log, new RegExp(`remote forward ${path} is back`), { from });
    assert.equal(countMessages(shim.log, /remote forward .* is back/, from), 1);
    await gate.releaseLost();
    for (const taken of ports) {
      await untilLogged(shim.log, new RegExp(`remote forward .*:${taken} is back`), { from });
    }
    assert.equal(countMessages(shim.log, /is still taken/, from), 2);
    await assertLeadsHome();
  }
});

Deno.test("a unix socket that sshd leaves behind is taken until somebody removes it", async () => {
  await using ground = await startFaultyGround();
  await using echo = startEcho();
  const path = `${ground.sshd.folder}/socket`;
  await using _client = await startListening(ground, `${path}:127.0.0.1:${echo.port}`);
  const address = { transport: "unix", path } as const;
  assert.deepEqual(await exchange(address, "before"), echoed("", "before"));
  await cutAndReturn(ground, "rst");
  await untilLogged(ground.shim.log, /remote forward .*socket is still taken/);
  await Deno.remove(path);
  await untilLogged(ground.shim.log, /remote forward .*socket is back/);
  assert.deepEqual(await exchange(address, "after"), echoed("", "after"));
});

Deno.test("what a client that left while the link was down listened on is not asked for again", async () => {
  await using ground = await startFaultyGround();
  const { shim, proxy } = ground;
  await using echo = startEcho();
  const [gone, here] = [freePort(), freePort()];
  await using leaving = await startListening(ground, lead(gone, echo));
  await using _staying = await startListening(ground, lead(here, echo));
  await proxy.refuse();
  proxy.cutAll("rst");
  await untilLogged(shim.log, /trying again/);
  leaving.kill("SIGKILL");
  await untilLogged(shim.log, /client 1 left/);
  await proxy.restore();
  await untilLogged(shim.log, new RegExp(`remote forward .*:${here} is back`));
  assert.equal(await isFree(gone), true);
  assert.equal(countMessages(shim.log, new RegExp(`:${gone}`)), 0);
});

Deno.test("a client that leaves while its forward is still taken is not served any more", async () => {
  await using ground = await startFaultyGround();
  const { shim, proxy, gate } = ground;
  await using echo = startEcho();
  const [gone, here] = [freePort(), freePort()];
  await using leaving = await startListening(ground, lead(gone, echo));
  await using _staying = await startListening(ground, lead(here, echo));
  gate.keepLost();
  proxy.cutAll("rst");
  await untilLogged(shim.log, new RegExp(`remote forward .*:${gone} is still taken`));
  leaving.kill("SIGKILL");
  await untilLogged(shim.log, /client 1 left/);
  await gate.releaseLost();
  await untilLogged(shim.log, new RegExp(`remote forward .*:${here} is back`));
  await waitUntil("the port is free", () => isFree(gone));
  assert.equal(countMessages(shim.log, new RegExp(`:${gone} is back`)), 0);
});

Deno.test("a forward that is cancelled while the link is down does not come back, its neighbour does", async () => {
  await using ground = await startFaultyGround();
  const { shim, proxy, target } = ground;
  await using echo = startEcho();
  const [cancelled, kept] = [freePort(), freePort()];
  const path = `${target.folder}/master`;
  await using _master = await startListening(
    ground,
    lead(cancelled, echo),
    ["-M", "-o", `ControlPath=${path}`, "-R", lead(kept, echo)],
  );
  const control = async (command: string, port: number) => {
    const options = ["-O", command, "-o", `ControlPath=${path}`, "-R", lead(port, echo)];
    const { code, stderr } = await target.ssh("", { options });
    assert.deepEqual([code, text(stderr)], [0, ""]);
  };
  await proxy.refuse();
  proxy.cutAll("rst");
  await untilLogged(shim.log, /trying again/);
  await control("cancel", cancelled);
  await proxy.restore();
  await untilLogged(shim.log, new RegExp(`remote forward .*:${kept} is back`));
  assert.equal(await isFree(cancelled), true);
  await control("forward", cancelled);
  assert.deepEqual(await exchange(tcpAddress(cancelled), "again"), echoed("", "again"));
});

Deno.test("forwards asked for while the link is down are answered with the truth at its return", async () => {
  await using ground = await startFaultyGround();
  const { shim, proxy, target } = ground;
  await using echo = startEcho();
  await using taken = startEcho();
  await proxy.refuse();
  proxy.cutAll("rst");
  await untilLogged(shim.log, /trying again/);
  const granted = startMany(1, () => startListening(ground, `0:127.0.0.1:${echo.port}`));
  await using refused = target.startSsh(undefined, {
    options: ["-N", "-o", "ExitOnForwardFailure=yes", "-R", lead(taken.port, echo)],
  });
  await untilLogged(shim.log, /client \d+ connected from/, { count: 2 });
  await proxy.restore();
  assert.equal((await refused.drained()).code, 255);
  assert.match(
    refused.stderr.text,
    new RegExp(`remote port forwarding failed for listen port ${taken.port}`),
  );
  await using client = (await granted())[0]!;
  assert.deepEqual(await exchange(tcpAddress(allocatedPort(client)), "x"), echoed("", "x"));
});

/** A client that only listens on the far side; resolves when its forward stands. */
async function startListening(
  { target }: FaultyGround,
  forward: string,
  options: string[] = [],
): Promise<RunningProcess> {
  const client = target.startSsh(undefined, {
    options: ["-N", "-v", "-o", "ExitOnForwardFailure=yes", "-R", forward, ...options],
  });
  try {
    await client.stderr.waitFor(/all expected forwarding replies received/);
  } catch (error) {
    await client[Symbol.asyncDispose]();
    throw error;
  }
  return client;
}

function allocatedPort({ stderr }: RunningProcess): number {
  return Number(/Allocated port (\d+) for remote forward/.exec(stderr.text)?.[1]);
}
