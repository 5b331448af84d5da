/** The subcommands that see and steer shims that run: real shims, a real server, real clients. */

import assert from "node:assert/strict";
import { startSteering } from "./support/steering.ts";

Deno.test("list and status say what runs, and where nobody does", async () => {
  await using ground = await startSteering();
  assert.deepEqual(await ground.run(["list"]), { code: 0, stdout: "No shim runs.\n", stderr: "" });
  assert.deepEqual(await ground.run(["list", "--json"]), { code: 0, stdout: "[]\n", stderr: "" });
  const nobody = await ground.run(["status", "prod"]);
  assert.deepEqual([nobody.code, nobody.stdout], [5, ""]);
  assert.match(nobody.stderr, /No shim "prod" runs\. No shim runs at all\./);

  const shim = await ground.start();
  const list = await ground.run(["list"]);
  console.log(list.stdout);
  console.log(await ground.run(["status"]));
  console.log(await ground.run(["logs"]));
  console.log(await ground.run(["reconnect"]));
  console.log(await ground.run(["logs"]));
  console.log(await ground.run(["forward", "127.0.0.1", "-L", "0:localhost:22", "-R", "0:localhost:22", "--list"]));
  console.log(await ground.run(["wait"]));
  console.log(await ground.run(["kill", "127.0.0.1", "77"]));
  console.log(await ground.run(["stop"]));
  await shim.status;
});
