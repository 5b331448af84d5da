/** --confirm with real clients: a person at a terminal, SSH_ASKPASS, and nobody. */

import assert from "node:assert/strict";
import { Confirmation } from "../lib/confirm.ts";
import { loadLocalHostKey } from "../lib/local_host_key.ts";
import { Reception } from "../lib/reception.ts";
import { Endpoint } from "../lib/server.ts";
import { schedule } from "../lib/timing.ts";
import { clientEnvironment, makeTarget, type Target } from "./support/both.ts";
import { FakeTime } from "./support/fake_time.ts";
import { World } from "./support/memory.ts";
import { settled } from "./support/scripted_connector.ts";
import { loginEnvironment, serverArguments, shimCommand, startServing } from "./support/login.ts";
import { key } from "./support/person.ts";
import { Terminal } from "./support/pty.ts";
import { RawTransport } from "./support/raw_transport.ts";
import { lendHostKey } from "./support/shim.ts";
import { run, RunningProcess, text } from "./support/run.ts";
import { type Sshd, startSshd } from "./support/sshd.ts";
import { RawClient } from "./support/raw_client.ts";

/** What the shim shows of itself at its terminal. */
class Person implements AsyncDisposable {
  readonly #terminal: Terminal;
  readonly target: Target;
  #position = 0;

  private constructor(terminal: Terminal, target: Target) {
    this.#terminal = terminal;
    this.target = target;
  }

  static async at(sshd: Sshd, args: string[]): Promise<Person> {
    const { folder } = sshd;
    await lendHostKey(folder);
    const command = shimCommand([...serverArguments(sshd), "-i", sshd.keyFile, ...args]);
    const terminal = new Terminal(command, {
      environment: loginEnvironment(folder),
      dimensions: { rows: 50, columns: 500 },
    });
    const [, port] = await terminal.screen.waitFor(/ is at 127\.0\.0\.1:(\d+)\r\n[^]*Ctrl-C/);
    const [, line] = await terminal.screen.waitFor(/echo '(.*)' >>/);
    await Deno.writeTextFile(`${folder}/known_hosts_of_shim`, `${line}\n`);
    const target = makeTarget({
      mode: "shim",
      host: "127.0.0.1",
      port: Number(port),
      username: "anybody",
      keyFile: "/dev/null",
      knownHostsFile: `${folder}/known_hosts_of_shim`,
      folder,
      environment: clientEnvironment(folder),
    });
    return new Person(terminal, target);
  }

  /** Resolves with the next text that looks so. */
  async sees(shown: RegExp): Promise<string> {
    const match = await this.#terminal.screen.waitFor(shown, { from: this.#position });
    this.#position += match.index + match[0].length;
    return match[0];
  }

  async types(words: string): Promise<void> {
    await this.#terminal.type(words);
  }

