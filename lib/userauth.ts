/**
 * The client's side of authentication (RFC 4252, 4256, 8332), in the order that ssh has.
 *
 * ssh2's own knows neither certificates nor hardware keys nor chains of methods, so it is only told
 * when authentication has succeeded; the requests are made here. Each key is offered once, without
 * a signature first, so that nobody is asked for a passphrase or a touch in vain.
 */

import { AuthenticationError, NobodyToAskError } from "./errors.ts";
import { readExtInfo } from "./ext_info.ts";
import { keyTypeOf } from "./public_key.ts";
import type { SessionBinding, Signer } from "./signer.ts";
import {
  buildMessage,
  displayText,
  encodeFields,
  type Field,
  Reader,
  utf8String,
} from "./ssh_data.ts";
import { chooseAlgorithm } from "./userauth_algorithm.ts";
import { userauthFailure, userauthRequest } from "./userauth_messages.ts";

/** Messages of keyboard-interactive (RFC 4256, section 5). */
const userauthInfoRequest = 60;
const userauthInfoResponse = 61;

/** What a server asks in one authentication; a round without a question counts as one. */
const mostQuestions = 100;

/** Methods in ssh's order of preference, as far as we have them. */
export const defaultMethods = ["publickey", "keyboard-interactive", "password"] as const;

/** One of the methods. */
export type Method = typeof defaultMethods[number];

/** A key that can be offered. */
export interface KeyCandidate {
  /** For messages: the file, or the agent's comment. */
  readonly name: string;
  /** The blob to offer; unknown for some encrypted files until they are unlocked. */
  readonly publicKey: Uint8Array | undefined;
  /** Signature algorithms, best first; empty while the public key is unknown. */
  readonly algorithms: readonly string[];
  /** Makes it able to sign, asking for a passphrase if need be; `undefined` to go without it. */
  unlock(): Promise<Signer | undefined>;
}

/** What a server asks by keyboard-interactive. */
export interface InfoRequest {
  name: string;
  instruction: string;
  prompts: readonly { text: string; echo: boolean }[];
}

/** Where keys, passwords and answers come from. */
export interface CredentialSource {
  /**
   * The keys to offer, in order.
   *
   * @param session asked once the first of them is.
   */
  keys(session: () => SessionBinding): AsyncIterable<KeyCandidate>;
  /** Whether keys sign for the host as well as for the session, where the server knows how. */
  readonly bindsToHost: boolean;
  /** How often a server may begin to ask; it may have nothing to ask, and yet refuse. */
  readonly numberOfPasswordPrompts: number;
  /** The password of an attempt, counted from 0; `undefined` when there is none to try. */
  password(attempt: number): Promise<string | undefined>;
  /** Answers to questions; `undefined` when nobody can answer. */
  answer(request: InfoRequest): Promise<string[] | undefined>;
  /** A new password, where the server wants it changed; `undefined` when nobody can give one. */
  newPassword(prompt: string): Promise<string | undefined>;
}

/** What an authentication needs. */
export interface UserAuthOptions {
  /** For messages: `user@host:port`. */
  name: string;
  /** Whether it is on the way to another host: of the options only `-F` counts for it. */
  isJump: boolean;
  username: string;
  /** In the order of preference: at first, and once the server has accepted one and wants more. */
  methods: { first: readonly Method[]; afterwards: readonly Method[] };
  source: CredentialSource;
  /** Sends a message to the server. */
  send(payload: Uint8Array): void;
  /** What signatures are bound to, and the host with it. */
  session(): SessionBinding;
  /** What the server says it is, such as `OpenSSH_9.2`; known when authentication begins. */
  serverVersion(): string;
  /** Words to the user, such as that a key wants to be touched. */
  notify(text: string): void;
  /** Whether the server is waited for, rather than a person. */
  onWait(isWaiting: boolean): void;
}

/** SSH_MSG_USERAUTH_FAILURE. */
interface Failure {
  methods: string[];
  isPartial: boolean;
}

/** Authenticates one connection. */
export class UserAuth {
  readonly #options: UserAuthOptions;
  readonly #keys: AsyncIterator<KeyCandidate>;
  readonly #tried: string[] = [];
  readonly #exhausted = new Set<Method>();
  /** How often keyboard-interactive was begun, whatever came of it. */
  #questionings = 0;
  #questionCount = 0;
  /** What was last told of a server that asks nothing. */
  #told = "";
  /** The first question that nobody was there for. */
  #unasked: NobodyToAskError | undefined;
  /** `server-sig-algs`. */
  #listed: string[] | undefined;
  /** Whether the server takes signatures that name its host key. */
  #takesHostBound = false;
  #onMessage: ((payload: Uint8Array) => void) | undefined;

  constructor(options: UserAuthOptions) {
    this.#options = options;
    this.#keys = options.source.keys(() => options.session())[Symbol.asyncIterator]();
  }

