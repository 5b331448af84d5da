/**
 * A carrier: a connection to the host whose one channel runs the program that keeps another
 * connection (`resume_programs.ts`), from its log-in to the answer of that program.
 */

import type { ByteConnection } from "./byte_connection.ts";
import type { ConnectionHandlers, Connects } from "./connector.ts";
import {
  ChannelOpenFailureReason,
  messageOf,
  NobodyToAskError,
  UpstreamLostError,
} from "./errors.ts";
import type { Session } from "./handshake.ts";
import { ChannelRefusedError, JumpChannel } from "./jump_channel.ts";
import { Liveness, type LivenessOptions } from "./liveness.ts";
import { greeting, resumeCommand } from "./resume_programs.ts";
import { shownText } from "./shown_text.ts";
import { unlessAborted } from "./timing.ts";
import type { StartableTransport } from "./transport.ts";

/** What the program is asked for: a connection that it is to keep, or one that it keeps. */
export type CarrierRequest =
  & { token: string }
  & (
    | { kind: "new"; name: string; seconds: number }
    | { kind: "attach"; path: string; has: number }
  );

/** The program's answer: how many bytes it has, and where it is found again. */
export interface CarrierAnswer {
  has: number;
  path: string;
}

/** What leads to the program, with frames from now on. */
export interface Carrier {
  connection: Pick<ByteConnection, "write" | "close"> & {
    /** The next bytes, which are the caller's; `null` at the end. */
    take(): Promise<Uint8Array | null>;
  };
  answer: CarrierAnswer;
  /** Why the connection is lost, once it is. */
  readonly reason: Error | undefined;
  /** Asks for a sign of life that has to come at once. */
  probe(): void;
}

/** How a connection is made a carrier. */
export interface CarrierOptions
  extends Pick<ConnectionHandlers, "signal" | "mayAsk" | "inquiry" | "isAttended"> {
  connector: Connects;
  keepalive: Pick<LivenessOptions, "intervalMs" | "count">;
  onSession(session: Session): void;
}

/** The host cannot keep a connection; `message` says why. */
export class CannotResumeError extends Error {
  override name = "CannotResumeError";
  /** Whether it may be otherwise with another connection. */
  readonly mayPass: boolean;

  constructor(message: string, { mayPass, cause }: { mayPass: boolean; cause?: unknown }) {
    super(message, { cause });
    this.mayPass = mayPass;
  }
}

/** The host does not keep the connection any more. */
export class NotKeptError extends Error {
  override name = "NotKeptError";
}

/** How long the host may take to run the program, and the program to answer, in milliseconds. */
const answerTimeoutMs = 30_000;

/** What may come before the program's first line, such as a startup file's words, in bytes. */
const longestNoise = 64 * 1024;

/**
 * Logs in, runs the program and asks it.
 *
 * @throws {CannotResumeError} where it does not run, or cannot keep a connection.
 * @throws {NotKeptError} where it does not have the one that is asked for.
 * @throws {NobodyToAskError} where the host has waited too long for an answer to `inquiry`.
 * @throws what the connector throws.
 */
export async function openCarrier(
  request: CarrierRequest,
  options: CarrierOptions,
): Promise<Carrier> {
  const { connector, keepalive, signal, mayAsk, inquiry, isAttended, onSession } = options;
  const ready = Promise.withResolvers<JumpChannel>();
  let carried: { channel: JumpChannel; transport: StartableTransport } | undefined;
  let liveness: Liveness | undefined;
  let reason: Error | undefined;
  const onLost = (error: Error) => {
    reason ??= error;
    liveness?.stop();
    carried?.channel.onLost(error);
  };
  const connecting = connector.connect({
    ...{ signal, mayAsk, inquiry, isAttended },
    onReady: (transport, session) => {
      const { onHostKeys } = session;
      const channel = new JumpChannel(transport, { command: resumeCommand(), onHostKeys });
      carried = { channel, transport };
      liveness = new Liveness({
        ...keepalive,
        lastByteAt: () => channel.isPaused ? performance.now() : transport.lastByteAt,
        isBusy: () => true,
        sendKeepalive: (onReply) => channel.sendKeepalive(onReply),
        onDead: (description) => {
          transport.abort();
          onLost(new UpstreamLostError(`${connector.name}: ${description}`));
        },
      });
      onSession(session);
      ready.resolve(channel);
    },
    onLost: (end) => onLost(end.reason),
  });
  await connecting.catch((error) => {
    // The host waits for nobody for ever.
    if (inquiry?.state !== "open" || !(error instanceof UpstreamLostError)) throw error;
    throw new NobodyToAskError(`Nobody has answered ${connector.name} in time.`, { cause: error });
  });
  const channel = await ready.promise;
  const close = () => {
    liveness?.stop();
    channel.close();
  };
  const deadline = AbortSignal.timeout(answerTimeoutMs);
  try {
    const asking = AbortSignal.any([signal, deadline]);
    await unlessAborted(channel.whenOpen, asking);
    const answer = await unlessAborted(ask(channel, request), asking);
    return {
      connection: {
        take: () => channel.take(),
        write: (data) => channel.write(data),
        close,
      },
      answer,
      get reason() {
        return reason;
      },
      probe: () => liveness?.probe(),
    };
  } catch (error) {
    close();
    if (signal.aborted) throw signal.reason;
    // Whatever else came of it, the network has ended it.
    if (reason !== undefined) throw reason;
    if (error instanceof ChannelRefusedError) {
      // A session that is refused may be one too many; a command that is, is not allowed.
      throw new CannotResumeError("it runs no commands on this connection", {
        mayPass: error.reasonCode !== ChannelOpenFailureReason.administrativelyProhibited,
        cause: error,
      });
    }
    if (deadline.aborted) {
      throw new CannotResumeError("the program that would do it has not answered within 30 s", {
        mayPass: false,
      });
    }
    if (error instanceof CannotResumeError || error instanceof NotKeptError) throw error;
    if (!(error instanceof NoProgramError)) {
      // It broke the protocol: another connection may do better.
      throw new UpstreamLostError(`${connector.name}: ${messageOf(error)}`, { cause: error });
    }
    const said = shownText((error.message || channel.errorText).trim(), 200);
    throw new CannotResumeError(
      `another program runs there instead of ours${said === "" ? "" : ` and says: ${said}`}`,
      // A shell that has no room for a process says so.
      { mayPass: /resource|memory|fork/i.test(said) },
    );
  }
}

