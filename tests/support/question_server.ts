/**
 * An SSH server that asks a question at each login, whose answer may change each time, as a second
 * factor does. A real sshd would need a module of PAM for that.
 */

import { type AddressInfo, createServer, type Socket } from "node:net";
import type ssh2Types from "ssh2";
import { serverAlgorithms } from "../../lib/ssh2_algorithms.ts";
import { ssh2 } from "../../lib/ssh2.ts";
import { makeKey } from "./sshd.ts";

/** What is asked at a login, and what lets in. */
export interface Question {
  prompt: string;
  answer: string;
}

/** A running server; every command in it says `done`. Leaving its scope ends it. */
export interface QuestionServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** Holds the server's host key. */
  readonly knownHostsFile: string;
  /** Asked at the next login. */
  question: Question;
  /** Whether whoever connects is turned away at once. */
  isAway: boolean;
  /** How many connections have come, how many of them were asked, and how many got in. */
  readonly counts: { connected: number; asked: number; admitted: number };
  /** Ends every connection, without a word. */
  cutAll(): void;
}

const host = "127.0.0.1";

/** Starts a server. */
export async function startQuestionServer(question: Question): Promise<QuestionServer> {
  const folder = await Deno.makeTempDir({ prefix: "question-server-" });
  await makeKey(`${folder}/host`, "ed25519");
  const counts = { connected: 0, asked: 0, admitted: 0 };
  const sockets = new Set<Socket>();
  const ssh = new ssh2.Server({
    hostKeys: [await Deno.readTextFile(`${folder}/host`)],
    algorithms: serverAlgorithms().forSsh2,
  });
  ssh.on("connection", (connection) => {
    // A connection that breaks is closed by ssh2, and that is all that has to be done.
    connection.on("error", () => {});
    connection.on("authentication", (context) => {
      if (context.method !== "keyboard-interactive") {
        return context.reject(["keyboard-interactive"]);
      }
      counts.asked++;
      const { prompt, answer } = server.question;
      context.prompt([{ prompt, echo: false }], ([given]) => {
        if (given !== answer) return context.reject(["keyboard-interactive"]);
        counts.admitted++;
        context.accept();
      });
    });
    connection.on("session", (accept) => serveSession(accept()));
  });
  const listener = createServer({ noDelay: true }, (socket) => {
    counts.connected++;
    if (server.isAway) return void socket.resetAndDestroy();
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    ssh.injectSocket(socket);
  });
  await new Promise<void>((resolve) => listener.listen(0, host, resolve));
  const { port } = listener.address() as AddressInfo;
  const publicKey = await Deno.readTextFile(`${folder}/host.pub`);
  await Deno.writeTextFile(`${folder}/known_hosts`, `[${host}]:${port} ${publicKey}`);

  const server: QuestionServer = {
    host,
    port,
    knownHostsFile: `${folder}/known_hosts`,
    question,
    isAway: false,
    counts,
    cutAll() {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => listener.close(resolve));
      await Deno.remove(folder, { recursive: true });
    },
  };
  return server;
}

/** `wait` says that it runs and stays; every other command ends at once. */
function serveSession(session: ssh2Types.Session): void {
  session.on("env", (accept) => accept?.());
  session.on("exec", (accept, _reject, { command }) => {
    const channel = accept();
    channel.write(command === "wait" ? "waiting\n" : "done\n");
    if (command === "wait") return;
    channel.exit(0);
    channel.end();
  });
}
