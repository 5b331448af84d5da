/** npm's ssh2 as a client, with nothing of ours in it; peer_acts.ts says what the arguments mean. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { connect as connectSocket } from "node:net";
import process from "node:process";
import { buffer } from "node:stream/consumers";
// @ts-types="@types/ssh2"
import ssh2 from "ssh2";

const [peerCase, host, port, username, keyFile, knownHostsFile, ...rest] = Deno.args as [
  ...[string, string, string, string, string, string],
  ...string[],
];
const [argument = ""] = rest;
const known = readFileSync(knownHostsFile, "utf8").split(/\s+/);
const client = new ssh2.Client();
await new Promise<void>((resolve, reject) => {
  client.once("ready", resolve).once("error", reject).connect({
    ...{ host, port: Number(port), username, privateKey: readFileSync(keyFile) },
    hostVerifier: (key: { toString(encoding: string): string }) =>
      known.includes(key.toString("base64")),
  });
});

/** Resolves with what a method gives to its callback. */
function called<T>(
  method: (callback: (error: Error | null | undefined, value: T) => void) => unknown,
): Promise<T> {
  return new Promise((resolve, reject) => {
    method((error, value) => error ? reject(error) : resolve(value));
  });
}

async function input(): Promise<Uint8Array> {
  return new Uint8Array(await new Response(Deno.stdin.readable).arrayBuffer());
}

function statusOf(channel: ssh2.ClientChannel): Promise<number> {
  return new Promise((resolve) => channel.once("close", (code: number) => resolve(code)));
}

/** Calls `afterEach` after each MB that came. */
async function execute(afterEach?: () => void): Promise<number> {
  const channel = await called<ssh2.ClientChannel>((done) => client.exec(argument, done));
  const status = statusOf(channel);
  let bytes = 0;
  channel.on("data", (data: Uint8Array) => {
    bytes += data.length;
    if (bytes < 1_000_000 || afterEach === undefined) return;
    bytes = 0;
    afterEach();
  });
  channel.pipe(process.stdout, { end: false });
  channel.stderr.pipe(process.stderr, { end: false });
  channel.end(await input());
  return await status;
}

async function useTerminal(): Promise<number> {
  const terminal = { term: "xterm", rows: 30, cols: 100, width: 0, height: 0 };
  const channel = await called<ssh2.ClientChannel>((done) =>
    client.exec(argument, { pty: terminal }, done)
  );
  const status = statusOf(channel);
  let shown = "";
  channel.on("data", (data: Uint8Array) => {
    const isFirst = !shown.includes("\n");
    shown += new TextDecoder().decode(data);
    if (!isFirst || !shown.includes("\n")) return;
    channel.setWindow(40, 120, 0, 0);
    channel.write("go\n");
  });
  channel.stderr.resume();
  const code = await status;
  process.stdout.write(shown);
  return code;
}

async function transfer(): Promise<void> {
  const folder = argument;
  const sftp = await called<ssh2.SFTPWrapper>((done) => client.sftp(done));
  await called<void>((done) => sftp.mkdir(`${folder}/remote`, (error) => done(error)));
  await called<void>((done) =>
    sftp.fastPut(`${folder}/file`, `${folder}/remote/file`, (error) => done(error))
  );
  await called<void>((done) =>
    sftp.rename(`${folder}/remote/file`, `${folder}/remote/renamed`, (error) => done(error))
  );
  const list = await called<ssh2.FileEntryWithStats[]>((done) =>
    sftp.readdir(`${folder}/remote`, done)
  );
  console.log(...list.map(({ filename }) => filename));
  await called<void>((done) =>
    sftp.fastGet(`${folder}/remote/renamed`, `${folder}/back`, (error) => done(error))
  );
  try {
    await called<void>((done) => sftp.unlink(`${folder}/remote/missing`, (error) => done(error)));
  } catch (error) {
    if ((error as { code?: number }).code === 2) console.log("missing");
  }
}

async function forwardLocal(): Promise<void> {
  const channel = await called<ssh2.ClientChannel>((done) =>
    client.forwardOut("127.0.0.1", 0, "127.0.0.1", Number(argument), done)
  );
  channel.end(await input());
  const answer = await buffer(channel);
  await new Promise((resolve) => process.stdout.write(answer, resolve));
}

async function forwardRemote(): Promise<void> {
  client.on("tcp connection", (_details, accept) => {
    const socket = connectSocket({ host: "127.0.0.1", port: Number(argument) });
    const channel = accept();
    channel.pipe(socket).pipe(channel);
  });
  const bound = await called<number>((done) => client.forwardIn("127.0.0.1", 0, done));
  console.log("port", bound);
  await input();
}

async function runTen(): Promise<void> {
  const numbers = [...Array(10).keys()];
  const channels = await Promise.all(
    numbers.map((number) =>
      called<ssh2.ClientChannel>((done) => client.exec(`cat; exit ${number}`, done))
    ),
  );
  const lines = await Promise.all(channels.map(async (channel, number) => {
    const status = statusOf(channel);
    channel.stderr.resume();
    channel.end(String(number).repeat(20_000));
    const output = createHash("sha256").update(await buffer(channel)).digest("hex");
    return `${number} ${await status} ${output}`;
  }));
  console.log(lines.join("\n"));
}

async function runCase(): Promise<number> {
  switch (peerCase) {
    case "exec":
      return await execute();
    case "rekey":
      return await execute(() =>
        (client as unknown as { _protocol: { rekey(): void } })._protocol.rekey()
      );
    case "terminal":
      return await useTerminal();
    case "sftp":
      await transfer();
      return 0;
    case "local":
      await forwardLocal();
      return 0;
    case "remote":
      await forwardRemote();
      return 0;
    case "ten":
      await runTen();
      return 0;
    default:
      throw new Error(`No such case: ${peerCase}`);
  }
}

const status = await runCase();
client.once("close", () => Deno.exit(status));
client.end();
