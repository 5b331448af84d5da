/**
 * A connection of bytes that outlives what carries it: it pauses while no carrier is there, and goes
 * on with the next one.
 */

import type { Backoff } from "./backoff.ts";
import type { ByteConnection } from "./byte_connection.ts";
import { CannotResumeError, type Carrier, NotKeptError, writeAll } from "./carrier.ts";
import type { Inquiry } from "./credential_questions.ts";
import { NobodyToAskError, ProtocolError, UpstreamLostError } from "./errors.ts";
import type { Away, Carried } from "./carried.ts";
import { logger } from "./log.ts";
import { FrameType, keptBytes, ResumeEnd } from "./resume_end.ts";

const log = logger("resume");

/** A carrier that has lived for so long is followed by the next one at once; in milliseconds. */
const provenMs = 5000;

/** What is written so long after the last that came is no answer to it, in milliseconds. */
const answerMs = 1000;

/** How long what was written may take to leave when it is closed, in milliseconds. */
const lingerMs = 2000;

/** How a stream is kept. */
export interface ResumeStreamOptions {
  /** `user@host:port`, for people. */
  name: string;
  /** How long the host keeps the other end without a carrier, in milliseconds. */
  resumeForMs: number;
  backoff: Pick<Backoff, "next" | "reset">;
  /**
   * Makes the next carrier.
   *
   * @param has how many bytes have come.
   * @throws {NotKeptError} where the other end is gone.
   */
  attach(
    has: number,
    options: {
      signal: AbortSignal;
      mayAsk: boolean;
      inquiry: Inquiry;
      /** Called as soon as the host has let us in. */
      onReached(): void;
    },
  ): Promise<Carrier>;
}

type Timer = ReturnType<typeof setTimeout>;

/**
 * How what is away comes back:
 *
 * - `attempt`: it is tried; `mayAsk` a person. The host `isReached` once it has let us in;
 * - `later`: it is tried when the timer says so;
 * - `asleep`: a person would be asked, which is done when something is wanted, `notBefore` a time by
 *   `performance.now()`;
 * - `stopped`: another attempt would fail alike, and is made when a person wants it.
 */
type Return =
  | { kind: "attempt"; controller: AbortController; mayAsk: boolean; isReached: boolean }
  | { kind: "later"; timer: Timer }
  | { kind: "asleep"; reason: Error; notBefore: number }
  | { kind: "stopped"; reason: Error };

/**
 * - `carried`: bytes pass;
 * - `away`: no carrier is there, and `limit` ends it when the host keeps it no longer;
 * - `closed`: with `error`, where nobody wanted that.
 */
type State =
  | { kind: "carried"; carrier: Carrier }
  | { kind: "away"; since: number; reason: Error; limit: Timer; next: Return }
  | { kind: "closed"; error: Error | undefined };

type AwayState = Extract<State, { kind: "away" }>;

/** One stream, from its first carrier to its end. */
export class ResumeStream implements ByteConnection, Carried {
  readonly #options: ResumeStreamOptions;
  readonly #end = new ResumeEnd();
  /** How many bytes had come, and when it was, when the carrier came. */
  #start = { has: 0, time: 0 };
  readonly #closed = Promise.withResolvers<void>();
  /** These end with the last carrier; nothing is sent once the stream is closed. */
  #sending: Promise<void> = Promise.resolve();
  #receiving: Promise<void> = Promise.resolve();
  #state: State;
  #waiting: (() => void)[] = [];
  readonly #watchers: (() => void)[] = [];
  /** Whether what was written last waits for an answer; when the last byte came. */
  #isWanted = false;
  #lastByteAt = performance.now();

  /** @param carrier the first one. @throws {ProtocolError} where its answer makes no sense. */
  constructor(carrier: Carrier, options: ResumeStreamOptions) {
    this.#options = options;
    this.#state = { kind: "carried", carrier };
    this.#use(carrier);
  }

  get away(): Away | undefined {
    const state = this.#state;
    if (state.kind !== "away") return undefined;
    const { since, next } = state;
    const reason = "reason" in next ? next.reason : state.reason;
    return { since, reason, isReached: next.kind === "attempt" && next.isReached };
  }

  get carriedSince(): number {
    return this.#state.kind === "carried" ? this.#start.time : Infinity;
  }

  watch(onChange: () => void): void {
    this.#watchers.push(onChange);
  }

  /** Whether the host has ended the stream. */
  get hasEnded(): boolean {
    return this.#end.end !== undefined;
  }

  /** Resolves when it is closed and the host has been told, or cannot be. */
  get whenClosed(): Promise<void> {
    return this.#closed.promise;
  }

