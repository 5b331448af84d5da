import assert from "node:assert/strict";
import { join } from "node:path";
import { confirmHostKey, type Terminal } from "../lib/terminal.ts";

const expectedFingerprint = "SHA256:2XcVYtzVxFnWZ0nLzG2wOq8D5jcLJ8mZl0mFh1aBcDe";
const shownKey = { host: "prod.example.com", port: 2222, keyType: "ssh-ed25519" };

/** Pseudo-terminals are made with python3's pty module, which Windows does not have. */
const ignore = Deno.build.os === "windows";

function answering(answers: (string | undefined)[]): Terminal & { questions: string[] } {
  const questions: string[] = [];
  return {
    questions,
    ask(question) {
      questions.push(question);
      assert(answers.length > 0, "asked too often");
      return Promise.resolve(answers.shift());
    },
    close() {},
  };
}

Deno.test("a host key is trusted for yes and for its fingerprint, and for nothing else", async () => {
  const cases: [answers: (string | undefined)[], trusted: boolean][] = [
    [["yes"], true],
    [[" YES\t"], true],
    [[expectedFingerprint], true],
    [[`  ${expectedFingerprint} `], true],
    [["no"], false],
    [["No"], false],
    [[undefined], false],
    [["", "y", "ye", "yess", "yes no", "n", "true", "1", "yes"], true],
    [["maybe", undefined], false],
    [[expectedFingerprint.slice(0, -1), expectedFingerprint.toLowerCase(), "no"], false],
    [[expectedFingerprint.slice("SHA256:".length), "no"], false],
  ];
  for (const [answers, trusted] of cases) {
    const about = JSON.stringify(answers);
    const terminal = answering([...answers]);
    const result = await confirmHostKey(terminal, {
      ...shownKey,
      fingerprint: expectedFingerprint,
    });
    assert.equal(result, trusted, about);
    assert.equal(terminal.questions.length, answers.length, about);
  }
});

Deno.test("the question names the host, the port, the key type and the fingerprint once", async () => {
  const terminal = answering(["what?", "SHA256:other", "no"]);
  await confirmHostKey(terminal, { ...shownKey, fingerprint: expectedFingerprint });
  const [first, second, third] = terminal.questions;
  for (const part of ["prod.example.com", "2222", "ssh-ed25519", expectedFingerprint]) {
    assert(first!.includes(part), first);
    assert(!second!.includes(part), second);
  }
  assert.match(third!, /another fingerprint/);
});

/**
 * Runs a program with a pseudo-terminal as its controlling terminal, and standard input and
 * output elsewhere. Of the steps, each waits for a text on the terminal and then types another,
 * or closes the terminal's window when that is null; such a step is the last. A step that types
 * nothing changes the window's dimensions. What is typed early is there before the program is.
 */
const DRIVER = `
import fcntl, json, os, pty, select, signal, struct, sys, termios
task = json.loads(sys.argv[1])
master, slave = pty.openpty()
before = termios.tcgetattr(slave)
reader, writer = os.pipe()
os.write(master, task["early"].encode())
pid = os.fork()
if pid == 0:
    os.setsid()
    if task["terminal"]:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(writer, 1)
    os.execvp(task["argv"][0], task["argv"])
os.close(writer)
transcript = b""
def give_up(*_):
    os.kill(pid, signal.SIGKILL)
    sys.exit("timed out after %r" % transcript)
signal.signal(signal.SIGALRM, give_up)
signal.alarm(30)
def read_some():
    global transcript
    transcript += os.read(master, 65536)
typed = ""
for expected, typed in task["steps"]:
    start = len(transcript)
    while expected.encode() not in transcript[start:]:
        read_some()
    if typed is None:
        os.close(slave)
        os.close(master)
    elif typed == "":
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
    else:
        os.write(master, typed.encode())
output = b""
while chunk := os.read(reader, 65536):
    output += chunk
_, status = os.waitpid(pid, 0)
if typed is None:
    print(json.dumps({ "output": output.decode(), "code": os.waitstatus_to_exitcode(status) }))
    sys.exit()
after = termios.tcgetattr(slave)
while select.select([master], [], [], 0)[0]:
    read_some()
print(json.dumps({
    "output": output.decode(),
    "transcript": transcript.decode(),
    "code": os.waitstatus_to_exitcode(status),
    "restored": before == after,
}))
`;

