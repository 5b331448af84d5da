/** The program of `--resume` without sshd: carriers are processes, and the "sshd" a service. */

import { type ByteConnection, StreamConnection } from "../../lib/byte_connection.ts";
import { ask, type Carrier, type CarrierRequest } from "../../lib/carrier.ts";
import { ResumeStream } from "../../lib/resume_stream.ts";
import { type programs, resumeCommand } from "../../lib/resume_programs.ts";
import { runChecked } from "./run.ts";

/** A language in which the program is written. */
export type Language = keyof typeof programs;

/** Where the program runs. Leaving its scope removes the folder. */
export interface ResumeHost extends AsyncDisposable {
  /** The folder of the sockets. */
  readonly sockets: string;
  /** Runs the program, or another command, in a shell and asks it. */
  open(
    request: CarrierRequest,
    options?: { shell?: string[]; command?: string },
  ): Promise<ProcessCarrier>;
}

/** A carrier that is a process. */
export interface ProcessCarrier extends Carrier {
  /** Ends the process without a word, and waits for it. */
  cut(): Promise<void>;
}

/** A host that has one language alone, whose sshd is at a port of loopback. */
export async function makeResumeHost(
  language: Language,
  port: number,
): Promise<ResumeHost> {
  const folder = await Deno.makeTempDir({ prefix: "resume-" });
  await Deno.mkdir(`${folder}/bin`);
  await Deno.mkdir(`${folder}/run`, { mode: 0o700 });
  const wanted = language === "perl" ? ["perl"] : ["python3"];
  for (const name of ["sh", ...wanted]) {
    const [path] = (await runChecked(["which", "-a", name])).split("\n")
      .filter((path) => !path.includes("shims"));
    await Deno.symlink(path!, `${folder}/bin/${name}`);
  }
  const env = {
    PATH: `${folder}/bin`,
    XDG_RUNTIME_DIR: `${folder}/run`,
    LC_ALL: "C",
    SSH_CONNECTION: `127.0.0.1 1 127.0.0.1 ${port}`,
  };
  return {
    sockets: `${folder}/run/sshshim-resume`,
    open: async (request, { shell = ["/bin/sh"], command = resumeCommand() } = {}) => {
      const [program, ...args] = shell;
      const child = new Deno.Command(program!, {
        args: [...args, "-c", command],
        env,
        clearEnv: true,
        stdin: "piped",
        stdout: "piped",
        stderr: "inherit",
      }).spawn();
      const end = () => {
        try {
          child.kill("SIGKILL");
        } catch {
          // It has ended.
        }
      };
      const { readable, writable } = { readable: child.stdout, writable: child.stdin };
      const connection: ByteConnection = new StreamConnection({ readable, writable, onClose: end });
      const cut = async () => {
        connection.close();
        await child.status;
      };
      try {
        const answer = await ask(connection, request);
        return { connection: taking(connection), answer, reason: undefined, probe() {}, cut };
      } catch (error) {
        await cut();
        throw error;
      }
    },
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

/** A connection whose bytes are the reader's own. */
export function taking(connection: ByteConnection): Carrier["connection"] {
  return {
    write: (data) => connection.write(data),
    close: () => connection.close(),
    async take() {
      const buffer = new Uint8Array(65_536);
      const count = await connection.read(buffer);
      return count === null ? null : buffer.subarray(0, count);
    },
  };
}

/** 128 bits, of which all are alike. */
export const token = "0123456789abcdef".repeat(2);

/** A name for a socket. */
export function newName(): string {
  return crypto.randomUUID().replaceAll("-", "");
}

/** A stream over carriers of that host; `carriers` has all of them, the last one last. */
export async function openStream(
  host: ResumeHost,
  { seconds = 60, shell }: { seconds?: number; shell?: string[] } = {},
): Promise<{ stream: ResumeStream; path: string; carriers: ProcessCarrier[] }> {
  const first = await host.open({ kind: "new", name: newName(), token, seconds }, { shell });
  const carriers = [first];
  const { path } = first.answer;
  const stream = new ResumeStream(first, {
    ...{ name: "host", resumeForMs: seconds * 1000, backoff: { next: () => 1, reset() {} } },
    attach: async (has) => {
      const carrier = await host.open({ kind: "attach", path, token, has }, { shell });
      carriers.push(carrier);
      return carrier;
    },
  });
  return { stream, path, carriers };
}
