/**
 * A toy SSH server for the demo: commands, shells, file transfer and forwards as this process's
 * own user, on loopback.
 *
 * It is made of ssh2's server and knows nothing of a real server's care: no limits, a terminal keeps
 * the dimensions that it began with, and a forwarded connection ends as soon as one side has ended.
 */

import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { userInfo } from "node:os";
import { generateKey } from "../../lib/local_host_key.ts";
import { ssh2 } from "../../lib/ssh2.ts";
import { serverAlgorithms } from "../../lib/ssh2_algorithms.ts";

/** A running toy server. Leaving its scope ends it, its connections and their commands. */
export interface ToyUpstream extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** The account of this process, the only one that may log in. */
  readonly username: string;
  /** The line for known_hosts, ended by a newline. */
  readonly knownHostsLine: string;
}

const host = "127.0.0.1";

/**
 * Starts a toy server with a fresh host key at a free port.
 *
 * @param authorizedKey the only key that may log in, in the wire format of RFC 4253, section 6.6
 */
export async function startToyUpstream(authorizedKey: Uint8Array): Promise<ToyUpstream> {
  const { username } = userInfo();
  const hostKey = generateKey();
  const server = new ssh2.Server({
    hostKeys: [hostKey.privateKey],
    algorithms: serverAlgorithms().forSsh2,
  });
  const connections = new Set<ssh2.Connection>();
  server.on("connection", (connection) => {
    connections.add(connection);
    connection.on("close", () => connections.delete(connection));
    // A connection that breaks is closed by ssh2, and that is all that a toy has to do.
    connection.on("error", () => {});
    connection.on("authentication", (context) => authenticate(context, username, authorizedKey));
    connection.on("session", (accept) => new Session(accept()));
    connection.on("tcpip", forwardThere);
    serveRemoteForwards(connection);
  });
  const listener = createServer({ noDelay: true }, (socket) => server.injectSocket(socket));
  const port = await listen(listener, 0);
  const keyText = Buffer.from(hostKey.publicKey).toString("base64");
  return {
    host,
    port,
    username,
    knownHostsLine: `[${host}]:${port} ssh-ed25519 ${keyText}\n`,
    async [Symbol.asyncDispose]() {
      listener.close();
      await Promise.all(Array.from(connections, (connection) => {
        const closed = new Promise<void>((resolve) => connection.once("close", resolve));
        connection.end();
        return closed;
      }));
    },
  };
}

function authenticate(
  context: ssh2.AuthContext,
  username: string,
  authorizedKey: Uint8Array,
): void {
  if (context.method !== "publickey" || context.username !== username) {
    return context.reject(["publickey"]);
  }
  const { key, blob, signature, hashAlgo } = context;
  const parsed = ssh2.utils.parseKey(`${key.algo} ${key.data.toString("base64")}`);
  const isOurs = Buffer.from(authorizedKey).equals(key.data) && !(parsed instanceof Error) &&
    // Without a signature the client only asks whether the key would do.
    (signature === undefined || parsed.verify(blob!, signature, hashAlgo) === true);
  if (isOurs) context.accept();
  else context.reject(["publickey"]);
}

/** Gives each command a pseudo-terminal on Linux; its arguments differ elsewhere. */
const terminalProgram = Deno.build.os === "linux"
  ? ["/usr/bin/script", "/bin/script"].find(existsSync)
  : undefined;

/** Where systems keep the program that serves SFTP on its standard input and output. */
const sftpProgram = [
  "/usr/lib/openssh/sftp-server",
  "/usr/libexec/openssh/sftp-server",
  "/usr/lib/ssh/sftp-server",
  "/usr/libexec/sftp-server",
].find(existsSync);

/** What runs inside a new terminal: it takes its size and becomes the user's shell. */
const terminalScript =
  'stty echo rows "$TOY_ROWS" cols "$TOY_COLUMNS"; export SHELL="$TOY_SHELL"; ' +
  'if [ -n "$TOY_COMMAND" ]; then exec "$SHELL" -c "$TOY_COMMAND"; fi; exec "$SHELL" -l';

/** One session channel (RFC 4254, section 6). */
class Session {
  readonly #environment: Record<string, string> = {};
  #terminal: ssh2.PseudoTtyInfo | undefined;

