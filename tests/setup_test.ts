/** The line in a user's ssh_config by which the names of shims are found. */

import assert from "node:assert/strict";
import { setUp, undoSetup } from "../lib/setup.ts";
import { addInclude, findInclude, includeLine, removeInclude } from "../lib/setup_line.ts";

async function makeHome(config?: string) {
  const home = await Deno.makeTempDir({ prefix: "setup-" });
  await Deno.mkdir(`${home}/.ssh`, { mode: 0o700 });
  const path = `${home}/.ssh/config`;
  if (config !== undefined) await Deno.writeTextFile(path, config, { mode: 0o600 });
  return { home, path, [Symbol.asyncDispose]: () => Deno.remove(home, { recursive: true }) };
}

for (
  const [what, config] of Object.entries({
    "with CRLF": "Host a\r\n  Port 1\r\n",
    "without a last newline": "Host a\n  Port 1",
    "that begins with a block for all hosts": "Host *\n  User x\n",
    "that is empty": "",
  })
) {
  Deno.test(`a configuration ${what} gets the line once, and is the same after undo`, async () => {
    await using made = await makeHome(config);
    const { home, path } = made;
    await setUp({ home });
    assert.match(await setUp({ home }), /line 1 .* Nothing to do\./);
    const end = config.includes("\r\n") ? "\r\n" : "\n";
    assert.equal(await Deno.readTextFile(path), includeLine + end + config);
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    await undoSetup({ home });
    assert.equal(await Deno.readTextFile(path), config);
    const names = Array.from(Deno.readDirSync(`${home}/.ssh`), ({ name }) => name);
    assert.deepEqual(names, ["config"]);
  });
}

Deno.test("bytes that are no UTF-8 stay what they are", async () => {
  await using made = await makeHome("");
  const { home, path } = made;
  const bytes = Uint8Array.from([0x23, 0xff, 0xe9, 0x0a]);
  await Deno.writeFile(path, bytes);
  await setUp({ home });
  assert.deepEqual((await Deno.readFile(path)).slice(includeLine.length + 1), bytes);
  await undoSetup({ home });
  assert.deepEqual(await Deno.readFile(path), bytes);
});

Deno.test("a link stays one, and its target keeps its mode", async () => {
  await using made = await makeHome();
  const { home, path } = made;
  await Deno.mkdir(`${home}/dotfiles`);
  await Deno.writeTextFile(`${home}/dotfiles/ssh`, "Host a\n", { mode: 0o640 });
  await Deno.symlink("../dotfiles/ssh", path);
  await setUp({ home });
  assert.equal(await Deno.readLink(path), "../dotfiles/ssh");
  const { mode } = await Deno.stat(`${home}/dotfiles/ssh`);
  assert.equal(mode! & 0o777, 0o640);
  assert.equal(await Deno.readTextFile(`${home}/dotfiles/ssh`), `${includeLine}\nHost a\n`);
});

Deno.test("a read-only configuration and a link to nowhere are errors that say so", async () => {
  await using made = await makeHome("Host a\n");
  const { home, path } = made;
  await Deno.chmod(path, 0o400);
  await assert.rejects(setUp({ home }), /is read-only\. .*Include/);
  await Deno.remove(path);
  await Deno.symlink("nowhere", path);
  await assert.rejects(setUp({ home }), /leads nowhere/);
});

Deno.test("what setup has made where there was nothing is gone after undo", async () => {
  await using made = await makeHome();
  const { home } = made;
  await Deno.remove(`${home}/.ssh`);
  await setUp({ home });
  assert.equal((await Deno.stat(`${home}/.ssh`)).mode! & 0o777, 0o700);
  assert.equal((await Deno.stat(`${home}/.ssh/config`)).mode! & 0o777, 0o600);
  await undoSetup({ home });
  assert.deepEqual(Array.from(Deno.readDirSync(home)), []);
});

Deno.test("after a change of somebody else's undo takes the line alone", async () => {
  await using made = await makeHome("Host a\n");
  const { home, path } = made;
  await setUp({ home });
  await Deno.writeTextFile(path, "Host b\n", { append: true });
  assert.match(await undoSetup({ home }), /has been changed since.*config\.sshshim-backup/);
  assert.equal(await Deno.readTextFile(path), "Host a\nHost b\n");
  assert.match(await undoSetup({ home }), /Nothing to do/);
});

Deno.test("setup asks, and changes nothing unless the answer is yes", async () => {
  await using made = await makeHome("Host a\n");
  const { home, path } = made;
  for (const answer of ["no", "", undefined]) {
    assert.equal(
      await setUp({ home, ask: () => Promise.resolve(answer) }),
      "Nothing was changed.",
    );
  }
  assert.equal(await Deno.readTextFile(path), "Host a\n");
  await setUp({ home, ask: () => Promise.resolve("yes") });
  assert.equal(await Deno.readTextFile(path), `${includeLine}\nHost a\n`);
});

Deno.test("the line is known in every spelling, unless it is for some hosts alone", () => {
  const spellings = [
    includeLine,
    'include "~/.ssh/sshshim/*.conf"',
    "Include=sshshim/*.conf",
    "Include other /home/me/.ssh/sshshim/*.conf",
    "Include ${HOME}/.ssh/sshshim/*.conf",
    "Include %d/.ssh/sshshim/*.conf",
  ];
  for (const spelling of spellings) {
    assert.equal(findInclude(`# a\n${spelling}\r\nHost a\n`, "/home/me"), 2, spelling);
    assert.equal(findInclude(`Host a\n${spelling}\n`, "/home/me"), undefined, spelling);
  }
  const windows = "Include C:\\Users\\me\\.ssh\\sshshim\\*.conf";
  assert.equal(findInclude(windows, "C:\\Users\\me"), 1);
  assert.equal(findInclude("Include ~/.ssh/other/*.conf\n", "/home/me"), undefined);
  assert.equal(removeInclude(addInclude("a\r\nb")), "a\r\nb");
});
