/** Keys made by ssh-keygen, a real ssh-agent, and ssh-keygen's verdict on signatures. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { Signer } from "../../lib/signer.ts";
import { encodeFields } from "../../lib/ssh_data.ts";
import { runChecked, RunningProcess } from "./run.ts";

/** Runs a test's body with a temporary folder. */
export async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "signing-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Makes a key, without passphrase unless the arguments have one, and returns its public key. */
export async function makeKey(file: string, ...args: string[]): Promise<Uint8Array> {
  const passphrase = args.includes("-N") ? [] : ["-N", ""];
  // Any length above the minimum will do, and long RSA keys take long to make.
  const bits = args.includes("rsa") && !args.includes("-b") ? ["-b", "2048"] : [];
  await runChecked(["ssh-keygen", "-q", "-f", file, ...passphrase, ...args, ...bits]);
  return await readBlob(`${file}.pub`);
}

/** The key or certificate of a file with one line of text. */
export async function readBlob(file: string): Promise<Uint8Array> {
  const [, base64 = ""] = (await Deno.readTextFile(file)).split(" ");
  return new Uint8Array(Buffer.from(base64, "base64"));
}

/** Signs FILE.pub with an authority's key: FILE-cert.pub, for the account "me". */
export async function certify(authority: string, file: string, ...args: string[]): Promise<void> {
  const identity = args.includes("-I") ? [] : ["-I", "an id"];
  const command = ["ssh-keygen", "-q", "-s", authority, "-n", "me,myself", ...identity, ...args];
  await runChecked([...command, `${file}.pub`]);
}

/** A running ssh-agent with a socket of its own; leaving the scope ends it. */
export interface RunningAgent extends AsyncDisposable {
  readonly path: string;
  readonly pid: number;
  /** Runs ssh-add. */
  add(...args: string[]): Promise<string>;
}

/** Starts OpenSSH's agent; its socket is in `folder`. */
export async function startAgent(folder: string): Promise<RunningAgent> {
  const path = `${folder}/agent.sock`;
  const process = new RunningProcess(["ssh-agent", "-D", "-a", path]);
  try {
    await process.stdout.waitFor(/SSH_AUTH_SOCK=/);
  } catch (error) {
    await process[Symbol.asyncDispose]();
    throw error;
  }
  const environment = { ...Deno.env.toObject(), SSH_AUTH_SOCK: path };
  return {
    path,
    pid: process.pid,
    add: (...args) => runChecked(["ssh-add", ...args], { environment }),
    [Symbol.asyncDispose]: () => process[Symbol.asyncDispose](),
  };
}

/**
 * Has ssh-keygen verify what a signer signs. OpenSSH's signatures of files (PROTOCOL.sshsig) are
 * those of the authentication, over other data.
 */
export async function assertOpenSshAccepts(
  folder: string,
  signer: Signer,
  options: { algorithm?: string; authority?: string } = {},
): Promise<void> {
  const { algorithm = signer.algorithms[0]!, authority } = options;
  const message = crypto.getRandomValues(new Uint8Array(100));
  const magic = { raw: Buffer.from("SSHSIG") };
  const common = ["test", "", "sha512"] as const;
  const digest = createHash("sha512").update(message).digest();
  const signature = await signer.sign(encodeFields(magic, ...common, digest), algorithm);
  const blob = encodeFields(magic, 1, signer.publicKey, ...common, signature);
  const base64 = Buffer.from(blob).toString("base64").replaceAll(/.{70}/g, "$&\n");
  const name = `${folder}/signature-${crypto.randomUUID()}`;
  const armor = (word: string) => `-----${word} SSH SIGNATURE-----\n`;
  await Deno.writeTextFile(name, `${armor("BEGIN")}${base64}\n${armor("END")}`);
  const trusted = authority === undefined
    ? `me ${publicText(signer.publicKey)}`
    : `me cert-authority ${await Deno.readTextFile(`${authority}.pub`)}`;
  await Deno.writeTextFile(`${name}.allowed`, `${trusted}\n`);
  const verify = ["ssh-keygen", "-Y", "verify", "-n", "test", "-I", "me", "-s", name];
  const output = await runChecked([...verify, "-f", `${name}.allowed`], { stdin: message });
  assert.match(output, /Good "test" signature/);
}

/** A public key as a line of text. */
export function publicText(blob: Uint8Array): string {
  const typeLength = Buffer.from(blob).readUInt32BE(0);
  const type = Buffer.from(blob.subarray(4, 4 + typeLength)).toString("latin1");
  return `${type} ${Buffer.from(blob).toString("base64")}`;
}

/** Writes the text of a private key in OpenSSH's format without passphrase. */
export function openSshKeyText(publicKey: Uint8Array, privateFields: Uint8Array): string {
  const plain = encodeFields(7, 7, { raw: privateFields }, "a comment");
  const padding = Uint8Array.from({ length: -plain.length & 7 }, (_, index) => index + 1);
  const file = encodeFields(
    { raw: Buffer.from("openssh-key-v1\0") },
    ...["none", "none", ""],
    1,
    publicKey,
    encodeFields({ raw: plain }, { raw: padding }),
  );
  const lines = Buffer.from(file).toString("base64").match(/.{1,70}/g)!.join("\n");
  return `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines}\n-----END OPENSSH PRIVATE KEY-----\n`;
}

/** A made-up Ed25519 key of a security key: its public key, and the text of its private file. */
export function securityKey(): { publicKey: Uint8Array; text: string } {
  const type = "sk-ssh-ed25519@openssh.com";
  const point = crypto.getRandomValues(new Uint8Array(32));
  const publicKey = encodeFields(type, point, "ssh:");
  // Flags that ask for a touch, a key handle, and a reserved field.
  const handle = encodeFields({ raw: Uint8Array.of(1) }, "handle", "");
  return {
    publicKey,
    text: openSshKeyText(publicKey, encodeFields({ raw: publicKey }, { raw: handle })),
  };
}
