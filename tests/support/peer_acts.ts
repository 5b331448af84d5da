/** How peers go through the cases: programs with a command line like ssh's, and our own. */

import type { Target } from "./both.ts";
import { sha256, writePatternFile } from "./files.ts";
import {
  execCommand,
  greeting,
  manyBytes,
  type PeerCase,
  type PeerResult,
  peerTimeoutMs,
  someBytes,
  tenthInput,
  terminalCommand,
  terminalScreen,
} from "./peer_cases.ts";
import type { PeerAct } from "./peer_matrix.ts";
import { freePort } from "./ports.ts";
import { Terminal } from "./pty.ts";
import { type CommandResult, run, RunningProcess, type RunOptions, text } from "./run.ts";
import { exchange, startEcho, tcpAddress } from "./services.ts";

const timeoutMs = peerTimeoutMs;

/** A client that takes its options, forwards among them, and the command as ssh does. */
export interface CommandLine {
  /** The words of its command line; `options` are ssh's, of those that it has. */
  words(target: Target, command: string, options: string[]): string[] | Promise<string[]>;
  /** Options that make it exchange keys again, or why there are none. */
  ownRekey: string[] | string;
  /** How it gets a terminal. */
  terminal: string[];
  sftp: PeerAct;
}

/** What such a client does. */
export function commandLineActs(client: CommandLine): Record<PeerCase, PeerAct> {
  const { ownRekey } = client;
  const exec = async (target: Target, options: string[], input: Uint8Array) => {
    const words = await client.words(target, execCommand, options);
    return streamsOf(await runClient(target, words, { stdin: input }));
  };
  return {
    exec: (target) => exec(target, [], someBytes),
    terminal: async (target) =>
      runTerminal(target, await client.words(target, terminalCommand, client.terminal)),
    sftp: client.sftp,
    "-L": async (target) => {
      await using echo = startEcho({ greeting });
      const port = freePort();
      const forward = ["-L", `${port}:127.0.0.1:${echo.port}`];
      await using process = startClient(target, await client.words(target, readyCommand, forward));
      await process.stdout.waitFor(/ready/, { timeoutMs });
      const answer = sha256(await exchange(tcpAddress(port), someBytes));
      await process.closeStdin();
      await process.drained({ timeoutMs });
      return { answer };
    },
    "-R": async (target) => {
      await using echo = startEcho({ greeting });
      const port = freePort();
      const forward = ["-R", `${port}:127.0.0.1:${echo.port}`];
      await using process = startClient(target, await client.words(target, readyCommand, forward));
      await process.stdout.waitFor(/ready/, { timeoutMs });
      return await askTwice(process, port);
    },
    "own rekey": typeof ownRekey === "string"
      ? ownRekey
      : (target) => exec(target, ownRekey, manyBytes),
    "other rekey": (target) => exec(target, [], manyBytes),
    "ten at once": (target) => runTen(target, (command) => client.words(target, command, [])),
  };
}

/** Runs ten clients, at the same time or one after the other. */
export async function runTen(
  target: Target,
  words: (command: string) => string[] | Promise<string[]>,
  { inTurn = false }: { inTurn?: boolean } = {},
): Promise<PeerResult> {
  const started = [];
  for (let number = 0; number < 10; number++) {
    const command = await words(`cat; exit ${number}`);
    const session = runClient(target, command, { stdin: tenthInput(number) });
    started.push(session.then(({ code, stdout }) => ({ code, stdout: sha256(stdout) })));
    if (inTurn) await session;
  }
  return { sessions: await Promise.all(started) };
}

const readyCommand = "echo ready; cat";

/** What a program of ours in `tests/peers/` cannot do because its library cannot. */
export type Inabilities = Partial<Record<PeerCase, string>>;

/**
 * What a program of ours does with a library. Its arguments are CASE HOST PORT USERNAME KEYFILE
 * KNOWN_HOSTS and, in the case of
 *
 * - `exec` and `rekey`, a command, to which it is standard input, output, error and exit status;
 *   in `rekey` it exchanges keys again after each MB;
 * - `terminal`, a command that gets a terminal of type xterm with 30 rows and 100 columns; after
 *   its first line they become 40 and 120, and "go" is typed;
 * - `sftp`, a folder in which it makes `remote`, puts `file` there, renames it to `renamed`, prints
 *   the names in the folder, gets it as `back`, removes `missing` and prints "missing" if that has
 *   told that there is no such file;
 * - `local`, a port at the server, to which it is standard input and output;
 * - `remote`, a port here, to which connections to a port at the server lead; that one is named as
 *   `port N` on standard output, and forwarded until standard input ends;
 * - `ten`: ten sessions of one connection that are all started before the first one gets input.
 *   Session N runs `cat; exit N` with 20,000 times its number as input. It prints N, the exit
 *   status and the SHA-256 of the output, a line each, in order.
 */
