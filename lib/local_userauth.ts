/**
 * The server's side of authentication on the endpoint (RFC 4252): whoever the system has named as
 * our user's is let in by whatever it tries first, everybody else by a key that counts.
 *
 * ssh2's own answers a second SERVICE_REQUEST with DISCONNECT, verifies no security keys and loses
 * what a client sends behind a request, so the messages are taken from it before it sees them.
 */

import { DisconnectReason, MalformedDataError } from "./errors.ts";
import { extInfoMessage } from "./ext_info.ts";
import { loginAlgorithms, signatureAlgorithm, verifySignature } from "./key_signature.ts";
import type { AcceptedKey, KeyRing, LoginKeys } from "./login_keys.ts";
import type { KeyPermissions } from "./client_rules.ts";
import {
  fingerprint,
  isPublicKey,
  isSameKey,
  isSecurityKeyName,
  keyTypeFor,
} from "./public_key.ts";
import { buildMessage, displayText, encodeFields, Reader } from "./ssh_data.ts";
import type { LoginSession } from "./ssh2_server.ts";
import {
  firstConnectionMessage,
  serviceAccept,
  serviceRequest,
  userauthBanner,
  userauthFailure,
  userauthRequest,
  userauthSuccess,
} from "./userauth_messages.ts";
import { describeMessage } from "./wire.ts";

/** The server's answer to a question about a key. */
const userauthPkOk = 60;
/** What a client never sends. */
const serverMessages = [serviceAccept, userauthFailure, userauthSuccess, userauthBanner];

const hostBoundMethod = "publickey-hostbound-v00@openssh.com";

/** sshd's MaxAuthTries. */
const mostFailures = 6;

/** What may wait for a decision, in messages: nobody has to send anything before the answer. */
const mostHeld = 64;
/** And in bytes. */
const mostHeldBytes = 256 * 1024;

/** Flags in the signatures of security keys (OpenSSH's PROTOCOL.u2f). */
const userPresent = 1;
const userVerified = 4;

/** A login that has succeeded. */
export interface Login {
  username: string;
  /** The key that it was by, in words, and its fingerprint; nothing where none was asked for. */
  key: string | undefined;
  fingerprint: string | undefined;
  permissions: KeyPermissions | undefined;
}

/** A login that needs to show nothing. */
const anybody = { key: undefined, fingerprint: undefined, permissions: undefined };

/** What an authentication needs. */
export interface LocalUserAuthOptions {
  session: LoginSession;
  /** The keys, one of which has to be shown; nothing where it is known who this is. */
  keys: LoginKeys | undefined;
  /** The client's address. */
  address: string;
  /** It has shown who it is: whether it is let in. Who says no ends it. Without this, all are. */
  admit?(login: Login): Promise<boolean>;
  /** It is let in; its messages are taken from here on. */
  onLogin(login: Login): void;
  /** It has named a key that counts, and has to sign with it. */
  onKeyNamed(): void;
  /** Words for the log of details. */
  report(text: string): void;
}

/** A request of authentication by a key. */
interface KeyRequest {
  username: string;
  algorithm: string;
  publicKey: Uint8Array;
  /** What is signed and the signature; nothing where it is only asked whether the key will do. */
  proof: { signed: Uint8Array; signature: Uint8Array } | undefined;
}

/** Authenticates one client. */
export class LocalUserAuth {
  readonly #options: LocalUserAuthOptions;
  #ring: Promise<KeyRing> | undefined;
  /** What came while a request is being decided about; nothing where none is. */
  #held: Uint8Array[] | undefined;
  #heldBytes = 0;
  #failures = 0;
  #hasTried = false;
  #isOver = false;

  constructor(options: LocalUserAuthOptions) {
    this.#options = options;
  }

  /** Whether it has asked to be let in, and was not. */
  get hasFailed(): boolean {
    return this.#failures > 0;
  }

