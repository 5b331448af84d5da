/**
 * The client's side of authentication (RFC 4252, 4256, 8332), in the order that ssh has.
 *
 * ssh2's own knows neither certificates nor hardware keys nor chains of methods, so it is only told
 * when authentication has succeeded; the requests are made here. Each key is offered once, without
 * a signature first, so that nobody is asked for a passphrase or a touch in vain; what a former login
 * has shown is not asked again.
 */

import type { KnownKey, KnownLogin } from "./acquaintance.ts";
import type { KeyCandidate } from "./credential_source.ts";
import { AuthenticationError, NobodyToAskError } from "./errors.ts";
import { readExtInfo } from "./ext_info.ts";
import { isSameKey, keyTypeOf } from "./public_key.ts";
import type { Signer } from "./signer.ts";
import {
  buildMessage,
  displayText,
  encodeFields,
  type Field,
  Reader,
  utf8String,
} from "./ssh_data.ts";
import { chooseAlgorithm } from "./userauth_algorithm.ts";
import type { Method, UserAuthOptions } from "./userauth_options.ts";
import { refusalOf } from "./userauth_refusal.ts";
import {
  type Failure,
  type InfoRequest,
  readFailure,
  readInfoRequest,
  userauthFailure,
  userauthInfoRequest,
  userauthInfoResponse,
  userauthRequest,
} from "./userauth_messages.ts";

/** Nobody who is asked allows a signature as quickly, in milliseconds. */
const unaskedMs = 200;

/** What a server asks in one authentication; a round without a question counts as one. */
const mostQuestions = 100;

/** A signature that was sent, and whether nobody can have been asked for it. */
interface Signing {
  key: KnownKey;
  isSilent: boolean;
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
  /** Whether the server has said anything. */
  #isAnswered = false;
  /** Keys that were passed over when another one was looked for. */
  readonly #passedOver: KeyCandidate[] = [];
  /** What the server names before anything has been accepted. */
  #methods: readonly string[] = [];
  /** The key whose signature was sent last. */
  #signing: Signing | undefined;
  /** The key that was accepted where more was wanted. */
  #firstAccepted: Signing | undefined;

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