  /** Gives nothing away that somebody in between could use: keys sign for this connection only. */
  keepSecrets(): void {
    this.#exhausted.add("password").add("keyboard-interactive");
  }

  /** Takes what the server says in SSH_MSG_EXT_INFO (RFC 8308). */
  receiveExtensions(payload: Uint8Array): void {
    const extensions = readExtInfo(payload);
    const textOf = (name: string) => {
      const value = extensions.get(name);
      return value && new TextDecoder().decode(value);
    };
    const listed = textOf("server-sig-algs");
    if (listed) this.#listed = listed.split(",");
    if (textOf("publickey-hostbound@openssh.com") === "0") this.#takesHostBound = true;
  }

  /**
   * Takes an answer of the server.
   *
   * @returns whether it answers anything.
   */
  receive(payload: Uint8Array): boolean {
    const onMessage = this.#onMessage;
    if (onMessage === undefined) return false;
    this.#onMessage = undefined;
    this.#options.onWait(false);
    onMessage(payload);
    return true;
  }

  /**
   * Tries what there is to try; the server's success, which is not seen here, ends it in the middle.
   *
   * @throws {AuthenticationError} when nothing is left.
   * @throws {NobodyToAskError} when nothing is left, and a person might have known more.
   */
  async run(): Promise<never> {
    const { first, afterwards } = this.#options.methods;
    let failure = readFailure(await this.#request("none"));
    let methods = first;
    while (true) {
      if (failure.isPartial) methods = afterwards;
      const method = methods.find((it) => failure.methods.includes(it) && !this.#exhausted.has(it));
      if (method === undefined) throw this.#unasked ?? this.#refusal(failure);
      failure = await this.#try(method) ?? failure;
    }
  }

  /** Runs one method until it fails or makes progress; `undefined` if it had nothing to offer. */
  #try(method: Method): Promise<Failure | undefined> {
    switch (method) {
      case "publickey":
        return this.#tryKeys();
      case "keyboard-interactive":
        return this.#tryAnswers();
      case "password":
        return this.#tryPasswords();
    }
  }

  async #tryKeys(): Promise<Failure | undefined> {
    let failure: Failure | undefined;
    while (true) {
      const { value: candidate, done } = await this.#keys.next();
      if (done) {
        this.#exhausted.add("publickey");
        return failure;
      }
      failure = await this.#tryKey(candidate) ?? failure;
      if (failure?.isPartial || failure?.methods.includes("publickey") === false) return failure;
    }
  }

  async #tryKey(candidate: KeyCandidate): Promise<Failure | undefined> {
    let signer: Signer | undefined;
    if (candidate.publicKey === undefined) {
      signer = await this.#ifPossible(() => candidate.unlock());
      if (signer === undefined) return undefined;
    }
    const publicKey = signer?.publicKey ?? candidate.publicKey;
    const algorithms = signer?.algorithms ?? candidate.algorithms;
    const server = { version: this.#options.serverVersion(), listed: this.#listed };
    const algorithm = publicKey && chooseAlgorithm(keyTypeOf(publicKey), algorithms, server);
    if (publicKey === undefined || algorithm === undefined) {
      this.#tried.push(`${candidate.name} (no signature algorithm that the server accepts)`);
      return undefined;
    }
    this.#tried.push(candidate.name);
    const answer = await this.#request("publickey", false, algorithm, publicKey);
    if (answer[0] === userauthFailure) return readFailure(answer);

    const unlocked = signer ?? await this.#ifPossible(() => candidate.unlock());
    if (unlocked === undefined) return undefined;
    if (unlocked.needsTouch) this.#options.notify(`Touch your security key (${unlocked.name}).`);
    const { sessionId, hostKey } = this.#options.session();
    // OpenSSH's PROTOCOL, section 3.1: an agent may want to know for which host it signs.
    const isHostBound = this.#takesHostBound && this.#options.source.bindsToHost;
    const method = isHostBound ? "publickey-hostbound-v00@openssh.com" : "publickey";
    const fields: Field[] = [true, algorithm, publicKey, ...(isHostBound ? [hostKey] : [])];
    const signed = encodeFields(sessionId, { raw: this.#build(method, ...fields) });
    const signature = await this.#ifPossible(() => unlocked.sign(signed, algorithm));
    if (signature === undefined) return undefined;
    return readFailure(await this.#request(method, ...fields, signature));
  }

  async #tryAnswers(): Promise<Failure | undefined> {
    const method = "keyboard-interactive";
    let failure: Failure | undefined;
    while (!failure?.isPartial) {
      if (this.#questionings++ >= this.#options.source.numberOfPasswordPrompts) {
        this.#exhausted.add(method);
        return failure;
      }
      let message = await this.#request(method, "", "");
      if (message[0] === userauthFailure) {
        this.#exhausted.add(method);
        return readFailure(message);
      }
      while (message[0] === userauthInfoRequest) {
        const request = readInfoRequest(message);
        this.#count(request);
        const answers = request.prompts.length === 0
          ? this.#tell(request)
          : await this.#ifPossible(() => this.#options.source.answer(request));
        if (answers === undefined) {
          this.#exhausted.add(method);
          return failure;
        }
        this.#noteTried(method);
        const responses = answers.map((answer) => utf8String(answer));
        message = await this.#exchange(
          buildMessage(userauthInfoResponse, responses.length, ...responses),
        );
      }
      failure = readFailure(message);
      if (!failure.methods.includes(method)) return failure;
    }
    return failure;
  }

  /** ssh would go on for ever; here nobody may be there to end it. */
  #count({ prompts }: InfoRequest): void {
    this.#questionCount += Math.max(1, prompts.length);
    if (this.#questionCount <= mostQuestions) return;
    throw new AuthenticationError(
      `${this.#options.name} asks on and on: more than ${mostQuestions} questions, and no verdict. ` +
        `Look into the host's log.`,
    );
  }

  /** Servers that ask nothing may have something to say, such as to look at one's telephone. */
  #tell({ name, instruction }: InfoRequest): string[] {
    const words = [name, instruction].filter(Boolean).join(": ");
    if (words && words !== this.#told) this.#options.notify(`${this.#options.name} says: ${words}`);
    this.#told = words;
    return [];
  }

  async #tryPasswords(): Promise<Failure | undefined> {
    let failure: Failure | undefined;
    for (let attempt = 0; !failure?.isPartial; attempt++) {
      const password = await this.#ifPossible(() => this.#options.source.password(attempt));
      if (password === undefined) {
        this.#exhausted.add("password");
        return failure;
      }
      this.#noteTried("password");
      let message = await this.#request("password", false, utf8String(password));
      if (message[0] !== userauthFailure) {
        const prompt = displayText(new Reader(message, 1).text());
        const changed = await this.#ifPossible(() => this.#options.source.newPassword(prompt));
        if (changed === undefined) {
          this.#exhausted.add("password");
          return failure;
        }
        const passwords = [password, changed].map(utf8String);
        message = await this.#request("password", true, ...passwords);
      }
      failure = readFailure(message);
      if (!failure.methods.includes("password")) return failure;
    }
    return failure;
  }