  /** Takes a message that is not the transport protocol's own. */
  receive(payload: Uint8Array): void {
    if (this.#isOver) return;
    if (this.#held === undefined) return this.#handle(payload);
    this.#heldBytes += payload.length;
    if (this.#held.length >= mostHeld || this.#heldBytes > mostHeldBytes) {
      return this.#violate("more requests than can wait");
    }
    // The buffer may be used again before it is looked at.
    this.#held.push(payload.slice());
  }

  /** The connection is gone. May be called twice. */
  close(): void {
    this.#isOver = true;
  }

  #handle(payload: Uint8Array): void {
    try {
      this.#onMessage(payload);
    } catch (error) {
      if (!(error instanceof MalformedDataError)) throw error;
      this.#violate(`${describeMessage(payload)}: ${error.message}`);
    }
  }

  #onMessage(payload: Uint8Array): void {
    const { session } = this.#options;
    const type = payload[0] ?? 0;
    if (type === serviceRequest) return this.#onService(new Reader(payload, 1).text());
    if (type === userauthRequest) return this.#onRequest(payload);
    if (type === extInfoMessage) return; // Nothing that a client says of itself is of use here.
    if (type >= firstConnectionMessage) {
      return this.#violate(`${describeMessage(payload)} before authentication`);
    }
    if (serverMessages.includes(type)) {
      return this.#violate(`${describeMessage(payload)} of a client`);
    }
    session.transport.sendUnimplemented();
  }

