/** CheckHostIP, with what ssh makes of the same files. */

import assert from "node:assert/strict";
import { clientEnvironment } from "./support/both.ts";
import { logIn, type LoginOptions, startServing } from "./support/login.ts";
import { run, text } from "./support/run.ts";
import { makeKey, startSshd } from "./support/sshd.ts";

/** ssh looks no address of this machine's own up that begins with 127. */
const address = Deno.networkInterfaces()
  .find((it) => it.family === "IPv4" && !it.address.startsWith("127."))?.address;

Deno.test({
  name: "what is known of the host's address counts as with ssh",
  // Without a network there is nothing to look up.
  ignore: address === undefined,
  fn: async (t) => {
    await using sshd = await startSshd({ config: [`ListenAddress ${address}`] });
    const { folder, port, username, keyFile } = sshd;
    const [key = ""] = sshd.hostKeys;
    await makeKey(`${folder}/other`, "ed25519");
    const other = (await Deno.readTextFile(`${folder}/other.pub`)).trim();
    const ip = `[${address}]:${port}`;
    const always = ["HostKeyAlias=box", "HostKeyAlgorithms=ssh-ed25519", "CheckHostIP=yes"];
    const command = `${folder}/print`;
    await Deno.writeTextFile(
      command,
      `#!/bin/sh\necho "$@" >> "$LOG"\n[ "$1" = ADDRESS ] && echo "$2 ${other}"\nexit 0\n`,
      { mode: 0o700 },
    );
    const printing = [`KnownHostsCommand=${command} %I %H`];

    async function throughShim(
      args: string[],
      options: LoginOptions,
    ): Promise<{ isIn: boolean; text: string }> {
      if (!args.includes(updating)) {
        const { isIn, log } = await logIn(args, options);
        return { isIn, text: log };
      }
      await using shim = await startServing([...args, "-v"], options);
      await shim.log.waitFor(/removed a host key|stay as they are/);
      return { isIn: true, text: shim.log.text };
    }

    async function outcome(
      what: string,
      lines: string[],
      options: string[],
    ): Promise<{ isIn: boolean; after: string; asked: string; log: string }[]> {
      return await Promise.all(["direct", "shim"].map(async (mode) => {
        const file = `${folder}/${mode} ${what}`.replaceAll(" ", "_");
        await Deno.writeTextFile(file, lines.map((line) => `${line}\n`).join(""));
        const settings = [...options, ...always, `UserKnownHostsFile=${file}`, "BatchMode=yes"]
          .flatMap((option) => ["-o", option]);
        const environment = { LOG: `${file}.asked` };
        const log = { isIn: false, text: "" };
        if (mode === "direct") {
          const command = ["ssh", "-F", "none", "-i", keyFile, "-p", `${port}`, ...settings];
          const { code, stderr } = await run([...command, `${username}@${address}`, "true"], {
            environment: { ...clientEnvironment(folder), ...environment },
          });
          Object.assign(log, { isIn: code === 0, text: text(stderr) });
        } else {
          const args = [`${username}@${address}:${port}`, "--ed25519-key", keyFile, ...settings];
          const result = await throughShim(args, { folder, environment });
          Object.assign(log, result);
        }
        // Where HostKeyAlgorithms is given ssh does not ask for the order.
        const asked = (await Deno.readTextFile(`${file}.asked`).catch(() => ""))
          .replace(/^ORDER .*\n/m, "");
        return { isIn: log.isIn, after: await Deno.readTextFile(file), asked, log: log.text };
      }));
    }

    const asking = "StrictHostKeyChecking=ask";
    const off = "StrictHostKeyChecking=no";
    const updating = "UpdateHostKeys=yes";
    const known = [`box ${key}`, `${ip} ${key}`];
    const cases: [what: string, lines: string[], options: string[], log?: RegExp][] = [
      ["both known", known, [], undefined],
      ["on one line", [`box,${ip} ${key}`], []],
      ["the host alone", [`box ${key}`], []],
      ["the address alone", [`${ip} ${key}`], ["StrictHostKeyChecking=accept-new"]],
      ["neither", [], ["StrictHostKeyChecking=accept-new"]],
      ["another key", [`box ${key}`, `${ip} ${other}`], [asking], /differs from that of its ad/],
      ["another key, strictly", [`box ${key}`, `${ip} ${other}`], ["StrictHostKeyChecking=yes"]],
      ["another key, checking off", [`box ${key}`, `${ip} ${other}`], [off], /differs from that/],
      ["a changed host", [`box ${other}`, `${ip} ${key}`], [], /may lead to another host/],
      ["a changed host at a new address", [`box ${other}`], [], /No line has the address/],
      ["a host with both changed", [`box ${other}`, `${ip} ${other}`], []],
      ["not wanted", [`box ${key}`], ["CheckHostIP=no"]],
      ["a command", [`box ${key}`], [...printing, off], /differs from that/],
      ["no file", [], ["GlobalKnownHostsFile=none", "StrictHostKeyChecking=yes"]],
      ["with a key that is gone", [...known, `box,${ip} ${other}`], [updating]],
      ["with two lines", [`box ${key}`, `box,${ip} ${other}`], [updating, off]],
      ["of another host", [`box ${key}`, `there,${ip} ${other}`], [updating, off]],
    ];
    for (const [what, lines, options, log] of cases) {
      await t.step(what, async () => {
        const [direct, shim] = await outcome(what, lines, options);
        const { log: directLog, ...expected } = direct!;
        const { log: shimLog, ...actual } = shim!;
        assert.deepEqual(actual, expected, `${directLog}\n${shimLog}`);
        if (log !== undefined) assert.match(shimLog, log);
      });
    }

    await t.step("hashed names get a line each", async () => {
      const options = ["HashKnownHosts=yes", "StrictHostKeyChecking=accept-new"];
      for (const { isIn, after, log } of await outcome("hashed", [], options)) {
        assert(isIn, log);
        assert.match(after, /^(\|1\|\S+ ssh-ed25519 \S+\n){2}$/);
      }
    });
  },
});