  /** How the login went; known when it has succeeded. */
  get login(): KnownLogin {
    const accepted = this.#firstAccepted ?? this.#signing;
    const key = accepted?.isSilent ? accepted.key : undefined;
    const isEnough = key !== undefined && this.#firstAccepted === undefined;
    return { methods: this.#methods, key, isEnough };
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
    this.#isAnswered = true;
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
    const { methods: known = [], key, isEnough } = this.#options.known() ?? {};
    this.#methods = known;
    const onSigned = () => void (isEnough && this.#options.onPresumed());
    let said = key && first.includes("publickey")
      ? await this.#tryKnownKey(key, onSigned)
      : undefined;
    // A server that names none lets everybody in.
    if (known.length === 0) said ??= await this.#askMethods();
    let failure = said ?? { methods: [...known], isPartial: false };
    let methods = first;
    while (true) {
      if (failure.isPartial) methods = afterwards;
      const method = methods.find((it) => failure.methods.includes(it) && !this.#exhausted.has(it));
      if (method !== undefined) {
        said = await this.#try(method) ?? said;
      } else if (!this.#isAnswered) {
        // It may have other methods by now.
        said = await this.#askMethods();
      } else throw this.#unasked ?? refusalOf(failure, { ...this.#options, tried: this.#tried });
      failure = said ?? failure;
      if (!failure.isPartial && this.#firstAccepted === undefined) this.#methods = failure.methods;
    }
  }

  async #askMethods(): Promise<Failure> {
    const failure = readFailure(await this.#request("none"));
    this.#methods = failure.methods;
    return failure;
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
      const candidate = this.#passedOver.shift() ?? await this.#nextKey();
      if (candidate === undefined) {
        this.#exhausted.add("publickey");
        return failure;
      }
      failure = await this.#tryKey(candidate) ?? failure;
      if (failure?.isPartial || failure?.methods.includes("publickey") === false) return failure;
    }
  }

  async #nextKey(): Promise<KeyCandidate | undefined> {
    const { value, done } = await this.#keys.next();
    return done ? undefined : value;
  }

  /** Signs at once with a key that the server has accepted before; `undefined` without an answer. */
  async #tryKnownKey(known: KnownKey, onSigned: () => void): Promise<Failure | undefined> {
    let candidate: KeyCandidate | undefined;
    while ((candidate = await this.#nextKey()) !== undefined) {
      const { publicKey, algorithms } = candidate;
      const isSame = publicKey !== undefined && isSameKey(publicKey, known.publicKey);
      if (isSame && algorithms.includes(known.algorithm)) break;
      this.#passedOver.push(candidate);
    }
    const signer = await this.#ifPossible(async () => await candidate?.unlock());
    if (candidate === undefined || signer === undefined) return undefined;
    this.#tried.push(candidate.name);
    const failure = await this.#sign(signer, known, onSigned);
    // Perhaps it is not the key that is refused, but the way in which it has signed.
    const isAsNow = known.isHostBound === this.#bindsToHost &&
      known.algorithm === this.#algorithmOf(signer);
    if (!isAsNow) this.#passedOver.push(candidate);
    return failure;
  }

  async #tryKey(candidate: KeyCandidate): Promise<Failure | undefined> {
    let signer: Signer | undefined;
    if (candidate.publicKey === undefined) {
      signer = await this.#ifPossible(() => candidate.unlock());
      if (signer === undefined) return undefined;
    }
    const publicKey = signer?.publicKey ?? candidate.publicKey;
    const algorithm = this.#algorithmOf(signer ?? candidate);
    if (publicKey === undefined || algorithm === undefined) {
      this.#tried.push(`${candidate.name} (no signature algorithm that the server accepts)`);
      return undefined;
    }
    this.#tried.push(candidate.name);
    const answer = await this.#request("publickey", false, algorithm, publicKey);
    if (answer[0] === userauthFailure) return readFailure(answer);

    const unlocked = signer ?? await this.#ifPossible(() => candidate.unlock());
    if (unlocked === undefined) return undefined;
    return await this.#sign(unlocked, { publicKey, algorithm, isHostBound: this.#bindsToHost });
  }

  #algorithmOf(
    { publicKey, algorithms }: Pick<KeyCandidate, "publicKey" | "algorithms">,
  ): string | undefined {
    const server = { version: this.#options.serverVersion(), listed: this.#listed };
    return publicKey && chooseAlgorithm(keyTypeOf(publicKey), algorithms, server);
  }

  /** OpenSSH's PROTOCOL, section 3.1: an agent may want to know for which host it signs. */
  get #bindsToHost(): boolean {
    return this.#takesHostBound && this.#options.source.bindsToHost;
  }

  /** @returns what the server says; `undefined` where there is no signature. */
  async #sign(
    signer: Signer,
    key: KnownKey,
    onSigned = () => {},
  ): Promise<Failure | undefined> {
    if (signer.needsTouch) this.#options.notify(`Touch your security key (${signer.name}).`);
    const { sessionId, hostKey } = this.#options.session();
    const { publicKey, algorithm, isHostBound } = key;
    const method = isHostBound ? "publickey-hostbound-v00@openssh.com" : "publickey";
    const fields: Field[] = [true, algorithm, publicKey, ...(isHostBound ? [hostKey] : [])];
    const signed = encodeFields(sessionId, { raw: this.#build(method, ...fields) });
    const startedAt = performance.now();
    const signature = await this.#ifPossible(() => signer.sign(signed, algorithm));
    if (signature === undefined) return undefined;
    const isQuick = performance.now() - startedAt < unaskedMs;
    this.#signing = { key, isSilent: signer.isOurs || (isQuick && !signer.needsTouch) };
    const answer = this.#request(method, ...fields, signature);
    onSigned();
    const failure = readFailure(await answer);
    if (failure.isPartial) this.#firstAccepted ??= this.#signing;
    this.#signing = undefined;
    return failure;
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
}
