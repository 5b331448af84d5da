/**
 * A client of SSH agents (draft-ietf-sshm-ssh-agent), over a unix socket or a pipe of Windows.
 *
 * Keys and certificates pass as they are, whatever their type: the agent knows what it signs with.
 */

import { type ByteConnection, connectByNode } from "./byte_connection.ts";
import { AuthenticationError, MalformedDataError, reasonOf } from "./errors.ts";
import { algorithmsFor, isSecurityKeyName, keyTypeOf, plainName } from "./public_key.ts";
import { requireAlgorithm, type SessionBinding, type Signer } from "./signer.ts";
import { buildMessage, concatenate, encodeFields, Reader } from "./ssh_data.ts";

/** The agent cannot be reached, or it does not do what it was asked for. */
export class AgentError extends AuthenticationError {
  override name = "AgentError";
}

/** Where agents listen on Windows unless they are told otherwise. */
export const windowsAgentPipe = "\\\\.\\pipe\\openssh-ssh-agent";

/** How an agent is reached. */
export interface AgentOptions {
  /** A unix socket or a named pipe; without it, what agents use on this system. */
  transport?: "unix" | "pipe";
}

/** How long the list of keys may take, in milliseconds. */
const listDeadlineMs = 20_000;
/**
 * How long a signature may take, in milliseconds, except with a security key, which waits for a
 * person. Some agents ask before they sign. A server waits for two minutes by default
 * (LoginGraceTime), so that a later answer would be for nothing.
 */
const signDeadlineMs = 120_000;

/** OpenSSH's own limit for a message. */
const maximumMessageBytes = 256 * 1024;

const utf8 = new TextDecoder();

const MessageType = {
  requestIdentities: 11,
  identitiesAnswer: 12,
  signRequest: 13,
  signResponse: 14,
  success: 6,
  extension: 27,
} as const;

/** Flags of a signature request, without which an RSA key signs with SHA-1. */
const signatureFlags: Record<string, number> = { "rsa-sha2-256": 2, "rsa-sha2-512": 4 };

/**
 * Connects to the agent at a path, such as that of SSH_AUTH_SOCK.
 *
 * @throws {AgentError} where there is no agent.
 */
export async function connectAgent(path: string, options: AgentOptions = {}): Promise<Agent> {
  const transport = options.transport ?? (Deno.build.os === "windows" ? "pipe" : "unix");
  try {
    const connection = transport === "pipe"
      ? await connectByNode(path)
      : await Deno.connect({ transport, path });
    return new Agent(path, connection);
  } catch (cause) {
    throw new AgentError(
      `The SSH agent at ${path} cannot be reached: ${reasonOf(cause)}. ` +
        `Start it, or correct SSH_AUTH_SOCK or IdentityAgent.`,
      { cause },
    );
  }
}

/** One connection to an agent; whoever connected closes it. */
export class Agent {
  /** Where it listens. */
  readonly path: string;
  readonly #connection: ByteConnection;
  readonly #buffer = new Uint8Array(16 * 1024);
  /** What has arrived and was not asked for yet. */
  #received: Uint8Array = new Uint8Array();
  /** Settles when the requests made so far are done. */
  #idle: Promise<unknown> = Promise.resolve();
  /** Why nothing more can be asked. */
  #end: AgentError | undefined;

  constructor(path: string, connection: ByteConnection) {
    this.path = path;
    this.#connection = connection;
  }

  /**
   * Tells the agent which host the session is with (`session-bind@openssh.com`, PROTOCOL.agent in
   * OpenSSH's sources): it signs with keys that are bound to hosts (`ssh-add -h`) only then.
   *
   * @returns false where it does not know that, or does not believe it
   * @throws {AgentError} when it does not answer.
   */
  async bind({ hostKey, sessionId, signature }: SessionBinding): Promise<boolean> {
    const isForwarding = false;
    const fields = ["session-bind@openssh.com", hostKey, sessionId, signature, isForwarding];
    const request = buildMessage(MessageType.extension, ...fields);
    const options = { action: "bind the session to its host", deadlineMs: listDeadlineMs };
    return (await this.#request(request, options))[0] === MessageType.success;
  }

  /**
   * The keys and certificates that the agent has, in its order.
   *
   * @throws {AgentError} when it does not answer, or not with a list.
   */
  async identities(): Promise<Signer[]> {
    const request = buildMessage(MessageType.requestIdentities);
    const options = { action: "list its keys", deadlineMs: listDeadlineMs };
    const answer = await this.#request(request, options);
    if (answer[0] !== MessageType.identitiesAnswer) throw this.#refusal("list its keys");
    return this.#parse(() => {
      const reader = new Reader(answer, 1);
      const signers: Signer[] = [];
      for (let left = reader.uint32(); left > 0; left--) {
        const publicKey = new Uint8Array(reader.bytes());
        signers.push(this.#signer(publicKey, utf8.decode(reader.bytes())));
      }
      reader.end();
      return signers;
    });
  }