  /** Whether something has been shown since what was seen last. */
  hasShown(shown: RegExp): boolean {
    return shown.test(this.#terminal.screen.text.slice(this.#position));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#terminal.type(key.interrupt);
    assert.equal(await this.#terminal.exit, 0, this.#terminal.screen.text);
    await this.#terminal[Symbol.asyncDispose]();
  }
}

/** Runs ssh as a session of its own. */
function sshAlone(target: Target, command: string) {
  return run(["setsid", "--wait", ...target.sshCommand(command)], {
    environment: target.environment,
  });
}

/** A session's leader that starts a program that runs a command twice and prints how it ends. */
const asOne = ["sh", "-c", '"$@"; exit 0', "sh"].concat(
  ["sh", "-c", '"$@"; echo $?; "$@"; echo $?', "sh"],
);

const question = /A program wants to use \S+@127\.0\.0\.1:\d+ through sshshim:\r\n.*\r\nType .*: /;

Deno.test("a person at the terminal decides about each program that comes", async (t) => {
  await using sshd = await startSshd();
  await t.step("yes is for what one shell starts, and for nobody else", async () => {
    await using person = await Person.at(sshd, ["--confirm"]);
    const { target } = person;
    const words = target.sshCommand("echo in").map((word) => `'${word}'`).join(" ");
    await using shell = new Terminal(["sh", "-c", `${words}; ${words}; ${words}; echo over`], {
      environment: target.environment,
    });
    assert.match(
      await person.sees(question),
      /\n {2}ssh \(pid \d+\) from (da)?sh \(pid \d+\) from .*\r\nType yes for all that (da)?sh \(pid \d+\) starts, program for every \/usr\/bin\/ssh, or no: $/,
    );
    await person.types("yes\r");
    await shell.screen.waitFor(/(in\r\n){3}over/);
    assert(!person.hasShown(question));
    const another = sshAlone(target, "echo in");
    await person.sees(question);
    await person.types("no\r");
    const result = await another;
    assert.equal(result.code, 255);
    assert.match(text(result.stderr), /not let in: a person has said no/);
  });
  await t.step("program is for every process of that file", async () => {
    await using person = await Person.at(sshd, ["--confirm"]);
    const first = sshAlone(person.target, "exit 3");
    await person.sees(question);
    await person.types("program\r");
    assert.equal((await first).code, 3);
    assert.equal((await sshAlone(person.target, "exit 4")).code, 4);
    assert(!person.hasShown(question));
  });
  await t.step(
    "a client that leaves takes its question back, and waiting takes no place",
    async () => {
      await using person = await Person.at(sshd, ["--confirm"]);
      const { target } = person;
      await using waiting = new RunningProcess(["setsid", ...target.sshCommand("cat")], {
        environment: target.environment,
      });
      await person.sees(question);
      // More than may log in at a time.
      const many = Array.from({ length: 40 }, () => new RawTransport(target));
      await Promise.all(many.map(({ encrypted }) => encrypted));
      waiting.kill("SIGKILL");
      await person.sees(question);
      await person.types("yes\r");
      await Promise.all(many.map(({ authenticated }) => authenticated));
      await Promise.all(many.map((it) => it.close()));
      await using client = await RawClient.connect(target);
      await client.exec("true");
    },
  );
});

Deno.test("a client that waits for a person has no other clock", async () => {
  using time = new FakeTime();
  const stateFolder = await Deno.makeTempDir({ prefix: "confirm-" });
  await using resources = new AsyncDisposableStack();
  resources.defer(() => Deno.remove(stateFolder, { recursive: true }));
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<string>();
  const ask = () => {
    asked.resolve();
    return answer.promise;
  };
  const world = new World();
  const endpoint = new Endpoint({
    listener: Deno.listen({ hostname: "127.0.0.1", port: 0 }),
    relay: world.relay,
    access: { kind: "anybody" },
    reception: new Reception({
      identify: () => Promise.resolve(undefined),
      confirmation: new Confirmation({ host: "prod", prompter: { ask }, schedule }),
    }),
  });
  endpoint.showHostKeys([await loadLocalHostKey(undefined, { stateFolder })]);
  const serving = endpoint.serve();
  resources.defer(() => endpoint.close("the end").then(() => serving));
  const client = new RawTransport({ port: endpoint.address.port, username: "jane" });
  resources.defer(() => client.close());
  await asked.promise;
  time.advance(100_000);
  await settled();
  answer.resolve("yes");
  await client.authenticated;
});

Deno.test("SSH_ASKPASS is asked where there is no terminal, and else nobody is let in", async (t) => {
  await using sshd = await startSshd();
  const { folder } = sshd;
  const args = [...serverArguments(sshd), "-i", sshd.keyFile, "--confirm"];
  const askpass = `${folder}/askpass`;
  for (
    const [what, script, code] of [
      ["yes", "echo yes", 3],
      ["no", "echo no", 255],
      ["an exit status other than 0", "exit 1", 255],
    ] as const
  ) {
    await t.step(what, async () => {
      await Deno.writeTextFile(askpass, `#!/bin/sh\necho "$1" >> '${askpass}.asked'\n${script}\n`, {
        mode: 0o755,
      });
      const environment = { SSH_ASKPASS: askpass, SSH_ASKPASS_REQUIRE: "force" };
      await using shim = await startServing(args, { folder, environment });
      const ssh = shim.target.sshCommand("exit 3");
      const result = await run(["setsid", "--wait", ...asOne, ...ssh], {
        environment: shim.target.environment,
      });
      assert.equal(text(result.stdout), `${code}\n${code}\n`);
      const asked = await Deno.readTextFile(`${askpass}.asked`);
      assert.equal(asked.match(/A program wants to use/g)?.length, 1);
      await Deno.remove(`${askpass}.asked`);
    });
  }
  await t.step("nobody", async () => {
    await using shim = await startServing(args, { folder });
    const result = await shim.target.ssh("exit 3");
    assert.equal(result.code, 255);
    assert.match(text(result.stderr), /not let in: nobody can be asked: there is no terminal/);
    await shim.log.waitFor(/warning: client 1 from port \d+ is not let in: nobody can be asked/);
  });
});
