/**
 * What the logins of this run have taught of one host, so that the next one need not ask again.
 *
 * A host whose answers are known is sent at once what would follow them. Servers that read one
 * message after the other cannot tell it from a client that is very near; others may fail. A host
 * that has not taken it is met as a stranger the next time, and for good where it has ended the
 * connection itself, or where it happens again and again.
 */

import { isSameKey } from "./public_key.ts";

/** A key that a host has accepted, and how it was offered. */
export interface KnownKey {
  publicKey: Uint8Array;
  /** By which algorithm it signed. */
  algorithm: string;
  /** Whether the signature named the host's key. */
  isHostBound: boolean;
}

/** How a login went. */
export interface KnownLogin {
  /** The methods that the host names at first; none where it lets everybody in. */
  methods: readonly string[];
  /** The key that was accepted first, where nobody can have been asked for its signature. */
  key: KnownKey | undefined;
  /** Whether that was all that the host wanted. */
  isEnough: boolean;
}

/** What a connection has come to. */
export interface Lesson {
  /** The key exchange that was agreed on. */
  keyExchange: string | undefined;
  /** The key that the host has shown. */
  hostKey: Uint8Array;
  login: KnownLogin;
}

/** How an attempt has failed that had sent something ahead. */
export type Refusal =
  /** The host has said so, or has ended the connection without an answer. */
  | "refused"
  /** No answer has come, or the network has failed before. */
  | "unanswered"
  /** It was not even reached, by all appearances. */
  | "unidentified"
  /** It agrees on something else than before. */
  | "changed";

/** From so much on in a row, nothing is sent ahead any more. */
const mostWeight = 4;
const weights: Record<Refusal, number> = {
  refused: mostWeight,
  unanswered: 2,
  unidentified: 1,
  changed: 0,
};

/** What one attempt may build on. */
export interface Foresight {
  /** Whether each answer of the host is waited for. */
  readonly isCautious: boolean;
  /** The key exchange that it will agree on. */
  readonly keyExchange: string | undefined;
  /** How a login goes; what the owner of another key did says nothing. */
  loginWith(hostKey: Uint8Array): KnownLogin | undefined;
}

/** One host, as it is known. */
export class Acquaintance {
  #lesson: Lesson | undefined;
  /** `once`: for one attempt; `untilReady`: until one has succeeded. */
  #caution: "none" | "once" | "untilReady" | "always" = "none";
  /** Of the failures since something that was sent ahead has last been taken. */
  #weight = 0;
  /** Of the last attempt, which counts if one with care does better: else the host is away. */
  #doubt = 0;

  /** Another way to the same key, by which this may be another server: it lets people in alike. */
  introduce(other: Acquaintance): void {
    if (other.#lesson) this.#lesson ??= { ...other.#lesson, keyExchange: undefined };
  }

  /** An attempt begins. */
  begin(): Foresight {
    const isCautious = this.#caution !== "none";
    if (!isCautious) this.#doubt = 0;
    if (this.#caution === "once") this.#caution = "none";
    const lesson = isCautious ? undefined : this.#lesson;
    return {
      isCautious,
      keyExchange: lesson?.keyExchange,
      loginWith: (key) => lesson && isSameKey(lesson.hostKey, key) ? lesson.login : undefined,
    };
  }

  /** It has let us in. @param isTaken whether something was sent ahead. */
  onReady(lesson: Lesson, { isTaken }: { isTaken: boolean }): void {
    this.#weight = isTaken ? 0 : this.#weight + this.#doubt;
    this.#doubt = 0;
    this.#caution = this.#weight >= mostWeight ? "always" : "none";
    this.#lesson = lesson;
  }

  /** What was sent ahead has led to nothing. */
  onRefused(refusal: Refusal): void {
    const isReached = refusal !== "unidentified";
    if (isReached) this.#weight += weights[refusal];
    else this.#doubt = weights[refusal];
    this.#caution = isReached ? "untilReady" : "once";
  }
}
