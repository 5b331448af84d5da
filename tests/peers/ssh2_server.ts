/**
 * npm's ssh2 as a server, with nothing of ours in its SSH; peer_servers.ts says what the arguments
 * mean.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import process from "node:process";
// @ts-types="@types/ssh2"
import ssh2 from "ssh2";
import { Terminal } from "../support/pty.ts";

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
  connection.on("tcpip", (accept, reject, { destIP, destPort }) => {
    const socket = connect({ host: destIP, port: destPort, allowHalfOpen: true });
    socket.once("error", () => reject());
    socket.once("connect", () => join(accept(), socket));
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
  child.stderr!.pipe(channel.stderr, { end: false });
  child.on("close", (code) => {
    channel.exit(code ?? 255);
    channel.end();
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
  const listeners = new Map<number, Server>();
  connection.on("request", (accept, reject, name, info) => {
    const { bindAddr, bindPort } = info as ssh2.TcpipBindInfo;
    if (name === "cancel-tcpip-forward") {
      listeners.get(bindPort)?.close();
      return accept?.();
    }
    if (name !== "tcpip-forward") return reject?.();
    const listener = createServer({ allowHalfOpen: true }, (socket) => {
      const { remoteAddress = "", remotePort = 0 } = socket;
      const { port } = listener.address() as AddressInfo;
      connection.forwardOut(bindAddr, port, remoteAddress, remotePort, (error, channel) => {
        if (error) socket.destroy();
        else join(channel, socket);
      });
    });
    listener.once("error", () => reject?.());
    listener.listen(bindPort, "127.0.0.1", () => {
      const { port } = listener.address() as AddressInfo;
      listeners.set(port, listener);
      accept?.(port);
    });
  });
  connection.on("close", () => {
    for (const listener of listeners.values()) listener.close();
  });
}

function join(channel: ssh2.Channel, socket: Socket): void {
  channel.pipe(socket).pipe(channel);
  socket.on("error", () => channel.end());
}
