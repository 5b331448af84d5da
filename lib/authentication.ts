/**
 * Authentication to upstream with the one credential that was given (RFC 4252).
 *
 * The server is asked first which methods it accepts, so that a wrong password is sent once and by
 * one method: servers count attempts and ban for them.
 */

// @ts-types="@types/ssh2"
import ssh2 from "ssh2";
import type { Credential } from "./cli.ts";
import { AuthenticationError } from "./errors.ts";

/** A credential that is ready to be used. */
export type LoadedCredential =
  | { kind: "password"; password: string }
  | { kind: "key"; file: string; privateKey: string };

const keyTypes = { rsa: "ssh-rsa", ed25519: "ssh-ed25519" } as const;

/**
 * Reads the key file, if the credential is one.
 *
 * @throws {AuthenticationError} where the file cannot be used.
 */
export async function loadCredential(credential: Credential): Promise<LoadedCredential> {
  if (credential.kind === "password") return credential;
  const { file, type } = credential;
  const privateKey = await readKeyFile(file);
  const parsed = ssh2.utils.parseKey(privateKey);
  if (parsed instanceof Error) {
    const isEncrypted = /encrypted|passphrase/i.test(parsed.message);
    throw new AuthenticationError(
      isEncrypted
        ? `The key ${file} is encrypted, and sshshim cannot ask for its passphrase. ` +
          `Use a key without one, or make a decrypted copy with "ssh-keygen -p -f COPY".`
        : `The key ${file} cannot be used: ${parsed.message}. Name a private key file.`,
    );
  }
  const key = Array.isArray(parsed) ? parsed[0]! : parsed;
  if (!key.isPrivateKey()) {
    throw new AuthenticationError(
      `The key ${file} is a public key. Name the private one, the file without ".pub".`,
    );
  }
  if (key.type !== keyTypes[type]) {
    throw new AuthenticationError(
      `The key ${file} is of type ${key.type}, but --${type}-key takes ${keyTypes[type]}. ` +
        `Use the option for its type.`,
    );
  }
  return { kind: "key", file, privateKey };
}

async function readKeyFile(file: string): Promise<string> {
  try {
    return await Deno.readTextFile(file);
  } catch (cause) {
    const reason = cause instanceof Deno.errors.NotFound
      ? "there is no such file"
      : (cause as Error).message;
    throw new AuthenticationError(
      `The key ${file} cannot be read: ${reason}. Check the path and its permissions.`,
      { cause },
    );
  }
}

/** One authentication: which method comes next, and what was tried. */
export class Authentication {
  readonly #username: string;
  readonly #credential: LoadedCredential;
  #tried: string | undefined;
  #accepted: readonly string[] = [];
  #isPartial = false;

  constructor(username: string, credential: LoadedCredential) {
    this.#username = username;
    this.#credential = credential;
  }

  /** For ssh2: the next method to try, `false` when there is none. */
  next(accepted: readonly string[] | null, isPartial: boolean | null): ssh2.AnyAuthMethod | false {
    const username = this.#username;
    if (accepted === null) return { type: "none", username };
    this.#accepted = accepted;
    this.#isPartial = isPartial ?? false;
    if (this.#tried !== undefined) return false;
    const credential = this.#credential;
    const methods = credential.kind === "key"
      ? ["publickey"]
      : ["password", "keyboard-interactive"];
    this.#tried = methods.find((method) => accepted.includes(method));
    switch (this.#tried) {
      case "publickey":
        if (credential.kind !== "key") return false;
        return { type: "publickey", username, key: credential.privateKey };
      case "password":
        if (credential.kind !== "password") return false;
        return { type: "password", username, password: credential.password };
      case "keyboard-interactive":
        if (credential.kind !== "password") return false;
        return { type: "keyboard-interactive", username, prompt: answerWith(credential.password) };
      default:
        return false;
    }
  }

  /** Why upstream did not let us in, for people; `where` is `user@host:port`. */
  refusal(where: string): string {
    const credential = this.#credential.kind === "key"
      ? `the key ${this.#credential.file}`
      : "the password";
    const accepted = this.#accepted.join(", ") || "nothing";
    if (this.#isPartial) {
      return `${where} accepted ${credential} and wants more: ${accepted}. ` +
        `sshshim can give only one; ask for an account that needs no second factor.`;
    }
    if (this.#tried === undefined) {
      return `${where} does not accept ${credential}; it accepts ${accepted}. ` +
        `Use another credential.`;
    }
    return `${where} refused ${credential} (${this.#tried}; it accepts ${accepted}). ` +
      `Check the user name and the credential.`;
  }
}

/** Answers the one hidden question of a keyboard-interactive password method, and no other. */
function answerWith(password: string): ssh2.KeyboardInteractiveAuthMethod["prompt"] {
  let isUsed = false;
  return (_name, _instructions, _language, prompts, finish) => {
    const isPasswordQuestion = prompts.length === 1 && !prompts[0]!.echo && !isUsed;
    if (isPasswordQuestion) isUsed = true;
    finish(isPasswordQuestion ? [password] : prompts.map(() => ""));
  };
}
