/** The clients of `deno task peers`. */

import assert from "node:assert/strict";
import type { Target } from "./both.ts";
import {
  commandLineActs,
  type Inabilities,
  programActs,
  runClient,
  saysMissing,
  transferFiles,
  transferWithSftp,
  writeBatch,
} from "./peer_acts.ts";
import { type PeerCase, peerCases, rekeyBytes } from "./peer_cases.ts";
import type { Peer, PeerAct, PeerServer } from "./peer_matrix.ts";
import { cProgram, goProgram, javaProgram, type PeerProgram, script } from "./peer_programs.ts";
import { pythonProgram } from "./python.ts";
import { runChecked, text } from "./run.ts";
import { startSshd } from "./sshd.ts";

function client(name: string, acts: Record<PeerCase, PeerAct>): Peer {
  return {
    name,
    role: "client",
    act: (peerCase) => acts[peerCase],
    startServer: startOpenSsh,
    assertRekey: ({ log }) => {
      const exchanges = log?.text.match(/SSH2_MSG_KEXINIT received/g)?.length ?? 0;
      assert.ok(exchanges > 1, "The client has not exchanged keys again.");
    },
  };
}

/** The server of all clients. */
async function startOpenSsh(peerCase: PeerCase): Promise<PeerServer> {
  return await startSshd({ config: sshdConfigs[peerCase] ?? [] });
}

/** The same for a client that knows no Ed25519: the user's key in PEM is at `KEYFILE_ecdsa`. */
async function startOpenSshWithEcdsa(peerCase: PeerCase, folder: string): Promise<PeerServer> {
  const key = `${folder}/ecdsa`;
  if (!await isFile(key)) {
    await runChecked(["ssh-keygen", "-q", "-t", "ecdsa", "-m", "PEM", "-N", "", "-f", key]);
  }
  const publicKey = await Deno.readTextFile(`${key}.pub`);
  const config = [...sshdConfigs[peerCase] ?? [], `HostKey ${key}`];
  const sshd = await startSshd({ config });
  await Deno.copyFile(key, `${sshd.keyFile}_ecdsa`);
  const append = { append: true };
  await Deno.writeTextFile(`${sshd.folder}/authorized_keys`, publicKey, append);
  await Deno.writeTextFile(sshd.knownHostsFile, `[${sshd.host}]:${sshd.port} ${publicKey}`, append);
  return sshd;
}

function isFile(path: string): Promise<boolean> {
  return Deno.stat(path).then((info) => info.isFile, () => false);
}

const sshdConfigs: Partial<Record<PeerCase, string[]>> = {
  // It tells of key exchanges then, and mixes that into what a terminal shows.
  "own rekey": ["LogLevel DEBUG1"],
  "other rekey": [`RekeyLimit ${rekeyBytes}`],
};

/** A client that is a program of ours over a library. */
function library(name: string, program: PeerProgram, inabilities?: Inabilities): Peer {
  return { ...client(name, programActs(program.words, inabilities)), prepare: program.make };
}

/** OpenSSH's ssh and sftp. */
export function openSsh(name: string, program: string): Peer {
  return client(
    name,
    commandLineActs({
      words: (target, command, options) => [
        program,
        ...target.sshCommand(command, options).slice(1),
      ],
      terminal: ["-tt"],
      ownRekey: ["-o", `RekeyLimit=${rekeyBytes}`],
      sftp: (target) => transferWithSftp(target, ["-S", program]),
    }),
  );
}

const commandLineClients: Peer[] = [
  client(
    "PuTTY",
    commandLineActs({
      words: async (target, command, options) => [
        ...await puttyWords("plink", target),
        ...[...options, target.host, command],
      ],
      terminal: ["-t"],
      // Its settings are in a saved session alone.
      ownRekey: ["-load", "rekey"],
      sftp: (target) =>
        transferFiles(target, async () => {
          const script = await writeBatch(target, { rename: "mv", remove: "rm" });
          const words = [...await puttyWords("psftp", target), "-be", "-b", script, target.host];
          return saysMissing(text((await runClient(target, words)).stdout));
        }),
    }),
  ),
  client(
    "Dropbear",
    commandLineActs({
      words: async (target, command, options) => [
        ...["dbclient", "-y", "-p", String(target.port), "-i", await dropbearKey(target)],
        ...[...options, `${target.username}@${target.host}`, command],
      ],
      terminal: ["-t"],
      ownRekey: "its limit of 1 GiB is compiled in",
      sftp: "it brings no program for it",
    }),
  ),
  client("curl", {
    ...noActs("it moves files and does nothing else"),
    sftp: (target) => transferFiles(target, () => transferWithCurl(target)),
  }),
];

