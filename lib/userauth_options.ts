/** What the client's side of authentication is given: types, and the methods that there are. */

import type { KnownLogin } from "./acquaintance.ts";
import type { CredentialSource } from "./credential_source.ts";
import type { SessionBinding } from "./signer.ts";

/** Methods in ssh's order of preference, as far as we have them. */
export const defaultMethods = ["publickey", "keyboard-interactive", "password"] as const;

/** One of the methods. */
export type Method = typeof defaultMethods[number];

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
  /** How logins to this server go, if there was one. */
  known(): KnownLogin | undefined;
  /** The server has been sent that by which it has let us in before. */
  onPresumed(): void;
  /** What the server says it is, such as `OpenSSH_9.2`; known when authentication begins. */
  serverVersion(): string;
  /** Words to the user, such as that a key wants to be touched. */
  notify(text: string): void;
  /** Whether the server is waited for, rather than a person. */
  onWait(isWaiting: boolean): void;
}