  /** Some clients ask for the service again before each attempt. */
  #onService(name: string): void {
    const { transport } = this.#options.session;
    if (name === "ssh-userauth") return transport.send(buildMessage(serviceAccept, name));
    this.#end(DisconnectReason.serviceNotAvailable, "there is no such service before the login");
  }

  #onRequest(payload: Uint8Array): void {
    const reader = new Reader(payload, 1);
    const [username, service, method] = [reader.text(), reader.text(), reader.text()];
    if (service !== "ssh-connection") {
      return this.#end(DisconnectReason.serviceNotAvailable, "there is no such service");
    }
    const isKey = method === "publickey" || method === hostBoundMethod;
    const request = isKey ? this.#readKeyRequest(payload, { reader, username, method }) : undefined;
    if (this.#options.keys === undefined) {
      const isQuestion = request !== undefined && request.proof === undefined;
      if (isQuestion) this.#sendPkOk(request);
      else this.#succeed({ ...anybody, username });
    } else if (request) {
      this.#decide(request, this.#options.keys);
    } else {
      // To begin with `none` is how a client asks what there is.
      this.#fail({ counts: method !== "none" || this.#hasTried });
    }
    this.#hasTried = true;
  }

  #readKeyRequest(
    payload: Uint8Array,
    { reader, username, method }: { reader: Reader; username: string; method: string },
  ): KeyRequest {
    const { sessionId, hostKey } = this.#options.session;
    const isSigned = reader.boolean();
    const algorithm = reader.text();
    const publicKey = reader.bytes();
    if (method === hostBoundMethod && !isSameKey(reader.bytes(), hostKey)) {
      throw new MalformedDataError("another host key than ours");
    }
    let proof: KeyRequest["proof"];
    if (isSigned) {
      const signature = reader.bytes();
      const length = payload.length - signature.length - 4;
      proof = { signed: encodeFields(sessionId, { raw: payload.subarray(0, length) }), signature };
    }
    reader.end();
    return { username, algorithm, publicKey, proof };
  }

  #decide(request: KeyRequest, keys: LoginKeys): void {
    const { transport } = this.#options.session;
    transport.pause();
    this.#ring ??= keys.gather();
    this.#holdUntil(this.#ring, (ring) => {
      transport.resume();
      this.#answer(request, ring);
    });
  }

  /** What comes meanwhile waits, in its order (RFC 4252, section 5). */
  #holdUntil<T>(decision: Promise<T>, onDecided: (decision: T) => void): void {
    this.#held = [];
    this.#heldBytes = 0;
    void decision.then((decided) => {
      if (this.#isOver) return;
      const held = this.#held ?? [];
      this.#held = undefined;
      onDecided(decided);
      for (const payload of held) this.#release(payload);
    });
  }

  #release(payload: Uint8Array): void {
    if (!this.#isOver) return this.receive(payload);
    // Of a login that has succeeded meanwhile, the rest of it is passed over.
    const type = payload[0] ?? 0;
    if (type >= firstConnectionMessage) this.#options.session.pass(payload);
  }

  #answer(request: KeyRequest, ring: KeyRing): void {
    const { address, onKeyNamed, report } = this.#options;
    const { username, algorithm, publicKey, proof } = request;
    const print = fingerprint(publicKey);
    const refuse = (reason: string) => {
      report(`the key ${print} is refused: ${reason}`);
      this.#fail({ counts: true });
    };
    if (!loginAlgorithms.includes(algorithm)) {
      return refuse(`${displayText(algorithm)} is not taken`);
    }
    if (!isPublicKey(publicKey, keyTypeFor(algorithm))) return refuse("it is malformed");
    const verdict = ring.judge(publicKey, address);
    if (verdict.kind === "unknown") return refuse("it is not among those that count");
    if (verdict.kind === "refused") return refuse(verdict.reason);
    const { key } = verdict;
    if (proof === undefined) {
      onKeyNamed();
      return this.#sendPkOk(request);
    }
    const fault = faultOf(request, proof, key);
    if (fault !== undefined) return refuse(fault);
    this.#succeed({
      username,
      key: `the key ${print} (${key.name})`,
      fingerprint: print,
      permissions: key.permissions,
    });
  }

  #sendPkOk({ algorithm, publicKey }: KeyRequest): void {
    const { transport } = this.#options.session;
    transport.send(buildMessage(userauthPkOk, algorithm, publicKey));
  }

  #succeed(proven: Login): void {
    const { admit } = this.#options;
    const login = { ...proven, username: displayText(proven.username) };
    this.#failures = 0;
    if (admit === undefined) return this.#letIn(login);
    this.#holdUntil(admit(login), (isAdmitted) => {
      if (isAdmitted) this.#letIn(login);
      else this.#isOver = true;
    });
  }

  #letIn(login: Login): void {
    this.#isOver = true;
    this.#options.session.transport.send(buildMessage(userauthSuccess));
    this.#options.onLogin(login);
  }

  #fail({ counts }: { counts: boolean }): void {
    if (counts) this.#failures++;
    if (this.#failures >= mostFailures) {
      return this.#end(DisconnectReason.protocolError, "Too many authentication failures");
    }
    this.#options.session.transport.send(buildMessage(userauthFailure, "publickey", false));
  }

  #violate(description: string): void {
    this.#end(DisconnectReason.protocolError, description);
  }

  #end(reasonCode: number, description: string): void {
    this.#isOver = true;
    this.#options.report(`its login is ended: ${description}`);
    this.#options.session.transport.disconnect(reasonCode, description);
  }
}

/** Why a signature does not show that its maker has the key; `undefined` where it does. */
function faultOf(
  { algorithm, publicKey }: KeyRequest,
  { signed, signature }: { signed: Uint8Array; signature: Uint8Array },
  { needsTouch, needsVerification }: AcceptedKey,
): string | undefined {
  if (!verifySignature(publicKey, signed, signature)) return "its signature is wrong";
  if (signatureAlgorithm(signature) !== algorithm) return "its signature is of another algorithm";
  if (!isSecurityKeyName(algorithm)) return undefined;
  const reader = new Reader(signature);
  for (let field = 0; field < 2; field++) reader.bytes();
  const flags = reader.byte();
  if (needsTouch && (flags & userPresent) === 0) return "nobody has touched it";
  if (needsVerification && (flags & userVerified) === 0) return "its user was not verified";
  return undefined;
}
