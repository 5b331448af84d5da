/** The port that is listened at: the usual one, a free one in its place, and who has it else. */

import assert from "node:assert/strict";
import { EndpointError } from "../lib/errors.ts";
import { listen } from "../lib/local_port.ts";

const hostname = "127.0.0.1";

Deno.test("without a port it is the usual one, or a free one where another shim has that", async () => {
  using taken = Deno.listen({ hostname, port: 0 });
  const { port } = taken.addr;
  const wish = { hostname, port: undefined, defaultPort: port };
  const others = [{ name: "prod", pid: 4711, port }];
  using free = await listen(wish, others);
  assert.notEqual(free.addr.port, port);

  await assert.rejects(listen(wish, []), (error) => {
    assert(error instanceof EndpointError);
    if (Deno.build.os === "linux") {
      assert.match(error.message, new RegExp(`deno listens there \\(process ${Deno.pid}\\)`));
    }
    assert.match(error.message, /--local-port 0 takes a free one/);
    return true;
  });
  await assert.rejects(
    listen({ hostname, port }, others),
    /the sshshim of prod\.shim listens there \(process 4711\)/,
  );
  taken.close();
  using usual = await listen(wish, others);
  assert.equal(usual.addr.port, port);
});
