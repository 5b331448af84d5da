/** Questions about programs that want to use the local port. */

import assert from "node:assert/strict";
import type { ClientProgram, Process } from "../lib/client_program.ts";
import { programFinder, rootOf } from "../lib/client_program.ts";
import { Confirmation, type Visitor } from "../lib/confirm.ts";
import { NobodyToAskError } from "../lib/errors.ts";
import "./support/loaded_libc.ts";
import { ManualClock } from "./support/memory.ts";
import { settled } from "./support/scripted_connector.ts";

/** A process in a terminal's session, whose shell is 100 where nothing else is said. */
function process(pid: number, name: string, more: Partial<Process> = {}): Process {
  const executable = { path: `/bin/${name}`, id: `1:${name}` };
  return { pid, startTime: "1", name, executable, session: 100, hasTerminal: true, ...more };
}

function program(...processes: Process[]): ClientProgram {
  return { uid: 1000, processes };
}

/** A person who is asked, and answers when the test says so. */
class Scene {
  readonly clock = new ManualClock();
  readonly asked: string[] = [];
  readonly confirmation: Confirmation;
  #answers: ((answer: string | undefined | Error) => void)[] = [];
  #clients = 0;

  constructor() {
    this.confirmation = new Confirmation({
      host: "jane@prod:22",
      prompter: {
        ask: (question, { signal }) => {
          this.asked.push(question);
          return new Promise((resolve, reject) => {
            signal.addEventListener("abort", () => reject(signal.reason));
            this.#answers.push((it) => it instanceof Error ? reject(it) : resolve(it));
          });
        },
      },
      schedule: (delayMs, action) => this.clock.schedule(delayMs, action),
    });
  }