  /** As with ssh, what cannot be had is gone without: another key or method may do. */
  async #ifPossible<T>(action: () => Promise<T | undefined>): Promise<T | undefined> {
    try {
      return await action();
    } catch (error) {
      if (error instanceof NobodyToAskError) this.#unasked ??= error;
      else if (error instanceof AuthenticationError) this.#options.notify(error.message);
      else throw error;
      return undefined;
    }
  }

  #noteTried(method: Method): void {
    if (!this.#tried.includes(method)) this.#tried.push(method);
  }

  #build(...fields: Field[]): Uint8Array {
    const { username } = this.#options;
    return buildMessage(userauthRequest, utf8String(username), "ssh-connection", ...fields);
  }

  #request(method: string, ...fields: Field[]): Promise<Uint8Array> {
    return this.#exchange(this.#build(method, ...fields));
  }

  /** Sends a message and takes the next one of the server. */
  #exchange(payload: Uint8Array): Promise<Uint8Array> {
    const { promise, resolve } = Promise.withResolvers<Uint8Array>();
    this.#onMessage = resolve;
    this.#options.onWait(true);
    this.#options.send(payload);
    return promise;
  }

  #refusal({ methods, isPartial }: Failure): AuthenticationError {
    const { name, isJump } = this.#options;
    const tried = this.#tried.length > 0 ? `Tried: ${this.#tried.join(", ")}` : "Nothing to try";
    const wanted = methods.join(", ") || "nothing";
    const state = isPartial ? `accepted that but still wants: ${wanted}` : `accepts: ${wanted}`;
    const isPassword = this.#tried.length > 0 &&
      this.#tried.every((it) => it === "password" || it === "keyboard-interactive");
    const advice = isPassword
      ? "Check the user name, the password, and whatever else the server asks for."
      : `Check the user name, and name another key with ${
        isJump ? "IdentityFile in ssh's configuration" : "-i FILE"
      } or let ssh-agent have it.`;
    return new AuthenticationError(
      `${name} refused authentication. ${tried}; the server ${state}. ${advice}`,
    );
  }
}

function readFailure(payload: Uint8Array): Failure {
  const reader = new Reader(payload, 1);
  return { methods: reader.text().split(",").filter(Boolean), isPartial: reader.boolean() };
}

function readInfoRequest(payload: Uint8Array): InfoRequest {
  const reader = new Reader(payload, 1);
  const name = displayText(reader.text());
  const instruction = displayText(reader.text());
  reader.text(); // The language tag, deprecated by RFC 4256.
  const prompts: { text: string; echo: boolean }[] = [];
  for (let left = reader.uint32(); left > 0; left--) {
    prompts.push({ text: displayText(reader.text()), echo: reader.boolean() });
  }
  return { name, instruction, prompts };
}
