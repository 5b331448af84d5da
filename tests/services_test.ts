/** The examples of the page about services are what their readers take them for. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { parseArguments } from "../lib/cli.ts";
import { pythonProgram } from "./support/python.ts";
import { run, runChecked, text } from "./support/run.ts";
import { withFolder } from "./support/signing.ts";

const page = await Deno.readTextFile(
  fileURLToPath(new URL("../.github/SERVICES.md", import.meta.url)),
);

/** The example in a language. */
function exampleOf(language: string): string {
  return new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``).exec(page)![1]!;
}

/** Asserts that sshshim understands a command line, whose first word is the program. */
function assertUnderstood([program, ...args]: string[]): void {
  assert.match(program!, /\/sshshim$/);
  assert.equal(parseArguments(args).kind, "run");
}

Deno.test({
  name: "the unit of systemd is understood by it, and so is its command line",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await withFolder(async (folder) => {
      const unit = exampleOf("ini");
      assertUnderstood(/^ExecStart=(.*)$/m.exec(unit)![1]!.replace("%i", "prod").split(" "));
      await Deno.mkdir(`${folder}/.local/bin`, { recursive: true });
      await Deno.writeTextFile(`${folder}/.local/bin/sshshim`, "#!/bin/sh\n", { mode: 0o755 });
      await Deno.writeTextFile(`${folder}/sshshim@.service`, unit);
      const file = `${folder}/sshshim@.service`;
      const result = await run(["systemd-analyze", "--user", "verify", file], {
        environment: { PATH: Deno.env.get("PATH")!, HOME: folder, XDG_RUNTIME_DIR: folder },
      });
      assert.deepEqual([result.code, text(result.stderr)], [0, ""]);
    });
  },
});

Deno.test("the property list of launchd is one, and its command line is understood", async () => {
  await withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/plist`, exampleOf("xml"));
    const script =
      "import json, plistlib, sys; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
    const list = JSON.parse(await runChecked([pythonProgram, "-c", script, `${folder}/plist`]));
    assert.deepEqual([list.Label, list.RunAtLoad], ["sshshim.prod", true]);
    assertUnderstood(list.ProgramArguments);
  });
});
