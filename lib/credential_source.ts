/** What authentication takes keys, passwords and answers from: types alone. */

import type { SessionBinding, Signer } from "./signer.ts";
import type { InfoRequest } from "./userauth_messages.ts";

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