export function programActs(
  program: readonly string[],
  inabilities: Inabilities = {},
): Record<PeerCase, PeerAct> {
  const words = (target: Target, name: string, ...args: string[]) => [
    ...program,
    ...[name, target.host, String(target.port), target.username],
    ...[target.keyFile, target.knownHostsFile, ...args],
  ];
  const acts: Record<PeerCase, PeerAct> = {
    exec: async (target) =>
      streamsOf(await runClient(target, words(target, "exec", execCommand), { stdin: someBytes })),
    terminal: async (target) => {
      const result = await runClient(target, words(target, "terminal", terminalCommand));
      return { code: result.code, screen: text(result.stdout) || text(result.stderr) };
    },
    sftp: (target) =>
      transferFiles(target, async () => {
        const result = await runClient(target, words(target, "sftp", target.folder));
        if (result.code !== 0) throw new Error(text(result.stderr));
        return /^missing$/m.test(text(result.stdout));
      }),
    "-L": async (target) => {
      await using echo = startEcho({ greeting });
      const command = words(target, "local", String(echo.port));
      const result = await runClient(target, command, { stdin: someBytes });
      if (result.code !== 0) throw new Error(text(result.stderr));
      return { answer: sha256(result.stdout) };
    },
    "-R": async (target) => {
      await using echo = startEcho({ greeting });
      await using process = startClient(target, words(target, "remote", String(echo.port)));
      const [, port] = await portLine(process);
      return await askTwice(process, Number(port));
    },
    "own rekey": async (target) =>
      streamsOf(await runClient(target, words(target, "rekey", execCommand), { stdin: manyBytes })),
    "other rekey": async (target) =>
      streamsOf(await runClient(target, words(target, "exec", execCommand), { stdin: manyBytes })),
    "ten at once": async (target) => {
      const result = await runClient(target, words(target, "ten"));
      if (result.code !== 0) throw new Error(text(result.stderr));
      const sessions = text(result.stdout).trim().split("\n").map((line) => {
        const [, code, stdout] = line.split(" ");
        return { code: Number(code), stdout };
      });
      return { sessions };
    },
  };
  return { ...acts, ...inabilities };
}

async function portLine(process: RunningProcess): Promise<RegExpExecArray> {
  try {
    return await process.stdout.waitFor(/^port (\d+)\n/m, { timeoutMs });
  } catch (cause) {
    throw new Error(process.stderr.text, { cause });
  }
}

/** Two connections at the same time; then the client is told to end. */
async function askTwice(process: RunningProcess, port: number): Promise<PeerResult> {
  const address = tcpAddress(port);
  const answers = await Promise.all([1, 2].map(() => exchange(address, someBytes)));
  await process.closeStdin();
  await process.drained({ timeoutMs });
  return { answers: answers.map(sha256) };
}

/** Runs a command under a terminal whose size changes. */
export async function runTerminal(target: Target, words: string[]): Promise<PeerResult> {
  const { environment } = target;
  const dimensions = { rows: 30, columns: 100 };
  await using terminal = new Terminal(words, { environment, dimensions });
  await terminal.screen.waitFor(/30 100\r\n/, { timeoutMs });
  await terminal.resize({ rows: 40, columns: 120 });
  await terminal.type("go\n");
  const code = await terminal.exit;
  const shown = terminal.screen.text;
  // Before it, a client may greet its user; behind it, it may say that it leaves.
  const start = shown.indexOf("30 100");
  return { code, screen: shown.slice(start, start + terminalScreen.length) };
}

/**
 * Lays out the files of the case `sftp` in the target's folder and looks at what became of them.
 *
 * @param transfer says whether the client has told that a file is missing
 */
export async function transferFiles(
  target: Target,
  transfer: () => Promise<boolean>,
): Promise<PeerResult> {
  const { folder } = target;
  await writePatternFile(`${folder}/file`, someBytes.length);
  const saysMissing = await transfer();
  const remote = await Array.fromAsync(Deno.readDir(`${folder}/remote`));
  return {
    remote: remote.map(({ name }) => name),
    back: sha256(await Deno.readFile(`${folder}/back`)),
    saysMissing,
  };
}

/** The case `sftp` with OpenSSH's program. */
export function transferWithSftp(target: Target, options: string[] = []) {
  return transferFiles(target, async () => {
    const script = await writeBatch(target, { rename: "rename", remove: "rm" });
    const words = ["sftp", ...options, "-b", script, ...target.clientOptions(), target.host];
    return saysMissing(text((await runClient(target, words)).stderr));
  });
}

/** Commands for sftp and psftp. */
export async function writeBatch(
  { folder }: Target,
  { rename, remove }: { rename: string; remove: string },
): Promise<string> {
  const batch = [
    ...[`lcd ${folder}`, `mkdir ${folder}/remote`, `cd ${folder}/remote`, "put file"],
    ...[`${rename} file renamed`, `get renamed ${folder}/back`, `${remove} missing`, ""],
  ];
  await Deno.writeTextFile(`${folder}/batch`, batch.join("\n"));
  return `${folder}/batch`;
}

/** Whether a program has told that there is no such file. */
export function saysMissing(output: string): boolean {
  return /no such file|not found/i.test(output);
}

/** Exit status, output and the last line of standard error, before which clients may greet. */
export function streamsOf(result: CommandResult): PeerResult {
  return {
    code: result.code,
    stdout: sha256(result.stdout),
    stderr: /.*\n$/.exec(text(result.stderr))?.[0] ?? text(result.stderr),
  };
}

/** Runs a client to its end. */
export function runClient(
  target: Target,
  words: string[],
  options: RunOptions = {},
): Promise<CommandResult> {
  return run(words, { environment: target.environment, timeoutMs, ...options });
}

function startClient(target: Target, words: string[]): RunningProcess {
  return new RunningProcess(words, { environment: target.environment });
}
