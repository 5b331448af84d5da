/** The servers of `deno task peers`; OpenSSH's ssh and sftp are their client. */

import assert from "node:assert/strict";
import type { Target } from "./both.ts";
import { startDropbear } from "./dropbear.ts";
import type { PostQuantumSsh } from "./openssh10.ts";
import {
  commandLineActs,
  type Inabilities,
  runClient,
  runTen,
  streamsOf,
  transferWithSftp,
} from "./peer_acts.ts";
import { execCommand, manyBytes, type PeerCase, peerTimeoutMs, rekeyBytes } from "./peer_cases.ts";
import type { Peer, PeerAct, PeerServer } from "./peer_matrix.ts";
import { cProgram, goProgram, type PeerProgram, script } from "./peer_programs.ts";
import { pythonProgram } from "./python.ts";
import { RunningProcess } from "./run.ts";
import { startSecondSshd } from "./second_sshd.ts";
import { makeKey, startSshd } from "./sshd.ts";
import { startTinyssh } from "./tinyssh.ts";

const acts: Record<PeerCase, PeerAct> = {
  ...commandLineActs({
    words: (target, command, options) => target.sshCommand(command, options),
    terminal: ["-tt"],
    ownRekey: [],
    sftp: (target) => transferWithSftp(target),
  }),
  "own rekey": async (target) => {
    const log = `${target.folder}/log`;
    const result = await sendMuch(target, ["-v", "-E", log]);
    const exchanges = (await Deno.readTextFile(log)).match(/SSH2_MSG_NEWKEYS received/g);
    if (target.mode === "direct") {
      assert.ok(exchanges!.length > 1, "The server has not exchanged keys again.");
    }
    return result;
  },
  // In one connection in both modes.
  "ten at once": async (target) => {
    const socket = `${target.folder}/master`;
    const master = ["-o", "ControlMaster=yes", "-o", `ControlPath=${socket}`];
    await using process = target.startSsh("echo ready; cat", { options: master });
    await process.stdout.waitFor(/ready/, { timeoutMs: peerTimeoutMs });
    await process.closeStdin();
    const options = ["-o", `ControlPath=${socket}`];
    return await runTen(target, (command) => target.sshCommand(command, options));
  },
  "other rekey": (target) => sendMuch(target, ["-o", `RekeyLimit=${rekeyBytes}`]),
};

async function sendMuch(target: Target, options: string[]) {
  const words = target.sshCommand(execCommand, options);
  return streamsOf(await runClient(target, words, { stdin: manyBytes }));
}

/** For servers that have no ten sessions in one connection: directly they come in turn. */
const oneByOne: PeerAct = (target) =>
  runTen(target, (command) => target.sshCommand(command), { inTurn: target.mode === "direct" });

function server(
  name: string,
  startServer: (peerCase: PeerCase) => Promise<PeerServer>,
  different: Partial<Record<PeerCase, PeerAct>> = {},
): Peer {
  const own: Record<PeerCase, PeerAct> = { ...acts, ...different };
  return { name, role: "server", act: (peerCase) => own[peerCase], startServer };
}

function rekeyConfig(peerCase: PeerCase): string[] {
  return peerCase === "own rekey" ? [`RekeyLimit ${rekeyBytes}`] : [];
}

/** OpenSSH's newer server, where it is not the machine's own. */
export function newerOpenSshServer(newer: PostQuantumSsh): Peer {
  return server("OpenSSH-10", async (peerCase) => {
    await using resources = new AsyncDisposableStack();
    const keys = resources.use(await startSshd());
    const config = [...newer.config, ...rekeyConfig(peerCase)];
    const second = resources.use(await startSecondSshd(keys, { command: [newer.sshd], config }));
    const owned = resources.move();
    return { ...second, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  });
}

const compiledIn = "its limit of 1 GiB is compiled in";

/** All servers but OpenSSH's newer one; programs are made in the folder. */
export function otherServers(folder: string): Peer[] {
  const python = [pythonProgram, "-W", "ignore"];
  const deno = [Deno.execPath(), "run", "--no-check", "-A"];
  return [
    server("OpenSSH", (peerCase) => startSshd({ config: rekeyConfig(peerCase) })),
    {
      ...server("Dropbear", () => startDropbear(), {
        "own rekey": compiledIn,
        "ten at once": oneByOne,
      }),
      // It closes a session that begins in the moment in which another one ends.
      shimArguments: ["--max-sessions", "1"],
    },
    server("tinyssh", () => startTinyssh(), {
      "-L": "it forwards nothing",
      "-R": "it forwards nothing",
      "own rekey": "it never begins a key exchange",
      // It has one session in a connection's life.
      "ten at once": oneByOne,
    }),
    library("paramiko", script(python, "paramiko_server.py")),
    library("asyncssh", script(python, "asyncssh_server.py")),
    library("ssh2", script(deno, "ssh2_server.ts")),
    library("Go", goProgram(folder, "go_server")),
    library("libssh", cProgram(folder, "libssh_server", ["ssh", "crypto", "util"])),
  ];
}

/**
 * A server that is a program of ours over a library. Its arguments are HOSTKEY AUTHORIZED
 * REKEY_BYTES: the private key of the host, the public key of its only user, and after how many
 * bytes it exchanges keys again, where 0 is the library's own limit. It listens at a free port of
 * 127.0.0.1, prints it as `port N`, and has commands, terminals, sftp and forwards.
 */
function library(name: string, program: PeerProgram, inabilities?: Inabilities): Peer {
  return {
    ...server(name, (peerCase) => startLibrary(program, peerCase), inabilities),
    prepare: program.make,
  };
}

async function startLibrary(program: PeerProgram, peerCase: PeerCase): Promise<PeerServer> {
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "peer-server-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const [hostKeyFile, keyFile] = [`${folder}/host`, `${folder}/user`] as const;
  await Promise.all([hostKeyFile, keyFile].map((file) => makeKey(file, "ed25519")));
  const limit = peerCase === "own rekey" ? rekeyBytes : 0;
  const process = resources.use(
    new RunningProcess([...program.words, hostKeyFile, `${keyFile}.pub`, String(limit)]),
  );
  const [, port] = await process.stdout.waitFor(/^port (\d+)\n/m);
  const knownHostsFile = `${folder}/known_hosts`;
  const hostKey = await Deno.readTextFile(`${hostKeyFile}.pub`);
  await Deno.writeTextFile(knownHostsFile, `[127.0.0.1]:${port} ${hostKey}`);
  const owned = resources.move();
  return {
    ...{ host: "127.0.0.1", port: Number(port), username: "somebody", keyFile, knownHostsFile },
    log: process.stderr,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