  probe(): void {
    const state = this.#state;
    if (state.kind === "carried") return state.carrier.probe();
    if (state.kind !== "away" || "reason" in state.next) return;
    // A person is asked, perhaps, and has the time that it takes.
    if (state.next.kind === "attempt" && state.next.mayAsk) return;
    this.#options.backoff.reset();
    void this.#attach({ mayAsk: false });
  }

  retry(): void {
    const state = this.#state;
    if (state.kind !== "away" || !("reason" in state.next)) return this.probe();
    this.#options.backoff.reset();
    void this.#attach({ mayAsk: true });
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    while (true) {
      const count = this.#end.read(buffer);
      if (count > 0) {
        this.#wake();
        return count;
      }
      if (this.#end.end !== undefined) {
        if (this.#end.end === "") return null;
        throw new Error(this.#end.end);
      }
      if (this.#state.kind === "closed") {
        if (this.#state.error) throw this.#state.error;
        return null;
      }
      await this.#change();
    }
  }

  async write(data: Uint8Array): Promise<number> {
    while (this.#state.kind !== "closed") {
      const count = this.#end.write(data);
      if (count > 0 || data.length === 0) {
        this.#onWritten();
        return count;
      }
      await this.#change();
    }
    throw this.#state.error ?? new Deno.errors.BrokenPipe("the stream is closed");
  }

  /** What was written is still sent, but not for long, and the host keeps nothing any more. */
  close(): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    if (state.kind === "carried") {
      this.#end.finish(FrameType.close);
      void this.#leave(state.carrier);
    }
    if (state.kind === "away") {
      log.warn(
        "{name}: what is kept there could not be told of the end: it is kept for its time, with " +
          "what runs in it",
        { name: this.#options.name },
      );
    }
    this.#become({ kind: "closed", error: undefined });
    if (state.kind === "away") this.#closed.resolve();
  }

  /** Something is wanted, unless it is an answer. */
  #onWritten(): void {
    const state = this.#state;
    const now = performance.now();
    this.#isWanted ||= state.kind === "away" || now - this.#lastByteAt > answerMs;
    this.#wake();
    if (state.kind !== "away" || state.next.kind !== "asleep") return;
    const waitMs = state.next.notBefore - now;
    if (waitMs > 0) this.#become({ ...state, next: this.#later(waitMs, { mayAsk: true }) });
    else void this.#attach({ mayAsk: true });
  }

  #become(next: State): void {
    const state = this.#state;
    if (state.kind === "away" && next !== state) {
      // An attempt that hangs is perhaps on a path that is no more.
      if (state.next.kind === "attempt" && next.kind !== "carried") state.next.controller.abort();
      if (state.next.kind === "later") clearTimeout(state.next.timer);
      if (next.kind !== "away") clearTimeout(state.limit);
    }
    this.#state = next;
    for (const onChange of this.#watchers) onChange();
    this.#wake();
  }

  #use(carrier: Carrier): void {
    this.#end.attach(carrier.answer.has);
    this.#start = { has: this.#end.has, time: performance.now() };
    this.#sending = this.#send(carrier);
    this.#receiving = this.#receive(carrier);
  }

  #isUsed(carrier: Carrier): boolean {
    return this.#state.kind === "carried" && this.#state.carrier === carrier;
  }