  /** Ends the connection; requests that are under way fail. May be called twice. */
  close(): void {
    this.#fail("sshshim has closed the connection");
  }

  #signer(publicKey: Uint8Array, comment: string): Signer {
    const type = keyTypeOf(publicKey);
    // A comment is anybody's text, and messages go to a terminal.
    const name = comment.replace(/\p{Cc}/gu, "?") || type;
    const signer: Signer = {
      ...{ name, publicKey, algorithms: algorithmsFor(type), isOurs: false },
      needsTouch: isSecurityKeyName(type),
      sign: (data, algorithm) => this.#sign(signer, data, algorithm),
    };
    return signer;
  }

  async #sign(signer: Signer, data: Uint8Array, algorithm: string): Promise<Uint8Array> {
    requireAlgorithm(signer, algorithm);
    const signatureName = plainName(algorithm);
    const flags = signatureFlags[signatureName] ?? 0;
    const request = buildMessage(MessageType.signRequest, signer.publicKey, data, flags);
    const action = `sign with the key "${signer.name}"`;
    const deadlineMs = signer.needsTouch ? undefined : signDeadlineMs;
    const answer = await this.#request(request, { action, deadlineMs });
    if (answer[0] !== MessageType.signResponse) throw this.#refusal(action);
    const signature = this.#parse(() => {
      const reader = new Reader(answer, 1);
      const signature = reader.bytes();
      reader.end();
      return new Uint8Array(signature);
    });
    const name = this.#parse(() => keyTypeOf(signature));
    if (name !== signatureName && signatureName.startsWith("rsa-")) {
      throw new AgentError(
        `The SSH agent at ${this.path} signs with ${name}, not with ${signatureName}. ` +
          `It is too old for the key "${signer.name}"; name the key's file with -i.`,
      );
    }
    return signature;
  }

  /** Sends a request when those before it are done, and resolves with the answer. */
  #request(request: Uint8Array, options: RequestOptions): Promise<Uint8Array> {
    const answer = this.#idle.then(() => this.#exchange(request, options));
    this.#idle = answer.catch(() => {});
    return answer;
  }

  async #exchange(request: Uint8Array, options: RequestOptions): Promise<Uint8Array> {
    const { action, deadlineMs } = options;
    if (this.#end !== undefined) throw this.#end;
    if (request.length > maximumMessageBytes) {
      throw new AgentError(
        `What the SSH agent at ${this.path} should sign is too long for it. ` +
          `Name the key's file with -i.`,
      );
    }
    const timer = deadlineMs === undefined ? undefined : setTimeout(
      () => this.#fail(`it did not ${action} within ${deadlineMs / 1000} s`),
      deadlineMs,
    );
    try {
      const bytes = encodeFields(request);
      for (let at = 0; at < bytes.length;) at += await this.#connection.write(bytes.subarray(at));
      return await this.#readMessage();
    } catch (error) {
      throw this.#fail(reasonOf(error));
    } finally {
      clearTimeout(timer);
    }
  }

  async #readMessage(): Promise<Uint8Array> {
    const length = new Reader(await this.#readBytes(4)).uint32();
    if (length < 1 || length > maximumMessageBytes) {
      throw new Error(`it announces a message of ${length} bytes`);
    }
    const message = await this.#readBytes(length);
    // Nothing comes from an agent unasked, and the next answer would not be found again.
    if (this.#received.length > 0) throw new Error("it answers more than it was asked");
    return message;
  }

  async #readBytes(length: number): Promise<Uint8Array> {
    while (this.#received.length < length) {
      const count = await this.#connection.read(this.#buffer);
      if (count === null) throw new Error("it has closed the connection");
      this.#received = concatenate([this.#received, this.#buffer.subarray(0, count)]);
    }
    const bytes = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return bytes;
  }

  #parse<T>(parse: () => T): T {
    try {
      return parse();
    } catch (error) {
      if (error instanceof MalformedDataError) throw this.#fail("its answer is malformed");
      throw error;
    }
  }

  /** Ends the connection for a reason; the first one stays. */
  #fail(reason: string): AgentError {
    if (this.#end === undefined) {
      this.#end = new AgentError(
        `The SSH agent at ${this.path} does not work: ${reason}. ` +
          `See whether "ssh-add -l" works, or name the key's file with -i.`,
      );
      this.#connection.close();
    }
    return this.#end;
  }

  #refusal(action: string): AgentError {
    return new AgentError(
      `The SSH agent at ${this.path} refused to ${action}. ` +
        `It may be locked, or a question of its own was answered with no.`,
    );
  }
}

interface RequestOptions {
  /** What the agent shall do, for messages. */
  action: string;
  deadlineMs: number | undefined;
}
