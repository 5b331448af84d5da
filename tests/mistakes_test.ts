/** Mistakes of ours that nothing catches. */

import { fileURLToPath } from "node:url";
import { shimTarget } from "./support/behind.ts";
import { startGround } from "./support/both.ts";

const preload = fileURLToPath(new URL("./support/mistakes.ts", import.meta.url));

Deno.test({
  name: "a mistake that nothing catches is told with its stack, and sessions go on",
  // It has no signals to make one at.
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await using ground = await startGround({ shim: { preload } });
    const { shim } = ground;
    await using session = shimTarget(ground).startSsh("cat");
    for (const round of ["one", "two"]) {
      await session.write(`${round}\n`);
      await session.stdout.waitFor(new RegExp(`^${round}$`, "m"));
      const from = shim.log.text.length;
      Deno.kill(shim.pid, "SIGWINCH");
      for (
        const what of [
          "TypeError: a promise that nobody watches.*support/mistakes.ts",
          "RangeError: a throw that nobody catches.*support/mistakes.ts",
          "Error: an event that nobody hears.*support/mistakes.ts",
          "no error at all",
        ]
      ) {
        await shim.log.waitFor(new RegExp(`"level":"error".*internal error: ${what}`), { from });
      }
    }
    await session.write("three\n");
    await session.stdout.waitFor(/^three$/m);
    await shim.stop();
  },
});
