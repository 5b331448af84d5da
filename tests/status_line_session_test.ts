// deno-lint-ignore-file no-control-regex
/** The status line of the real program at a terminal: what it tells, and that it is in nobody's way. */

import assert from "node:assert/strict";
import { clientEnvironment, makeTarget, type Target } from "./support/both.ts";
import { loginEnvironment, serverArguments, shimCommand } from "./support/login.ts";
import { key } from "./support/person.ts";
import { waitForFile } from "./support/processes.ts";
import { Terminal } from "./support/pty.ts";
import { screenOf } from "./support/screen.ts";
import { startHosts } from "./support/several.ts";
import { fromSource, lendHostKey, mainModule } from "./support/shim.ts";
import { text } from "./support/run.ts";
import { withFolder } from "./support/signing.ts";
import { type Sshd, startSshd } from "./support/sshd.ts";

const dimensions = { rows: 60, columns: 160 };

/** What a status line has, and nothing else. */
const separator = " · ";

interface Options {
  folder: string;
  environment?: Record<string, string>;
}

/** A person's terminal, and the place in it up to which all has been seen. */
class Seat implements AsyncDisposable {
  readonly terminal: Terminal;
  readonly #folder: string;
  #position = 0;

  constructor(command: string[], { folder, environment }: Options) {
    this.#folder = folder;
    const { NO_COLOR: _, ...own } = loginEnvironment(folder);
    this.terminal = new Terminal(command, {
      environment: { ...own, TERM: "xterm", ...environment },
      dimensions,
    });
  }

  /** The shim in front of a server. */
  static async at(sshd: Sshd, args: string[] = [], environment = {}): Promise<Seat> {
    await lendHostKey(sshd.folder);
    return new Seat(shimCommand(argumentsFor(sshd, args)), { folder: sshd.folder, environment });
  }

