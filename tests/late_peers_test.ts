/** Real programs that speak of a channel after it has been closed: they, and all others, go on. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { ssh2 } from "../lib/ssh2.ts";
import { Reader } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { shimTarget } from "./support/behind.ts";
import { clientEnvironment, makeTarget, startGround, type Target } from "./support/both.ts";
import { freePort } from "./support/ports.ts";
import { asyncssh, paramiko, pythonProgram } from "./support/python.ts";
import { RawClient } from "./support/raw_client.ts";
import { waitForFile } from "./support/processes.ts";
import { RunningProcess, text } from "./support/run.ts";
import { type Shim, startShim, type Upstream } from "./support/shim.ts";
import { makeKey } from "./support/sshd.ts";

const { globalRequest, requestFailure, channelClose, channelData, channelRequest } = MessageType;

/** ssh2's window of a session, and the size of our packets, in bytes. */
const windowBytes = 2 ** 21;
const packetBytes = 32_768;

Deno.test("ssh2's client closes a channel while data comes, and uses its connection further", async () => {
  await using ground = await startGround();
  const target = shimTarget(ground);
  const socket = connect(target.port, target.host);
  const client = new ssh2.Client();
  client.connect({ sock: socket, username: target.username, password: "any" });
  await once(client, "ready");
  const [sent, done] = [`${target.folder}/sent`, `${target.folder}/done`];
  const command = `head -c ${windowBytes} /dev/zero; echo > ${sent}; cat /dev/zero; echo > ${done}`;
  const stream = await exec(client, command);
  const [first] = await once(stream, "data");
  socket.pause();
  // A window full of data is under way.
  await waitForFile(sent);
  stream.close();
  await waitForFile(done);
  // By the answer to another client, upstream has closed the channel as well.
  assert.equal((await target.ssh("true")).code, 0);
  let bytes = first.length;
  stream.on("data", (data: Uint8Array) => bytes += data.length);
  socket.resume();
  await once(stream, "close");
  assert(bytes > windowBytes / 2, `${bytes} bytes: too few for another grant`);

  const second = await exec(client, "exit 7");
  const [code] = await once(second.resume(), "exit");
  assert.equal(code, 7);
  client.end();
  await once(client, "close");
});

Deno.test("ssh2's server opens the window of a channel that is closed, and loses nobody", async () => {
  await using server = await startSsh2Server();
  await using shim = await startShim(server);
  await using client = await RawClient.connect(targetOf(shim, server));
  const first = await client.openSession();
  client.request(first.channel, "exec", "take");
  const { socket, channel } = await server.session;
  for (let sent = 0; sent < windowBytes; sent += packetBytes) {
    client.send(channelData, first.channel, new Uint8Array(packetBytes));
  }
  await client.exec("wait");
  assert.equal(channel.readableLength, windowBytes);

  // What comes for it is not read until it has spoken once more.
  socket.pause();
  channel.close();
  await client.receive(channelClose);
  client.send(channelClose, first.channel);
  await expectHeard(client);
  channel.resume();
  await once(channel, "resume");
  socket.resume();

  await client.exec("greet");
  assert.match(new TextDecoder().decode(await client.receive(channelData)), /hello$/);
  assert.equal(server.connectionCount, 1);
});

Deno.test("paramiko's server tells the exit status of a channel that is closed, and loses nobody", async () => {
  await using server = await startParamikoServer();
  await using shim = await startShim(server);
  await using client = await RawClient.connect(targetOf(shim, server));
  const first = await client.openSession();
  client.request(first.channel, "exec", "close");
  await client.receive(channelClose);
  client.send(channelClose, first.channel);
  // The server hears of this one when the first is closed; then it tells the status of the first.
  const second = await client.openSession();
  client.request(second.channel, "exec", "greet");
  // The status of the first is not taken for that of the second.
  const greeting = await client.receive(channelData, channelRequest);
  assert.match(new TextDecoder().decode(greeting), /hello$/);
  const status = new Reader(await client.receive(channelRequest), 5);
  assert.deepEqual([status.text(), status.boolean(), status.uint32()], ["exit-status", false, 0]);
});

Deno.test("Python's clients close channels while data comes, and use their connections further", async (t) => {
  await using ground = await startGround();
  const target = shimTarget(ground);
  const runs: [name: string, run: typeof paramiko, body: string][] = [
    [
      "paramiko",
      paramiko,
      `
for number in range(20):
    channel = client.get_transport().open_session()
    channel.exec_command("cat /dev/zero")
    channel.recv(100000 * number + 1)
    channel.close()
print(client.exec_command("exit 7")[1].channel.recv_exit_status())
`,
    ],
    [
      "asyncssh",
      asyncssh,
      `
for number in range(20):
    process = await connection.create_process("cat /dev/zero", encoding=None)
    await process.stdout.readexactly(100000 * number + 1)
    process.close()
print((await connection.run("exit 7")).exit_status)
`,
    ],
  ];
  for (const [name, run, body] of runs) {
    await t.step(name, async () => {
      const { code, stdout, stderr } = await run(target, body);
      assert.deepEqual([code, text(stdout), text(stderr)], [0, "7\n", ""]);
    });
  }
});