  constructor(session: ssh2.Session) {
    session.on("env", (accept, _reject, { key, val }) => {
      this.#environment[key] = val;
      accept?.();
    });
    session.on("pty", (accept, reject, terminal) => {
      if (terminalProgram === undefined) return reject?.();
      this.#terminal = terminal;
      accept?.();
    });
    session.on("window-change", (accept) => accept?.());
    session.on("exec", (accept, _reject, { command }) => this.#runShell(accept(), command));
    session.on("shell", (accept) => this.#runShell(accept()));
    session.on("subsystem", (accept, reject, { name }) => {
      if (name === "sftp" && sftpProgram !== undefined) this.#run(accept(), [sftpProgram]);
      else reject();
    });
  }

  #runShell(channel: ssh2.ServerChannel, command?: string): void {
    if (Deno.build.os === "windows") {
      const shell = Deno.env.get("ComSpec") ?? "cmd.exe";
      return this.#run(channel, [
        shell,
        ...(command === undefined ? [] : ["/d", "/s", "/c", command]),
      ]);
    }
    const shell = userInfo().shell ?? "/bin/sh";
    if (this.#terminal === undefined) {
      return this.#run(channel, [shell, ...(command === undefined ? ["-l"] : ["-c", command])]);
    }
    const { rows, cols } = this.#terminal;
    this.#run(channel, [terminalProgram!, "-q", "-e", "-c", terminalScript, "/dev/null"], {
      // The type of the terminal is no part of the library's types.
      TERM: (this.#terminal as { term?: string }).term ?? "dumb",
      SHELL: "/bin/sh",
      TOY_SHELL: shell,
      TOY_COMMAND: command ?? "",
      TOY_ROWS: String(rows || 24),
      TOY_COLUMNS: String(cols || 80),
    });
  }

  #run(channel: ssh2.ServerChannel, command: string[], environment = {}): void {
    const [program = "", ...args] = command;
    const child = spawn(program, args, {
      cwd: userInfo().homedir,
      env: { ...Deno.env.toObject(), ...this.#environment, ...environment },
    });
    connectStreams(channel, child);
  }
}

/** Joins a command to its channel; whichever ends first ends the other. */
function connectStreams(channel: ssh2.ServerChannel, child: ChildProcess): void {
  channel.pipe(child.stdin!);
  // A command need not read its input to the end.
  child.stdin!.on("error", () => {});
  child.stdout!.pipe(channel, { end: false });
  child.stderr!.pipe(channel.stderr, { end: false });
  child.on("error", (error) => channel.stderr.write(`${error.message}\n`));
  child.on("close", (code, signal) => {
    if (signal === null) channel.exit(code === null || code < 0 ? 127 : code);
    else channel.exit(signal.replace("SIG", ""));
    channel.end();
  });
  channel.on("close", () => child.kill("SIGHUP"));
}

/** Opens a connection for `ssh -L` (RFC 4254, section 7.2). */
function forwardThere(
  accept: () => ssh2.ServerChannel,
  reject: () => void,
  { destIP, destPort }: ssh2.TcpipRequestInfo,
): void {
  const socket = connect({ host: destIP, port: destPort, noDelay: true });
  socket.once("error", reject);
  socket.once("connect", () => {
    socket.off("error", reject);
    joinSocket(accept(), socket);
  });
}

/** Listens for `ssh -R` (RFC 4254, section 7.1), on loopback whatever address is asked for. */
function serveRemoteForwards(connection: ssh2.Connection): void {
  const listeners = new Map<string, Server>();
  connection.on("request", (accept, reject, name, info) => {
    if (name === "tcpip-forward") {
      const { bindAddr, bindPort } = info as ssh2.TcpipBindInfo;
      const listener = createServer({ noDelay: true }, (socket) => {
        const { port } = listener.address() as AddressInfo;
        const { remoteAddress = host, remotePort = 0 } = socket;
        connection.forwardOut(bindAddr, port, remoteAddress, remotePort, (error, channel) => {
          if (error) socket.destroy();
          else joinSocket(channel, socket);
        });
      });
      listen(listener, bindPort).then((port) => {
        listeners.set(`${bindAddr} ${port}`, listener);
        accept?.(port);
      }, () => reject?.());
    } else if (name === "cancel-tcpip-forward") {
      const { bindAddr, bindPort } = info as ssh2.TcpipBindInfo;
      const place = `${bindAddr} ${bindPort}`;
      const listener = listeners.get(place);
      if (listener === undefined) return reject?.();
      listeners.delete(place);
      listener.close();
      accept?.();
    } else {
      reject?.();
    }
  });
  connection.on("close", () => {
    for (const listener of listeners.values()) listener.close();
  });
}

function joinSocket(channel: ssh2.Channel, socket: ReturnType<typeof connect>): void {
  channel.pipe(socket).pipe(channel);
  socket.on("error", () => socket.destroy());
  socket.on("close", () => channel.end());
  channel.on("close", () => socket.destroy());
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => resolve((server.address() as AddressInfo).port));
  });
}