/** curl's SFTP is libssh2's. It sends bytes, and names files by their URL. */
async function transferWithCurl(target: Target): Promise<boolean> {
  const { folder } = target;
  const at = (name: string) => `sftp://${target.host}:${target.port}${folder}/remote/${name}`;
  const publicKey = await runChecked(["ssh-keygen", "-y", "-f", target.keyFile]);
  await Deno.writeTextFile(`${folder}/user.pub`, publicKey);
  await Deno.mkdir(`${folder}/.ssh`);
  await Deno.copyFile(target.knownHostsFile, `${folder}/.ssh/known_hosts`);
  const curl = async (...words: string[]) =>
    await runClient(target, [
      // Known hosts are looked up in its home.
      ...["env", `HOME=${folder}`, "curl", "-sS", "--user", `${target.username}:`],
      ...["--key", target.keyFile, "--pubkey", `${folder}/user.pub`, ...words],
    ]);
  const steps = [
    ["--ftp-create-dirs", "-T", `${folder}/file`, at("file")],
    ["-Q", `-rename ${folder}/remote/file ${folder}/remote/renamed`, "-l", at("")],
    ["-o", `${folder}/back`, at("renamed")],
  ];
  for (const step of steps) {
    const { code, stderr } = await curl(...step);
    if (code !== 0) throw new Error(text(stderr));
  }
  const { code, stderr } = await curl("-Q", `rm ${folder}/remote/missing`, "-l", at(""));
  return code !== 0 && /no such file/i.test(text(stderr));
}

function noActs(reason: string): Record<PeerCase, PeerAct> {
  return Object.fromEntries(Object.keys(peerCases).map((name) => [name, reason])) as Record<
    PeerCase,
    PeerAct
  >;
}

/** All clients but OpenSSH's; programs are made in the folder. */
export function otherClients(folder: string): Peer[] {
  const python = [pythonProgram, "-W", "ignore"];
  const deno = [...denoEnvironment(), Deno.execPath(), "run", "--no-check", "-A"];
  return [
    ...commandLineClients,
    library("paramiko", script(python, "paramiko_client.py"), {
      "own rekey": "it stops now and then in the middle of a transfer",
    }),
    library("asyncssh", script(python, "asyncssh_client.py")),
    library("ssh2", script(deno, "ssh2_client.ts")),
    library("net-ssh", script(["/usr/bin/ruby", "-W0"], "net_ssh_client.rb")),
    library("Go", goProgram(folder, "go_client")),
    library("libssh", cProgram(folder, "libssh_client", ["ssh", "crypto"])),
    library("libssh2", cProgram(folder, "libssh2_client", ["ssh2", "crypto"]), {
      "own rekey": "its API has no call for it",
    }),
    {
      ...library("JSch", javaProgram(folder, "JschClient", "/usr/share/java/jsch.jar"), {
        "own rekey": "its call hangs now and then in the middle of a transfer",
        "-R": "it ends a forwarded connection as soon as one direction has ended",
      }),
      startServer: (peerCase) => startOpenSshWithEcdsa(peerCase, folder),
    },
  ];
}

/** Lets Deno find its packages where clients have a home of the test's. */
function denoEnvironment(): string[] {
  const variables = ["HOME", "XDG_CACHE_HOME", "DENO_DIR"].flatMap((name) => {
    const value = Deno.env.get(name);
    return value === undefined ? [] : [`${name}=${value}`];
  });
  return ["env", ...variables];
}

async function puttyWords(program: string, target: Target): Promise<string[]> {
  const listing = await runChecked(["ssh-keygen", "-l", "-f", target.knownHostsFile]);
  const fingerprints = [...listing.matchAll(/SHA256:\S+/g)].map(([fingerprint]) => fingerprint);
  const sessions = `${target.environment.HOME}/.putty/sessions`;
  await Deno.mkdir(sessions, { recursive: true });
  await Deno.writeTextFile(`${sessions}/rekey`, `Protocol=ssh\nRekeyBytes=${rekeyBytes}\n`);
  return [
    ...[program, "-batch", "-P", String(target.port), "-l", target.username],
    ...["-i", await puttyKey(target), ...fingerprints.flatMap((key) => ["-hostkey", key])],
  ];
}

const puttyKey = converted((from, to) => ["puttygen", from, "-O", "private", "-o", to]);
const dropbearKey = converted((from, to) => ["dropbearconvert", "openssh", "dropbear", from, to]);

/** The target's key in another format, once for all clients of the target. */
function converted(
  command: (from: string, to: string) => string[],
): (target: Target) => Promise<string> {
  const files = new WeakMap<Target, Promise<string>>();
  return (target) => {
    let file = files.get(target);
    if (file === undefined) {
      const path = `${target.folder}/converted_key`;
      file = runChecked(command(target.keyFile, path)).then(() => path);
      files.set(target, file);
    }
    return file;
  };
}
