/** Completion: which hosts there are to complete, and a real shell that does. */

import assert from "node:assert/strict";
import { suggestHosts } from "../lib/suggested_hosts.ts";
import { canHaveHome, makeHome } from "./support/account_home.ts";
import { Terminal } from "./support/pty.ts";
import { text } from "./support/run.ts";
import { program } from "./support/shim.ts";

const config = `# Host commented
Host prod staging *.example.com !secret
  Port 2222
host "with quote
Include conf.d/* ~/nowhere
Match host other
`;

const knownHosts = `prod,10.0.0.1 ssh-ed25519 AAAA
[db.example.com]:2200 ssh-ed25519 AAAA
|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-ed25519 AAAA
@cert-authority ca.example.com ssh-ed25519 AAAA
*.internal ssh-ed25519 AAAA
`;

async function fill(home: string): Promise<void> {
  await Deno.mkdir(`${home}/.ssh/conf.d`, { recursive: true });
  await Deno.writeTextFile(`${home}/.ssh/config`, config);
  await Deno.writeTextFile(`${home}/.ssh/conf.d/more`, "Host inner prod prod.shim\n");
  // Files that include themselves come to an end.
  await Deno.writeTextFile(`${home}/.ssh/conf.d/self`, "Host self\nInclude conf.d/self\n");
  await Deno.writeTextFile(`${home}/.ssh/known_hosts`, knownHosts);
}

Deno.test("hosts are those of Host lines and of names in known_hosts that can be read", async () => {
  const home = await Deno.makeTempDir({ prefix: "completion-" });
  try {
    await fill(home);
    const sources = { home, systemConfig: `${home}/none` };
    assert.deepEqual(suggestHosts("", sources), [
      ...["prod", "staging", "inner", "self", "10.0.0.1", "db.example.com:2200"],
    ]);
    assert.deepEqual(suggestHosts("st", sources), ["staging"]);
    assert.deepEqual(suggestHosts("me@s", sources), ["me@staging", "me@self"]);
    assert.deepEqual(suggestHosts("", { home: `${home}/none`, systemConfig: home }), []);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});

Deno.test({
  name: "bash completes hosts and options, as they are typed",
  // The hosts are those of the account, whose home is replaced.
  ignore: !await canHaveHome(),
  async fn(t) {
    await using home = await makeHome();
    await fill(home.path);
    const script = await home.run([...program, "--completion", "bash"]);
    const rc = [
      `sshshim() { if [ "$1" = --completion ]; then ${
        program.map((word) => `'${word}'`).join(" ")
      } "$@"; else echo "<$*>"; fi; }`,
      text(script.stdout),
      "PS1='ready> '",
    ];
    await Deno.writeTextFile(`${home.path}/.bashrc`, rc.join("\n"));
    await using terminal = new Terminal(home.command(["bash", "-i"]), {
      environment: { ...home.environment, TERM: "dumb" },
    });
    const cases: [typed: string, ran: string][] = [
      ["stag", "staging"],
      ["prod me@inn", "prod me@inner"],
      ["db.ex", "db.example.com:2200"],
      ["db.example.com:22", "db.example.com:2200"],
      ["me@db.example.com:22", "me@db.example.com:2200"],
      ["prod --la", "prod --lazy"],
      ["set", "setup"],
      ["setup --u", "setup --undo"],
      ["prod -i ~/.ssh/kno", `prod -i ${home.path}/.ssh/known_hosts`],
    ];
    let from = 0;
    for (const [typed, ran] of cases) {
      await t.step(typed, async () => {
        const prompt = await terminal.screen.waitFor(/ready> /, { from });
        from += prompt.index + prompt[0].length;
        await terminal.type(`sshshim ${typed}\t\r`);
        const [, words] = await terminal.screen.waitFor(/<(.*)>/, { from });
        assert.equal(words!.trimEnd(), ran);
      });
    }
    await terminal.type("exit\r");
    await terminal.exit;
  },
});