/** The program's first line has not come; `message` is what has. */
class NoProgramError extends Error {}

/**
 * Asks the program, whose output is `connection`.
 *
 * @throws {CannotResumeError} where it cannot keep a connection.
 * @throws {NotKeptError} where it does not have the one that is asked for.
 */
export async function ask(
  connection: ByteConnection,
  request: CarrierRequest,
): Promise<CarrierAnswer> {
  let text = "";
  while (!text.startsWith(greeting)) {
    const [line, isWhole] = await readLine(connection, longestNoise - text.length);
    if (!isWhole) throw new NoProgramError(text + line);
    // A startup file's last words may have no end of a line.
    const at = line.indexOf(greeting);
    text = at < 0 ? `${text}${line}\n` : line.slice(at);
  }
  if (text === `${greeting}none`) {
    throw new CannotResumeError("it has neither perl 5.14 nor python 3.5, or newer ones", {
      mayPass: false,
    });
  }
  const { token } = request;
  const line = request.kind === "new"
    ? `new ${request.name} ${token} 0 ${request.seconds}\n`
    : `attach ${request.path} ${token} ${request.has}\n`;
  // Where it has ended already there is no answer either.
  await writeAll(connection, new TextEncoder().encode(line)).catch(() => {});
  const [answer] = await readLine(connection, 1024);
  const [, has, path] = answer.match(/^ok (\d{1,15}) (\/[-+.,_@%/A-Za-z0-9]{1,106})$/) ?? [];
  // Of a new one it has nothing.
  const mayHave = request.kind === "attach" || Number(has) === 0;
  if (has !== undefined && path !== undefined && mayHave) return { has: Number(has), path };
  const refusal = answer.match(/^no (\w+) ?(.*)$/);
  if (refusal !== null && refusal[1] !== "gone") {
    const text = refusalText(refusal[1]!, shownText(refusal[2]!, 200));
    throw new CannotResumeError(text, { mayPass: refusal[1] !== "address" });
  }
  if (request.kind === "new") {
    throw new CannotResumeError("the program there has ended too soon", { mayPass: true });
  }
  // A holder that says nothing does not take the token or the count.
  throw new NotKeptError("the host does not keep it any more");
}

function refusalText(word: string, words: string): string {
  switch (word) {
    case "address":
      return "sshd does not say there at which address it was reached (SSH_CONNECTION)";
    case "connect":
      return `sshd cannot be reached from the host itself: ${words}`;
    case "folder":
      return "it has no folder that is the user's alone for a socket";
    default:
      return `${word}: ${words}`;
  }
}

/** One line, byte by byte: what follows it is not read. @returns it, and whether it has its end. */
async function readLine(connection: ByteConnection, most: number): Promise<[string, boolean]> {
  const bytes: number[] = [];
  const buffer = new Uint8Array(1);
  while (bytes.length < most) {
    const count = await connection.read(buffer);
    if (count === null) break;
    if (buffer[0] === 10) return [new TextDecoder().decode(Uint8Array.from(bytes)), true];
    bytes.push(buffer[0]!);
  }
  return [new TextDecoder().decode(Uint8Array.from(bytes)), false];
}

/** Writes all of it. */
export async function writeAll(
  connection: Pick<ByteConnection, "write">,
  data: Uint8Array,
): Promise<void> {
  for (let sent = 0; sent < data.length;) sent += await connection.write(data.subarray(sent));
}
