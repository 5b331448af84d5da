/**
 * The demo: a toy SSH server, the real shim in front of it, and one command through both.
 *
 *     deno task demo [--once] [--local-port PORT]
 *
 * It stays up until Ctrl-C, so that other clients can be tried; with `--once`, or where no person
 * sits at a terminal, it ends after the command. Everything that it makes is in a temporary folder
 * that ends with it.
 */

import { Buffer } from "node:buffer";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { sameUserSupported } from "../lib/access.ts";
import { generateKey } from "../lib/local_host_key.ts";
import { startToyUpstream, type ToyUpstream } from "./support/toy_upstream.ts";

const mainModule = fileURLToPath(new URL("../main.ts", import.meta.url));
const defaultPort = 2222;

/** How long the shim may take to end by itself; it closes its channels within 3 s. */
const stopTimeoutMs = 5000;

/** The shim's own process. */
interface ShimProcess {
  child: Deno.ChildProcess;
  /** Resolves with its port when it listens, and with `undefined` if it ends before. */
  port: Promise<number | undefined>;
  /** Resolves with its exit status when it has ended and all that it wrote has been shown. */
  ended: Promise<number>;
}

/** Resolves at Ctrl-C, or at the other signals that end a program; a second one ends it at once. */
function onStopSignal(): Promise<Deno.Signal> {
  const { promise, resolve } = Promise.withResolvers<Deno.Signal>();
  let isStopping = false;
  const signals: Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT", "SIGBREAK"]
    : ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) {
    Deno.addSignalListener(signal, () => {
      if (isStopping) Deno.exit(1);
      isStopping = true;
      resolve(signal);
    });
  }
  return promise;
}

async function main(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: { "once": { type: "boolean" }, "local-port": { type: "string" } },
  });
  const stopSignal = onStopSignal();
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "sshshim-demo-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));

  const userKey = generateKey();
  const shimKey = generateKey();
  const files = { userKey: `${folder}/user_key`, shimKey: `${folder}/shim_key` };
  await Deno.writeTextFile(files.userKey, userKey.privateKey, { mode: 0o600 });
  await Deno.writeTextFile(files.shimKey, shimKey.privateKey, { mode: 0o600 });
  const upstream = resources.use(await startToyUpstream(userKey.publicKey));
  await Deno.writeTextFile(`${folder}/upstream_known_hosts`, upstream.knownHostsLine);
  say(
    `This is a demo. Upstream is a toy SSH server inside the demo, at ` +
      `${upstream.host}:${upstream.port}, which runs commands as you;\n` +
      `the shim in front of it is the real one.\n`,
  );

  const localPort = Number(values["local-port"] ?? portOr0(defaultPort));
  const shim = startShim(upstream, { folder, files, localPort });
  resources.defer(() => stopShim(shim.child));
  const port = await shim.port;
  if (port === undefined) return await shim.ended;
  const hostKey = Buffer.from(shimKey.publicKey).toString("base64");
  const knownHostsFile = `${folder}/known_hosts`;
  await Deno.writeTextFile(knownHostsFile, `[127.0.0.1]:${port} ssh-ed25519 ${hostKey}\n`);

  const code = await showCommand(port, knownHostsFile);
  if (code !== 0) return code;
  if (values.once || !Deno.stdin.isTerminal()) return 0;

  say(
    `\nNow it is yours: type the commands above in another terminal. Where ssh does not know the ` +
      `host key,\ngive it -o UserKnownHostsFile=${knownHostsFile}\n`,
  );
  const end = await Promise.race([stopSignal, shim.ended]);
  if (typeof end === "number") return end;
  // A terminal sends its Ctrl-C to the shim as well, and a second signal would cut its end short.
  if (end === "SIGINT") await settled(shim.ended, stopTimeoutMs);
  return 0;
}

/** Starts the shim as a process of its own, and shows what it writes. */
function startShim(
  upstream: ToyUpstream,
  { folder, files, localPort }: {
    folder: string;
    files: { userKey: string; shimKey: string };
    localPort: number;
  },
): ShimProcess {
  const shimArguments = [
    `${upstream.username}@${upstream.host}:${upstream.port}`,
    ...["--ed25519-key", files.userKey],
    ...["--known-hosts", `${folder}/upstream_known_hosts`],
    ...["--local-ed25519-key", files.shimKey],
    ...["--local-port", String(localPort), "--no-ssh-config"],
    ...(sameUserSupported() ? [] : ["--local-auth", "none"]),
  ];
  say(`$ sshshim ${shimArguments.join(" ")}`);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", mainModule, ...shimArguments],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const port = Promise.withResolvers<number | undefined>();
  const shown = show(child.stdout, (text) => {
    const [, digits] = / is at 127\.0\.0\.1:(\d+)\n[^]*Ctrl-C ends it\.\n/.exec(text) ?? [];
    if (digits !== undefined) port.resolve(Number(digits));
  });
  const ended = Promise.all([child.status, shown]).then(([{ code }]) => code);
  void ended.then(() => port.resolve(undefined));
  return { child, port: port.promise, ended };
}

/** Passes on what a process writes, and tells `onText` all of it so far. */
async function show(
  output: ReadableStream<Uint8Array>,
  onText: (text: string) => void,
): Promise<void> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of output) {
    text += decoder.decode(chunk, { stream: true });
    Deno.stdout.writeSync(chunk);
    onText(text);
  }
}

/** Runs one command through the shim by the machine's ssh; the exit status is the demo's. */
async function showCommand(port: number, knownHostsFile: string): Promise<number> {
  const command = [
    ...["ssh", "-F", Deno.build.os === "windows" ? "NUL" : "/dev/null"],
    ...["-o", `UserKnownHostsFile=${knownHostsFile}`, "-o", "StrictHostKeyChecking=yes"],
    ...["-p", String(port), "127.0.0.1"],
  ];
  const remoteCommand = "echo Hello from the far end of the shim, on && hostname";
  say(`$ ${command.join(" ")} '${remoteCommand}'`);
  const [program = "", ...args] = command;
  try {
    const { code } = await new Deno.Command(program, {
      args: [...args, remoteCommand],
      stdin: "null",
      stdout: "inherit",
      stderr: "inherit",
    }).spawn().status;
    if (code !== 0) say(`It failed with exit status ${code}.`);
    return code;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    say("There is no ssh on this machine; any other SSH client can use the shim.");
    return 0;
  }
}

/** Asks the shim to stop and waits for its end. May be called when it has ended. */
async function stopShim(child: Deno.ChildProcess): Promise<void> {
  const kill = (signal: Deno.Signal) => {
    try {
      child.kill(signal);
    } catch {
      // It has ended.
    }
  };
  kill("SIGTERM");
  if (!await settled(child.status, stopTimeoutMs)) kill("SIGKILL");
  await child.status;
}

/** Whether `promise` is fulfilled within `timeoutMs`. */
async function settled(promise: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const expired = Promise.withResolvers<false>();
  const timer = setTimeout(() => expired.resolve(false), timeoutMs);
  try {
    return await Promise.race([promise.then(() => true), expired.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** The port if nobody listens there, and else 0. */
function portOr0(port: number): number {
  try {
    Deno.listen({ hostname: "127.0.0.1", port }).close();
    return port;
  } catch {
    // Whatever keeps the port from us, a free one will do.
    return 0;
  }
}

function say(text: string): void {
  console.log(text);
}

Deno.exit(await main(Deno.args));