  async #send(carrier: Carrier): Promise<void> {
    try {
      while (this.#isUsed(carrier)) {
        const bytes = this.#end.next();
        if (bytes === undefined) await this.#change();
        else await writeAll(carrier.connection, bytes);
      }
    } catch (error) {
      this.#onLost(carrier, error as Error);
    }
  }

  async #receive(carrier: Carrier): Promise<void> {
    try {
      while (true) {
        if (this.#isUsed(carrier) && this.#end.unreadBytes >= keptBytes) {
          await this.#change();
          continue;
        }
        const bytes = await carrier.connection.take();
        if (bytes === null) {
          throw new UpstreamLostError(`${this.#options.name} ended what carries the connection`);
        }
        if (!this.#isUsed(carrier)) continue;
        const { has } = this.#end;
        this.#end.receive(bytes);
        if (this.#end.has > has) {
          this.#isWanted = false;
          this.#lastByteAt = performance.now();
        }
        this.#wake();
      }
    } catch (error) {
      this.#onLost(carrier, error as Error);
    }
  }

  /** Sends what is left, and ends the carrier. */
  async #leave(carrier: Carrier): Promise<void> {
    const timer = setTimeout(() => carrier.connection.close(), lingerMs);
    try {
      // Not in the middle of a frame.
      await this.#sending;
      for (let bytes = this.#end.next(); bytes !== undefined; bytes = this.#end.next()) {
        await writeAll(carrier.connection, bytes);
      }
      // sshd drops what has not reached the program when the carrier ends: the program ends first.
      await this.#receiving;
    } catch {
      // Nobody is there to be told.
    }
    clearTimeout(timer);
    carrier.connection.close();
    this.#closed.resolve();
  }

  #onLost(carrier: Carrier, error: Error): void {
    if (!this.#isUsed(carrier)) return;
    this.#end.detach();
    carrier.connection.close();
    // There is nothing to go on with.
    if (this.hasEnded) {
      this.#become({ kind: "closed", error: undefined });
      return this.#closed.resolve();
    }
    const reason = carrier.reason ?? error;
    log.warn("{reason}: the connection is away, and what it carries is kept", {
      reason: reason.message,
    });
    const { resumeForMs } = this.#options;
    const limit = setTimeout(
      () => this.#fail("it was away for longer than --resume-for"),
      // No timer is longer.
      Math.min(resumeForMs, 2 ** 31 - 1),
    );
    // One that was of no use may be lost again at once, and one that was soon lost as soon.
    const { has, time } = this.#start;
    const isProven = performance.now() - time > provenMs;
    if (isProven || this.#end.has > has) this.#options.backoff.reset();
    const next = this.#later(isProven ? 0 : undefined);
    this.#become({ kind: "away", since: Date.now(), reason, limit, next });
  }

  /** The next attempt, after a wait that grows. */
  #later(delayMs = this.#options.backoff.next(), { mayAsk = false } = {}): Return {
    return { kind: "later", timer: setTimeout(() => void this.#attach({ mayAsk }), delayMs) };
  }

  async #attach({ mayAsk }: { mayAsk: boolean }): Promise<void> {
    const before = this.#state;
    if (before.kind !== "away") return;
    const controller = new AbortController();
    const attempt = { kind: "attempt" as const, controller, mayAsk, isReached: false };
    const away = { ...before, next: attempt };
    this.#become(away);
    const onReached = () => {
      if (this.#state !== away) return;
      attempt.isReached = true;
      this.#become(away);
    };
    const since = new Date(away.since).toTimeString().slice(0, 8);
    const inquiry: Inquiry = {
      why: `The network was lost at ${since}, and what runs is kept: this login brings it back.`,
      state: "unasked",
    };
    try {
      const options = { signal: controller.signal, mayAsk, inquiry, onReached };
      const carrier = await this.#options.attach(this.#end.has, options);
      if (this.#state !== away) return carrier.connection.close();
      this.#become({ kind: "carried", carrier });
      log.info("{name}: the connection is back after {seconds} s", {
        name: this.#options.name,
        seconds: ((Date.now() - away.since) / 1000).toFixed(1),
      });
      this.#use(carrier);
    } catch (error) {
      if (error instanceof ProtocolError) this.#fail("the host has lost count of it");
      else if (this.#state === away) this.#onFailure(away, error as Error, { hasAsked: mayAsk });
    }
  }

  #onFailure(away: AwayState, reason: Error, { hasAsked }: { hasAsked: boolean }): void {
    if (reason instanceof NotKeptError) return this.#fail(reason.message);
    const { name, backoff } = this.#options;
    if (reason instanceof UpstreamLostError || reason instanceof CannotResumeError) {
      this.#become({ ...away, next: this.#later() });
      log.info("{name} is away since {since}, and what it carries is kept: {reason}", {
        ...{ name, since: new Date(away.since).toISOString(), reason: reason.message },
      });
    } else if (reason instanceof NobodyToAskError) {
      // It was tried in silence, and somebody waits: that is worth a question.
      if (this.#isWanted && !hasAsked) return void this.#attach({ mayAsk: true });
      const notBefore = hasAsked ? performance.now() + backoff.next() : 0;
      this.#become({ ...away, next: { kind: "asleep", reason, notBefore } });
      log.warn("{reason} It is tried again when something is wanted, or with SIGUSR2.", {
        reason: reason.message.replace(/\.?$/, "."),
      });
    } else {
      this.#become({ ...away, next: { kind: "stopped", reason } });
      log.error("{reason} Not tried again; send SIGUSR2 to try once more.", {
        reason: reason.message,
      });
    }
  }

  #fail(description: string): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    const why = state.kind === "away" ? ` (${state.reason.message})` : "";
    const error = new UpstreamLostError(`the connection cannot be resumed: ${description}${why}`);
    if (state.kind === "carried") state.carrier.connection.close();
    this.#become({ kind: "closed", error });
    this.#closed.resolve();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    for (const resume of this.#waiting.splice(0)) resume();
  }
}