interface Outcome {
  output: string;
  transcript: string;
  /** The exit status, or the negative number of the signal. */
  code: number;
  /** Whether the terminal's modes are those from before. */
  restored: boolean;
}

/** Runs a script that can use `openTerminal` and `confirmHostKey`, with a terminal or without. */
async function drive(
  script: string,
  { steps = [], terminal = true, early = "" }: {
    steps?: [expected: string, typed: string | null][];
    early?: string;
    terminal?: boolean;
  } = {},
): Promise<Outcome> {
  const folder = await Deno.makeTempDir({ prefix: "sshshim-terminal-" });
  try {
    const file = join(folder, "script.ts");
    const library = JSON.stringify(new URL("../lib/terminal.ts", import.meta.url));
    const imports = `import { confirmHostKey, openTerminal } from ${library};\n`;
    await Deno.writeTextFile(file, `${imports}export { confirmHostKey };\n${script}\n`);
    const argv = [
      Deno.execPath(),
      "run",
      "-A",
      "-q",
      "--no-config",
      "--no-lock",
      "--no-check",
      file,
    ];
    const { stdout, stderr, success } = await new Deno.Command("python3", {
      args: ["-c", DRIVER, JSON.stringify({ argv, steps, terminal, early })],
      stdin: "null",
    }).output();
    assert(success, new TextDecoder().decode(stderr));
    return JSON.parse(new TextDecoder().decode(stdout));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const CONFIRM = `
const terminal = openTerminal()!;
console.log(await confirmHostKey(terminal, ${
  JSON.stringify({ ...shownKey, fingerprint: expectedFingerprint })
}));
terminal.close();
terminal.close();
`;

Deno.test({
  name: "a question goes to the terminal with echo, wherever the standard streams lead",
  ignore,
  fn: async () => {
    const outcome = await drive(CONFIRM, {
      steps: [["expect: ", "perhaps\n"], ["fingerprint: ", "yex\x7fs\n"]],
    });
    assert.equal(outcome.output, "true\n");
    assert.equal(outcome.code, 0);
    assert(outcome.restored);
    assert.match(outcome.transcript, /perhaps\r\n/);
    assert(outcome.transcript.includes(expectedFingerprint));
  },
});

Deno.test({
  name: "Ctrl-C while asking ends the process and leaves the terminal as it was",
  ignore,
  fn: async () => {
    const outcome = await drive(CONFIRM, { steps: [["expect: ", "ye\x03"]] });
    assert.equal(outcome.output, "");
    assert.equal(outcome.code, -2);
    assert(outcome.restored);
  },
});

Deno.test({
  name: "a question can be taken back by a signal handler, which may then exit",
  ignore,
  fn: async () => {
    const script = `
      const abort = new AbortController();
      Deno.addSignalListener("SIGINT", () => abort.abort(new Error("interrupted")));
      const terminal = openTerminal()!;
      try {
        await terminal.ask("Question: ", { signal: abort.signal });
      } catch (error) {
        console.log((error as Error).message);
        try {
          await terminal.ask("Never: ", { signal: abort.signal });
        } catch {
          console.log("again");
        }
        Deno.exit(7);
      }`;
    const outcome = await drive(script, { steps: [["Question: ", "half a line\x03"]] });
    assert.equal(outcome.output, "interrupted\nagain\n");
    assert.equal(outcome.code, 7);
    assert(outcome.restored);
    assert(!outcome.transcript.includes("Never"), outcome.transcript);
  },
});

Deno.test({
  name: "a question can be taken back while it is being printed",
  ignore,
  fn: async () => {
    const script = `
      const abort = new AbortController();
      const answer = openTerminal()!.ask("Question: ", { signal: abort.signal });
      abort.abort(new Error("taken back"));
      await answer.catch((error) => console.log(error.message));
      Deno.exit(7);`;
    const outcome = await drive(script);
    assert.equal(outcome.output, "taken back\n");
    assert.equal(outcome.code, 7);
  },
});

Deno.test({
  name: "the line typed after a question was taken back answers the next one",
  ignore,
  fn: async () => {
    const script = `
      const terminal = openTerminal()!;
      const signal = AbortSignal.timeout(50);
      await terminal.ask("First: ", { signal }).catch((error) => console.log(error.name));
      console.log(await terminal.ask("Second: "));
      console.log(await terminal.ask("Third: "));
      terminal.close();`;
    const outcome = await drive(script, { steps: [["Second: ", "two\n"], ["Third: ", "three\n"]] });
    assert.equal(outcome.output, "TimeoutError\ntwo\nthree\n");
    assert.equal(outcome.code, 0);
  },
});

for (const echo of [true, false]) {
  const isSeen = echo ? "with echo" : "without echo";

  Deno.test({
    name: `what was typed before a question ${isSeen} does not answer it`,
    ignore,
    fn: async () => {
      const script = `
        const terminal = openTerminal()!;
        console.log(await terminal.ask("Question: ", { echo: ${echo} }));
        terminal.close();`;
      const steps: [string, string][] = [["Question: ", "late\n"]];
      const outcome = await drive(script, { early: "early\nhalf", steps });
      assert.equal(outcome.output, "late\n");
      assert(outcome.restored);
    },
  });

  Deno.test({
    name: `what was typed for a question that was taken back does not answer one ${isSeen}`,
    ignore,
    fn: async () => {
      const script = `
        const terminal = openTerminal()!;
        const abort = new AbortController();
        Deno.addSignalListener("SIGWINCH", () => abort.abort(new Error("taken back")));
        await terminal.ask("First: ", { signal: abort.signal }).catch(() => {});
        console.log(await terminal.ask("Second: ", { echo: ${echo} }));
        terminal.close();
        Deno.exit();`;
      const steps: [string, string][] = [["First: ", "half"], ["half", ""], ["Second: ", "late\n"]];
      const outcome = await drive(script, { steps });
      assert.equal(outcome.output, "late\n");
      assert(outcome.restored);
    },
  });
}

Deno.test({
  name: "the end of input is no answer, and a line without its end is one",
  ignore,
  fn: async () => {
    const script = `
      const terminal = openTerminal()!;
      console.log(await terminal.ask("First: "));
      console.log(await terminal.ask("Second: "));
      console.log(await terminal.ask("Third: "));
      terminal.close();`;
    const outcome = await drive(script, {
      steps: [["First: ", "\x04"], ["Second: ", "abc\x04\x04"], ["Third: ", "ä €\n"]],
    });
    assert.equal(outcome.output, "undefined\nabc\nä €\n");
    assert.equal(outcome.code, 0);
  },
});

Deno.test({
  name: "a terminal that goes away gives no answer",
  ignore,
  fn: async () => {
    const script = `
      Deno.addSignalListener("SIGHUP", () => {});
      console.log(await openTerminal()!.ask("Question: "));
      Deno.exit(7);`;
    const outcome = await drive(script, { steps: [["Question: ", null]] });
    assert.equal(outcome.output, "undefined\n");
    assert.equal(outcome.code, 7);
  },
});

Deno.test({
  name: "without a controlling terminal there is nobody to ask",
  ignore,
  fn: async () => {
    const outcome = await drive(`console.log(openTerminal());`, { terminal: false });
    assert.equal(outcome.output, "undefined\n");
    assert.equal(outcome.code, 0);
  },
});