  /** A client comes; what comes of it is in `result` once it is known. */
  visit(of: Visitor["program"]): { result?: string; leave(): void } {
    const left = new AbortController();
    const visit: { result?: string; leave(): void } = { leave: () => left.abort() };
    const visitor = { id: ++this.#clients, port: 4000 + this.#clients, program: of };
    void this.confirmation.objectionTo(visitor, left.signal)
      .then((objection) => visit.result = objection ?? "let in");
    return visit;
  }

  async answer(answer: string | undefined | Error): Promise<void> {
    await settled();
    const resolve = this.#answers.shift();
    assert(resolve, "nothing is asked");
    resolve(answer);
    await settled();
  }
}

const shell = process(100, "bash");
const ssh = (pid: number) => program(process(pid, "ssh"), process(pid - 1, "git"), shell);
const other = program(process(300, "ssh", { session: 299 }), process(299, "zsh", { session: 299 }));

Deno.test("one question is asked for all that belongs together, and its answer is kept", async (t) => {
  await t.step("yes", async () => {
    const scene = new Scene();
    const visits = [scene.visit(ssh(201)), scene.visit(ssh(203))];
    await scene.answer("yes");
    assert.deepEqual(visits.map(({ result }) => result), ["let in", "let in"]);
    const later = scene.visit(ssh(205));
    await settled();
    assert.equal(later.result, "let in");
    assert.deepEqual(scene.asked, [
      "A program wants to use jane@prod:22 through sshshim:\n" +
      "  ssh (pid 201) from git (pid 200) from bash (pid 100)\n" +
      "Type yes for all that bash (pid 100) starts, program for every /bin/ssh, or no: ",
    ]);
    const another = scene.visit(other);
    await scene.answer("no");
    assert.equal(another.result, "a person has said no");
  });
  await t.step("no", async () => {
    const scene = new Scene();
    const first = scene.visit(ssh(201));
    await scene.answer("no");
    const second = scene.visit(ssh(203));
    await settled();
    assert.deepEqual([first.result, second.result], [
      "a person has said no",
      "a person has said no",
    ]);
    assert.equal(scene.asked.length, 1);
  });
  await t.step("the program, wherever it runs, those that wait included", async () => {
    const scene = new Scene();
    const visits = [scene.visit(ssh(201)), scene.visit(other)];
    await scene.answer("program");
    assert.deepEqual(visits.map(({ result }) => result), ["let in", "let in"]);
    const rsync = scene.visit(program(process(401, "rsync"), shell));
    await scene.answer(undefined);
    assert.equal(rsync.result, "a person has said no");
  });
  await t.step("not for a process that has the number of an earlier one", async () => {
    const scene = new Scene();
    scene.visit(ssh(201));
    await scene.answer("yes");
    scene.visit(program(process(201, "ssh"), { ...shell, startTime: "2" }));
    await scene.answer("yes");
    assert.equal(scene.asked.length, 2);
  });
});

Deno.test("an answer that is none is asked again, and three of them are a no", async () => {
  const scene = new Scene();
  const visit = scene.visit(ssh(201));
  await scene.answer("perhaps");
  await scene.answer("");
  assert.equal(scene.asked[1], "Type yes, program, no: ");
  await scene.answer("y");
  assert.equal(visit.result, "a person has said no");
});

Deno.test("what is not told is asked for each connection, by its port", async () => {
  const scene = new Scene();
  const visits = [scene.visit(undefined), scene.visit({ uid: 7, processes: [] })];
  await scene.answer("yes");
  await scene.answer("program");
  await scene.answer("no");
  assert.deepEqual(visits.map(({ result }) => result), ["let in", "a person has said no"]);
  assert.match(
    scene.asked[0]!,
    /a process at port 4001; the system does not tell which\nType yes for this connection, or no: $/,
  );
  assert.match(scene.asked[1]!, /a process of user 7 at port 4002/);
  const again = scene.visit(undefined);
  await scene.answer("yes");
  assert.equal(again.result, "let in");
});

Deno.test("a question ends with its clients, after two minutes, or where nobody can be asked", async (t) => {
  await t.step("one that all of its clients have left is taken back", async () => {
    const scene = new Scene();
    const [one, two, next] = [scene.visit(ssh(201)), scene.visit(ssh(203)), scene.visit(other)];
    await settled();
    one.leave();
    await settled();
    assert.equal(scene.asked.length, 1);
    two.leave();
    await settled();
    assert.equal(scene.asked.length, 2);
    await scene.answer("too late");
    await scene.answer("yes");
    assert.equal(next.result, "let in");
    // It is no answer: it is asked when somebody comes again.
    const again = scene.visit(ssh(205));
    await scene.answer("yes");
    assert.equal(again.result, "let in");
    assert.equal(scene.clock.pending, 0);
  });
  await t.step("nobody answers", async () => {
    const scene = new Scene();
    const visit = scene.visit(ssh(201));
    await settled();
    scene.clock.advance(120_000);
    await settled();
    assert.equal(visit.result, "nobody has answered within 120 s");
    scene.visit(ssh(203));
    await settled();
    assert.equal(scene.asked.length, 2);
  });
  await t.step("nobody is there", async () => {
    const scene = new Scene();
    const visit = scene.visit(ssh(201));
    await scene.answer(new NobodyToAskError("no terminal to ask"));
    assert.match(visit.result!, /^nobody can be asked: there is no terminal/);
    scene.visit(ssh(203));
    await settled();
    assert.equal(scene.asked.length, 2);
  });
  await t.step("too many wait", async () => {
    const scene = new Scene();
    for (let count = 0; count < 100; count++) scene.visit(undefined);
    const last = scene.visit(undefined);
    await settled();
    assert.equal(last.result, "too many others wait for an answer");
  });
});

Deno.test("the names of programs cannot write lines of the question", async () => {
  const scene = new Scene();
  const name = `x\nType yes: \x1b[2J${"y".repeat(100)}`;
  scene.visit(program(process(201, name), shell));
  await settled();
  assert.equal(scene.asked[0]!.split("\n").length, 3);
  assert(!scene.asked[0]!.includes("\x1b"));
});

Deno.test("what belongs together: a terminal's shell, or else what a session's leader started", () => {
  const desktop = { session: 50, hasTerminal: false };
  const chains: [Process[], number | undefined][] = [
    [[process(201, "ssh"), shell, process(40, "terminal", { session: 40 })], 100],
    [[process(201, "ssh"), process(150, "git")], 150],
    [[
      process(201, "ssh", desktop),
      process(60, "code", desktop),
      process(50, "gnome-shell", desktop),
    ], 60],
    [[process(50, "ssh", desktop)], 50],
    [[], undefined],
  ];
  for (const [processes, pid] of chains) assert.equal(rootOf(program(...processes))?.pid, pid);
});

Deno.test({
  name: "the kernel tells which process opened a connection, and what started it",
  ignore: Deno.build.os !== "linux",
  async fn() {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const identify = programFinder();
    const command = new Deno.Command("bash", {
      args: ["-c", `exec 3<>/dev/tcp/127.0.0.1/${listener.addr.port}; read -u 3 word; exit 0`],
    });
    const child = command.spawn();
    using connection = await listener.accept();
    const ends = {
      remoteHost: connection.remoteAddr.hostname,
      remotePort: connection.remoteAddr.port,
      localHost: connection.localAddr.hostname,
      localPort: connection.localAddr.port,
    };
    const nowhere = { ...ends, remotePort: 1 };
    const [found, none] = await Promise.all([
      identify({ endpoints: ends }),
      identify({ endpoints: nowhere }),
    ]);
    await connection.write(new TextEncoder().encode("done\n"));
    await child.status;
    assert.equal(none, undefined);
    assert.equal(found!.uid, Deno.uid());
    const [bash, us] = found!.processes;
    assert.deepEqual([bash!.pid, bash!.name], [child.pid, "bash"]);
    assert.equal(bash!.executable!.path, await Deno.realPath("/bin/bash"));
    assert.deepEqual([us!.pid, us!.executable!.path], [Deno.pid, Deno.execPath()]);
    assert(Number(bash!.startTime) >= Number(us!.startTime));
  },
});