  /** Resolves when this is shown after all that was seen before. */
  async sees(shown: RegExp): Promise<RegExpExecArray> {
    const match = await this.terminal.screen.waitFor(shown, { from: this.#position });
    this.#position += match.index + match[0].length;
    return match;
  }

  /** What stands on the screen now. */
  get rows(): string[] {
    return screenOf(this.terminal.screen.text, dimensions);
  }

  /** The way through the shim, once it listens. */
  async target(): Promise<Target> {
    const { screen } = this.terminal;
    const [, port] = await screen.waitFor(/ is at 127\.0\.0\.1:(\d+)\r\n[^]*Ctrl-C/);
    const [, line] = await screen.waitFor(/echo '(.*)' >>/);
    const knownHostsFile = `${this.#folder}/known_hosts_of_shim`;
    await Deno.writeTextFile(knownHostsFile, `${line}\n`);
    return makeTarget({
      ...{ mode: "shim", host: "127.0.0.1", port: Number(port), username: "anybody" },
      ...{ keyFile: "/dev/null", knownHostsFile, folder: this.#folder },
      environment: clientEnvironment(this.#folder),
    });
  }

  /** Ends the program by Ctrl-C. */
  async end(): Promise<void> {
    await this.terminal.type(key.interrupt);
    assert.equal(await this.terminal.exit, 0, this.terminal.screen.text);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.terminal[Symbol.asyncDispose]();
  }
}

/** Without keepalives no round trip comes between. */
function argumentsFor(sshd: Sshd, args: string[]): string[] {
  return [...serverArguments(sshd), "-i", sshd.keyFile, "--keepalive-interval", "0", ...args];
}

function assertNeverDrawn(written: string): void {
  assert(!written.includes(separator) && !written.includes("\x1b7"), written);
}

function assertNoLine(rows: string[]): void {
  assert(!rows.some((row) => row.includes(separator)), rows.join("\n"));
}

Deno.test("a terminal has a line below all else, which tells of clients and is gone at the end", async () => {
  await using sshd = await startSshd();
  await using seat = await Seat.at(sshd);
  const target = await seat.target();
  await seat.sees(/127\.0\.0\.1 ready · no clients/);
  // What was drawn for another window is drawn anew.
  await seat.terminal.resize({ rows: 60, columns: 159 });
  await seat.sees(/127\.0\.0\.1 ready · no clients/);
  await using session = target.startSsh("echo begun; exec cat");
  await session.stdout.waitFor(/begun/);
  await seat.sees(/127\.0\.0\.1 ready · 1 client · 1 channel/);
  assert.deepEqual(seat.rows.slice(-2), ["", "127.0.0.1 ready · 1 client · 1 channel"]);

  await seat.terminal.resize({ rows: 24, columns: 40 });
  await seat.sees(/127\.0\.0\.1 ready · 1 client\x1b/);
  await seat.terminal.resize(dimensions);
  await seat.sees(/127\.0\.0\.1 ready · 1 client · 1 channel/);

  await session.closeStdin();
  await session.drained();
  await seat.sees(/no clients/);
  assert.deepEqual(seat.rows.slice(-3), [
    "sshshim: endpoint: client 1 left",
    "",
    "127.0.0.1 ready · no clients",
  ]);
  await seat.end();
  const { rows } = seat;
  assertNoLine(rows);
  assert.deepEqual(rows.slice(-2), [
    "sshshim: endpoint: client 1 left",
    "^Csshshim: stopped by SIGINT",
  ]);
});

Deno.test("the line is gone while a person is asked, and comes back after the answer", async () => {
  await using sshd = await startSshd();
  await using seat = await Seat.at(sshd, ["--confirm"]);
  const target = await seat.target();
  await seat.sees(/ready · no clients/);
  const result = target.ssh("echo through");
  const [before] = await seat.sees(/^[^]*(?=A program wants)[^]*or no: /);
  assert.match(before, /\x1b\[J(?![^]*\x1b)[^]*A program wants/);
  await seat.terminal.resize({ rows: 60, columns: 159 });
  await seat.terminal.type("yes\r");
  assert.equal(text((await result).stdout), "through\n");
  // Nothing has come between.
  await seat.sees(/^yes\r\n/);
  await seat.sees(/ready · no clients/);
  await seat.end();
  assertNoLine(seat.rows);
});

Deno.test("several hosts have one line", async () => {
  await using hosts = await startHosts(["prod", "staging"]);
  const { folder, config } = hosts;
  await using seat = new Seat(shimCommand(["-F", config, "prod", "staging"]), { folder });
  await seat.sees(/prod ready · staging ready · no clients/);
  await seat.end();
  assertNoLine(seat.rows);
});

Deno.test("the line is dim, and has no colour where none is wanted", async () => {
  await using sshd = await startSshd();
  for (
    const [environment, line] of [
      [{}, /\x1b\[2m127\.0\.0\.1 ready · no clients\x1b\[m/],
      [{ NO_COLOR: "1" }, /\r127\.0\.0\.1 ready · no clients\x1b8/],
    ] as const
  ) {
    await using seat = await Seat.at(sshd, [], environment);
    await seat.sees(line);
    await seat.end();
  }
});

Deno.test("where the line is not wanted, nothing of it is written", async (t) => {
  await using sshd = await startSshd();
  const { folder } = sshd;
  const cases: [what: string, args: string[], environment?: Record<string, string>][] = [
    ["--no-status-line", ["--no-status-line"]],
    ["-q", ["-q"]],
    ["--log-format json", ["--log-format", "json"]],
    ["TERM=dumb", [], { TERM: "dumb" }],
  ];
  for (const [what, args, environment] of cases) {
    await t.step(what, async () => {
      await using seat = await Seat.at(sshd, args, environment);
      await seat.sees(/Ctrl-C ends it|"listening"/);
      await seat.end();
      assertNeverDrawn(seat.terminal.screen.text);
    });
  }
  await t.step("a command that has the terminal", async () => {
    await using seat = await Seat.at(sshd, ["-v", "--", "echo", "through"]);
    assert.equal(await seat.terminal.exit, 0);
    assert.match(seat.terminal.screen.text, /^through\r\n/m);
    assertNeverDrawn(seat.terminal.screen.text);
  });
  await t.step("standard error that is a file", async () => {
    const command = shimCommand(argumentsFor(sshd, []));
    const script = 'exec "$@" 2> "$0/log"';
    await using seat = new Seat(["sh", "-c", script, folder, ...command], { folder });
    await seat.sees(/Ctrl-C ends it/);
    await seat.end();
    const written = seat.terminal.screen.text + await Deno.readTextFile(`${folder}/log`);
    assert.match(written, /stopped by SIGINT/);
    assertNeverDrawn(written);
  });
});

Deno.test("Ctrl-Z leaves the terminal to the shell without the line, and fg brings it back", async () => {
  await using sshd = await startSshd();
  const { folder } = sshd;
  await lendHostKey(folder);
  const words = shimCommand(argumentsFor(sshd, [])).map((word) => `'${word}'`);
  await Deno.writeTextFile(`${folder}/start`, `exec ${words.join(" ")}\n`);
  await using seat = new Seat(["bash", "--norc", "-i"], { folder, environment: { PS1: "$ " } });
  await seat.sees(/\$ /);
  await seat.terminal.type(`sh ${folder}/start\n`);
  await seat.sees(/ready · no clients/);
  await seat.terminal.type("\x1a");
  await seat.sees(/\^Z\x1b\[J[^]*Stopped[^]*\$ /);
  assertNoLine(seat.rows);
  await seat.terminal.type("bg; echo in the background\n");
  await seat.sees(/\nin the background\r\n/);
  assertNoLine(seat.rows);
  await seat.terminal.type("fg\n");
  await seat.sees(/ready · no clients/);
  await seat.terminal.type(key.interrupt);
  await seat.sees(/stopped by SIGINT\r\n[^]*\$ /);
  assertNoLine(seat.rows);
  await seat.terminal.type("exit\n");
  await seat.terminal.exit;
});

Deno.test("without a shell that would continue it, Ctrl-Z does not stop it", async () => {
  await using sshd = await startSshd();
  await using seat = await Seat.at(sshd);
  const target = await seat.target();
  await seat.sees(/ready · no clients/);
  await seat.terminal.type("\x1a");
  await seat.sees(/\^Z/);
  assert.equal(text((await target.ssh("echo through")).stdout), "through\n");
  await seat.end();
});

Deno.test("a mistake that ends the program leaves nothing of the line", () =>
  withFolder(async (folder) => {
    using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const mistake = `
      Deno.addSignalListener("SIGQUIT", () => setTimeout(() => { throw new Error("oh dear"); }));
      Deno.writeTextFileSync(${JSON.stringify(`${folder}/pid`)}, Deno.pid + '\\n');
    `;
    await Deno.writeTextFile(`${folder}/mistake.ts`, mistake);
    const args = [
      "-F",
      "none",
      "--no-ssh-config",
      "--local-port",
      "0",
      `127.0.0.1:${silent.addr.port}`,
    ];
    const command = [...fromSource, "--preload", `${folder}/mistake.ts`, mainModule, ...args];
    await using seat = new Seat(command, { folder });
    await seat.sees(/127\.0\.0\.1 connecting · no clients/);
    Deno.kill(Number(await waitForFile(`${folder}/pid`)), "SIGQUIT");
    assert.equal(await seat.terminal.exit, 1);
    const { text } = seat.terminal.screen;
    const end = text.lastIndexOf("\x1b8");
    // Deno's own words have colours.
    assert.match(text.slice(end), /^\x1b8\x1b\[J[^]*oh dear/);
  }));
