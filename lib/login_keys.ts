/** What somebody has to show whom the system does not tell: the keys that count, and for what. */

import type { KeyPermissions } from "./client_rules.ts";

/** What is said of a key that somebody has named. */
export type KeyVerdict =
  | { kind: "unknown" }
  /** It is known, and does not count here or now. */
  | { kind: "refused"; reason: string }
  | { kind: "accepted"; key: AcceptedKey };

/** A key that counts. */
export interface AcceptedKey {
  /** Where it is from, for the log: a file's name, or an agent's. */
  name: string;
  /** Of a security key: whether it has to be touched, and its user to be verified. */
  needsTouch: boolean;
  needsVerification: boolean;
  /** What whoever has it may do; everything where there is nothing said. */
  permissions: KeyPermissions | undefined;
}

/** The keys that count for one login. */
export interface KeyRing {
  /** @param address the client's, IPv4 or IPv6. */
  judge(publicKey: Uint8Array, address: string): KeyVerdict;
}

/** Where the keys are. */
export interface LoginKeys {
  /** The keys that count now; asked once for each login, and never rejected. */
  gather(): Promise<KeyRing>;
}
