/**
 * npm's ssh2 as a server, with nothing of ours in its SSH; peer_servers.ts says what the arguments
 * mean.
 */

import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import process from "node:process";
// @ts-types="@types/ssh2"
import ssh2 from "ssh2";
import { Terminal } from "../support/pty.ts";
import { writeAll } from "../support/services.ts";

const [hostKeyFile, authorizedFile, limit] = Deno.args as [string, string, string];
const authorizedKey = readFileSync(authorizedFile, "utf8").split(" ")[1];
const rekeyBytes = Number(limit);

const server = new ssh2.Server({ hostKeys: [readFileSync(hostKeyFile)] }, (connection) => {
  connection.on("error", (error) => console.error(error.message));
  connection.on("authentication", (context) => {
    if (context.method !== "publickey") return context.reject(["publickey"]);
    if (context.key.data.toString("base64") !== authorizedKey) return context.reject();
    const key = ssh2.utils.parseKey(`${context.key.algo} ${authorizedKey}`) as ssh2.ParsedKey;
    const { signature, blob, hashAlgo } = context;
    if (signature === undefined || key.verify(blob!, signature, hashAlgo)) context.accept();
    else context.reject();
  });
  connection.on("session", (accept) => serveSession(accept(), connection));
  connection.on("tcpip", async (accept, reject, { destIP, destPort }) => {
    const socket = await Deno.connect({ hostname: destIP, port: destPort }).catch(() => undefined);
    if (socket === undefined) reject();
    else await join(accept(), socket);
  });
  serveRemoteForwards(connection);
});
server.listen(0, "127.0.0.1", () => console.log("port", (server.address() as AddressInfo).port));
process.on("SIGTERM", () => Deno.exit());

function serveSession(session: ssh2.Session, connection: ssh2.Connection): void {
  let dimensions: { rows: number; columns: number } | undefined;
  let terminal: Terminal | undefined;
  let name = "";
  session.on("pty", (accept, _reject, info) => {
    dimensions = { rows: info.rows, columns: info.cols };
    name = (info as { term?: string }).term ?? "";
    accept?.();
  });
  session.on("window-change", (accept, _reject, info) => {
    void terminal?.resize({ rows: info.rows, columns: info.cols });
    accept?.();
  });
  session.on("exec", (accept, _reject, { command }) => {
    const channel = accept();
    if (dimensions === undefined) return serveCommand(channel, ["-c", command], connection);
    const environment = { ...Deno.env.toObject(), TERM: name };
    terminal = new Terminal(["/bin/sh", "-c", command], { environment, dimensions });
    void serveTerminal(channel, terminal);
  });
  session.on("subsystem", (accept) => {
    serveCommand(accept(), ["-c", "exec /usr/lib/openssh/sftp-server"], connection);
  });
}

function serveCommand(
  channel: ssh2.ServerChannel,
  args: string[],
  connection: ssh2.Connection,
): void {
  const child: ChildProcess = spawn("/bin/sh", args);
  channel.pipe(child.stdin!);
  child.stdin!.on("error", () => {});
  let bytes = 0;
  child.stdout!.on("data", (data: Uint8Array) => {
    bytes += data.length;
    if (rekeyBytes === 0 || bytes < rekeyBytes) return;
    bytes = 0;
    connection.rekey();
  });
  child.stdout!.pipe(channel, { end: false });
  const said: Uint8Array[] = [];
  child.stderr!.on("data", (data: Uint8Array) => said.push(data));
  child.on("close", (code) => {
    // Of two streams that wait for the window ssh2 forgets one, and at the end what waits.
    channel.write("", () => {
      channel.stderr.write(Buffer.concat(said), () => {
        channel.exit(code ?? 255);
        channel.end();
      });
    });
  });
}

async function serveTerminal(channel: ssh2.ServerChannel, terminal: Terminal): Promise<void> {
  channel.on("data", (data: Uint8Array) => void terminal.type(new TextDecoder().decode(data)));
  let shown = 0;
  const show = () => {
    const text = terminal.screen.text.slice(shown);
    shown += text.length;
    if (text !== "") channel.write(text);
  };
  const timer = setInterval(show, 10);
  const code = await terminal.exit;
  clearInterval(timer);
  show();
  channel.exit(code);
  channel.end();
}

function serveRemoteForwards(connection: ssh2.Connection): void {
  const listeners = new Map<number, Deno.TcpListener>();
  connection.on("request", (accept, reject, name, info) => {
    const { bindAddr, bindPort } = info as ssh2.TcpipBindInfo;
    if (name === "cancel-tcpip-forward") {
      listeners.get(bindPort)?.close();
      listeners.delete(bindPort);
      return accept?.();
    }
    if (name !== "tcpip-forward") return reject?.();
    let listener: Deno.TcpListener;
    try {
      listener = Deno.listen({ hostname: "127.0.0.1", port: bindPort });
    } catch {
      return reject?.();
    }
    const { port } = listener.addr as Deno.NetAddr;
    listeners.set(port, listener);
    void acceptForwarded(connection, listener, { address: bindAddr, port });
    accept?.(port);
  });
  connection.on("close", () => {
    for (const listener of listeners.values()) listener.close();
  });
}

async function acceptForwarded(
  connection: ssh2.Connection,
  listener: Deno.TcpListener,
  { address, port }: { address: string; port: number },
): Promise<void> {
  for await (const socket of listener) {
    const origin = socket.remoteAddr as Deno.NetAddr;
    connection.forwardOut(address, port, origin.hostname, origin.port, (error, channel) => {
      if (error) socket.close();
      else void join(channel, socket);
    });
  }
}

/** Carries both directions, each to its own end. */
async function join(channel: ssh2.Channel, socket: Deno.TcpConn): Promise<void> {
  let sending = Promise.resolve();
  // Never paused: of a channel that is closed meanwhile, ssh2 loses what has not been read.
  channel.on("data", (data: Uint8Array) => {
    sending = sending.then(() => writeAll(socket, data));
  });
  const ended = new Promise((resolve) => channel.once("end", resolve));
  const returning = (async () => {
    for (;;) {
      const buffer = new Uint8Array(32_768);
      const count = await socket.read(buffer);
      if (count === null) break;
      // What waits for the window is lost with `eof`.
      await new Promise((resolve) => channel.write(buffer.subarray(0, count), resolve));
    }
    // Its end would close the channel at once.
    (channel as unknown as { eof(): void }).eof();
  })();
  await ended;
  await sending;
  await socket.closeWrite();
  await returning;
  channel.end();
  socket.close();
}
