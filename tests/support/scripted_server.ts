/**
 * An SSH server that asks what a test tells it to ask: passwords, questions in several rounds, a
 * new password, and chains of them. What a real sshd asks is up to the accounts of the machine.
 */

import { Buffer } from "node:buffer";
import { ssh2 } from "../../lib/ssh2.ts";
import { serverAlgorithms } from "../../lib/ssh2_algorithms.ts";
import { fingerprint } from "../../lib/public_key.ts";
import { ByteSocket } from "../../lib/ssh2_socket.ts";
import { makeKey } from "./sshd.ts";
import { makePeer } from "./ssh2_peer.ts";

/** Questions that are asked at once, and the answers that are right. */
export interface Round {
  name?: string;
  instruction?: string;
  prompts: { prompt: string; echo: boolean }[];
  answers: string[];
}

/** What a client has to prove. */
export type Step =
  | { method: "password"; password: string; change?: { prompt: string; password: string } }
  | { method: "keyboard-interactive"; rounds: Round[] }
  /** A key in the wire format of RFC 4253, section 6.6. */
  | { method: "publickey"; key: Uint8Array }
  /** Questions are begun, and this message is sent in their place. */
  | { method: "raw"; message: Uint8Array };

/** A running server. Leaving its scope ends it and its connections. */
export interface ScriptedServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  readonly username: string;
  /** Holds the server's host key. */
  readonly knownHostsFile: string;
  /**
   * What clients have tried, in order: such as `none`, `offered:SHA256:…`, `signed:SHA256:…`,
   * `password:…`, `change:…`, `answers:…,…`.
   */
  readonly attempts: string[];
  readonly connectionCount: number;
  /** Ends the connections that there are. */
  dropConnections(): void;
}

const host = "127.0.0.1";

/**
 * Starts a server that wants one step after the other. A command that is run there prints its own
 * text and exits with 0.
 *
 * @param steps of several steps in one place each is enough
 */
export async function startScriptedServer(
  ...steps: (Step | Step[])[]
): Promise<ScriptedServer> {
  const folder = await Deno.makeTempDir({ prefix: "scripted-server-" });
  await makeKey(`${folder}/host`, "ed25519");
  const attempts: string[] = [];
  const algorithms = serverAlgorithms();
  const server = new ssh2.Server({
    hostKeys: [await Deno.readTextFile(`${folder}/host`)],
    algorithms: algorithms.forSsh2,
  }, (connection) => {
    connection.on("error", () => {});
    const left = steps.map((step) => [step].flat());
    const transport = makePeer(connection, algorithms);
    connection.on("authentication", (context) => {
      new Attempt(context, {
        left,
        note: (attempt) => attempts.push(attempt),
        send: (message) => transport.send(message),
      }).judge();
    });
    connection.on("session", (accept) => {
      accept().on("exec", (acceptExec, _reject, { command }) => {
        const channel = acceptExec();
        channel.write(command);
        channel.exit(0);
        channel.end();
      });
    });
  });
  let connectionCount = 0;
  const sockets = new Set<ByteSocket>();
  const dropConnections = () => sockets.forEach((socket) => socket.destroy());
  const listener = Deno.listen({ hostname: host, port: 0 });
  const { port } = listener.addr;
  const accepting = (async () => {
    for await (const connection of listener) {
      connectionCount++;
      connection.setNoDelay(true);
      const socket = new ByteSocket(connection, { role: "server", remote: connection.remoteAddr });
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      server.injectSocket(socket as never);
    }
  })();
  const publicKey = await Deno.readTextFile(`${folder}/host.pub`);
  await Deno.writeTextFile(`${folder}/known_hosts`, `[${host}]:${port} ${publicKey}`);
  return {
    host,
    port,
    username: "jane",
    knownHostsFile: `${folder}/known_hosts`,
    attempts,
    get connectionCount() {
      return connectionCount;
    },
    dropConnections,
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting;
      dropConnections();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

/** A client's request to authenticate. */
class Attempt {
  readonly #context: ssh2.AuthContext;
  readonly #left: Step[][];
  readonly #note: (attempt: string) => void;
  readonly #send: (message: Uint8Array) => void;

  constructor(
    context: ssh2.AuthContext,
    { left, note, send }: {
      left: Step[][];
      note: (attempt: string) => void;
      send: (message: Uint8Array) => void;
    },
  ) {
    this.#context = context;
    this.#left = left;
    this.#note = note;
    this.#send = send;
  }

  /** Answers it. */
  judge(): void {
    const context = this.#context;
    const step = this.#left[0]?.find(({ method }) => named(method) === context.method);
    if (context.method === "password" && step?.method === "password") {
      this.#judgePassword(context, step);
    } else if (context.method === "keyboard-interactive" && step?.method === context.method) {
      this.#ask(context, step.rounds);
    } else if (context.method === "publickey" && step?.method === "publickey") {
      this.#judgeKey(context, step.key);
    } else if (step?.method === "raw") {
      this.#send(step.message);
    } else {
      this.#note(context.method);
      this.#refuse();
    }
  }

  #judgePassword(
    context: ssh2.PasswordAuthContext,
    { password, change }: Step & { method: "password" },
  ): void {
    this.#note(`password:${context.password}`);
    if (context.password !== password) return this.#refuse();
    if (change === undefined) return this.#accept();
    context.requestChange(change.prompt, (changed: string) => {
      this.#note(`change:${changed}`);
      if (changed === change.password) this.#accept();
      else this.#refuse();
    });
  }

  #ask(context: ssh2.KeyboardAuthContext, [round, ...later]: Round[]): void {
    if (round === undefined) return this.#accept();
    const { prompts, answers, name = "", instruction = "" } = round;
    context.prompt(prompts, name, instruction, (given) => {
      // An error takes their place where the client has turned to something else.
      if (!Array.isArray(given)) return this.#note("answers:none");
      this.#note(`answers:${given.join(",")}`);
      if (given.join("\n") === answers.join("\n")) this.#ask(context, later);
      else this.#refuse();
    });
  }

  #judgeKey(context: ssh2.PublicKeyAuthContext, wanted: Uint8Array): void {
    const { key, blob, signature, hashAlgo } = context;
    const word = signature === undefined ? "offered" : "signed";
    this.#note(`${word}:${fingerprint(key.data)}`);
    if (!Buffer.from(wanted).equals(key.data)) return this.#refuse();
    if (signature === undefined || blob === undefined) return context.accept();
    const parsed = ssh2.utils.parseKey(`${key.algo} ${key.data.toString("base64")}`);
    const isRight = !(parsed instanceof Error) &&
      parsed.verify(blob, signature, hashAlgo as string) === true;
    if (isRight) this.#accept();
    else this.#refuse();
  }

  #accept(): void {
    this.#left.shift();
    if (this.#left.length === 0) this.#context.accept();
    else this.#context.reject(this.#methods(), true);
  }

  #refuse(): void {
    this.#context.reject(this.#methods());
  }

  #methods(): ssh2.AuthenticationType[] {
    return this.#left[0]?.map(({ method }) => named(method)) ?? [];
  }
}

/** The method that clients know the step by. */
function named(method: Step["method"]): ssh2.AuthenticationType {
  return method === "raw" ? "keyboard-interactive" : method;
}