/** Resolves when the shim has handled whatever the client has sent. */
async function expectHeard(client: RawClient): Promise<void> {
  client.send(globalRequest, "heard@example.com", true);
  await client.receive(requestFailure);
}

/** Starts a command in a session of an ssh2 client. */
function exec(client: ssh2.Client, command: string): Promise<ssh2.ClientChannel> {
  return new Promise((resolve, reject) =>
    client.exec(command, (error, stream) => error ? reject(error) : resolve(stream))
  );
}

function targetOf(shim: Shim, server: Upstream & { folder: string }): Target {
  const { username, keyFile, folder } = server;
  const { host, port, knownHostsFile } = shim;
  return makeTarget({
    ...{ mode: "shim", host, port, knownHostsFile, username, keyFile, folder },
    environment: clientEnvironment(folder),
  });
}

/** A server that is no sshd; leaving its scope ends it. */
type Server = Upstream & AsyncDisposable & { folder: string };

/** Makes the keys of a server and its user, and known_hosts; the folder is the caller's. */
async function makeKeys(port: number): Promise<Upstream & { folder: string }> {
  const folder = await Deno.makeTempDir({ prefix: "late-peers-" });
  for (const name of ["host", "user"]) await makeKey(`${folder}/${name}`, "ed25519");
  const knownHostsFile = `${folder}/known_hosts`;
  const hostKey = await Deno.readTextFile(`${folder}/host.pub`);
  await Deno.writeTextFile(knownHostsFile, `[127.0.0.1]:${port} ${hostKey}`);
  const keyFile = `${folder}/user`;
  return { host: "127.0.0.1", port, username: "user", keyFile, knownHostsFile, folder };
}

/**
 * Starts ssh2's server. The command `greet` says hello, any other does nothing and stays; the
 * channel of `take`, and the socket under it, are the test's.
 */
async function startSsh2Server(): Promise<
  & Server
  & {
    readonly connectionCount: number;
    session: Promise<{ socket: Socket; channel: ssh2.ServerChannel }>;
  }
> {
  const { promise: session, resolve } = Promise.withResolvers<
    { socket: Socket; channel: ssh2.ServerChannel }
  >();
  const port = freePort();
  const keys = await makeKeys(port);
  const server = new ssh2.Server({ hostKeys: [await Deno.readTextFile(`${keys.folder}/host`)] });
  const closed = new Set<Promise<unknown>>();
  const sockets = new Set<Socket>();
  let current: Socket;
  server.on("connection", (connection) => {
    const socket = current;
    connection.on("error", () => {});
    connection.on("authentication", (context) => context.accept());
    connection.on("session", (accept) => {
      accept().on("exec", (accept, _reject, { command }) => {
        const channel = accept();
        if (command === "take") resolve({ socket, channel });
        if (command !== "greet") return;
        channel.write("hello");
        channel.exit(0);
        channel.end();
      });
    });
  });
  const listener = createServer({ noDelay: true }, (socket) => {
    current = socket;
    sockets.add(socket);
    closed.add(once(socket, "close"));
    server.injectSocket(socket);
  });
  listener.listen(port, keys.host);
  await once(listener, "listening");
  return {
    ...keys,
    session,
    get connectionCount() {
      return sockets.size;
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      for (const socket of sockets) socket.destroy();
      await Promise.all(closed);
      await Deno.remove(keys.folder, { recursive: true });
    },
  };
}

/** The command `close` only closes its channel; the next one tells that channel's exit status. */
const paramikoServer = `
import paramiko, socket, sys, threading
folder, port = sys.argv[1], int(sys.argv[2])

class Server(paramiko.ServerInterface):
    former = None

    def check_auth_none(self, username):
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind, number):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        threading.Thread(target=self.serve, args=(channel, command), daemon=True).start()
        return True

    def serve(self, channel, command):
        if command == b"close":
            Server.former = channel
            channel.close()
            return
        Server.former.send_exit_status(3)
        channel.sendall(b"hello")
        channel.send_exit_status(0)
        channel.close()

listener = socket.create_server(("127.0.0.1", port))
print("listening", flush=True)
while True:
    transport = paramiko.Transport(listener.accept()[0])
    transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(folder + "/host"))
    transport.start_server(server=Server())
`;

async function startParamikoServer(): Promise<Server> {
  const port = freePort();
  const keys = await makeKeys(port);
  const process = new RunningProcess(
    [pythonProgram, "-W", "ignore", "-c", paramikoServer, keys.folder, String(port)],
  );
  await process.stdout.waitFor(/listening/);
  return {
    ...keys,
    async [Symbol.asyncDispose]() {
      await process[Symbol.asyncDispose]();
      await Deno.remove(keys.folder, { recursive: true });
    },
  };
}
