/**
 * Asks a person whether a program may use the local port: once for all that belongs together with
 * it, or for the program wherever it runs. Answers are kept as long as sshshim runs.
 */

import { type ClientProgram, type Process, rootOf } from "./client_program.ts";
import type { Prompter } from "./credential_questions.ts";
import { messageOf, NobodyToAskError } from "./errors.ts";
import { logger } from "./log.ts";
import { escapeControls } from "./shown_text.ts";
import type { Schedule } from "./transport.ts";

const log = logger("confirm");

/** How long a question waits for its answer, in milliseconds. */
const answerTimeoutMs = 120_000;

/** How often an answer that is none is asked again. */
const mostAttempts = 3;

/** How many clients may wait for a person. */
const mostWaiting = 100;

/** How many processes are shown, and how much of a name, in characters. */
const mostShown = 5;
const longestName = 64;

/** A client that wants to be let in. */
export interface Visitor {
  id: number;
  /** Absent where it came by the control socket. */
  port: number | undefined;
  program: ClientProgram | undefined;
}

/** What is made of an answer. */
type Verdict =
  | { kind: "tree" | "program" }
  /** By a person's word, which is kept, or because there was none. */
  | { kind: "refused"; reason: string; isKept: boolean };

/** A question that is not answered yet. */
interface Question {
  verdict: Promise<Verdict>;
  /** How many clients wait for it; without any it is taken back. */
  waiting: number;
  abort: AbortController;
}

/** The questions about the clients of one host, and the answers. */
export class Confirmation {
  readonly #options: { host: string; prompter: Prompter; schedule: Schedule };
  /** What was answered about processes that belong together. */
  readonly #trees = new Map<string, Verdict>();
  /** The programs that may come from anywhere, by their files. */
  readonly #programs = new Set<string>();
  readonly #questions = new Map<string, Question>();
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** @param options `host` is what they want to use, for people. */
  constructor(options: { host: string; prompter: Prompter; schedule: Schedule }) {
    this.#options = options;
  }

  /**
   * Asks, if that is not known yet.
   *
   * @param signal is aborted when the client leaves.
   * @returns why it is not let in; `undefined` where it is.
   */
  async objectionTo(visitor: Visitor, signal: AbortSignal): Promise<string | undefined> {
    const known = this.#knownVerdict(visitor);
    if (known) return reasonOf(known);
    if (this.#waiting >= mostWaiting) return "too many others wait for an answer";
    const key = treeOf(visitor) ?? `client ${visitor.id}`;
    const question = this.#questions.get(key) ?? this.#begin(key, visitor);
    question.waiting++;
    this.#waiting++;
    const { promise: left, resolve } = Promise.withResolvers<Verdict>();
    const onLeft = () => resolve({ kind: "refused", reason: "it has left", isKept: false });
    signal.addEventListener("abort", onLeft);
    if (signal.aborted) onLeft();
    try {
      return reasonOf(await Promise.race([question.verdict, left]));
    } finally {
      signal.removeEventListener("abort", onLeft);
      this.#waiting--;
      if (--question.waiting === 0) question.abort.abort(new Error("the client has left"));
    }
  }

  #begin(key: string, visitor: Visitor): Question {
    const abort = new AbortController();
    const verdict = this.#last.then(() => this.#decide(visitor, abort));
    this.#last = verdict;
    const question = { verdict, waiting: 0, abort };
    this.#questions.set(key, question);
    // Who comes from now on asks anew.
    const forget = () => {
      if (this.#questions.get(key) === question) this.#questions.delete(key);
    };
    void verdict.then(forget);
    abort.signal.addEventListener("abort", forget);
    return question;
  }

  /** Asks about one, now that it is its turn; never rejects. */
  async #decide(visitor: Visitor, abort: AbortController): Promise<Verdict> {
    // The question before may have been about the same program.
    const known = this.#knownVerdict(visitor);
    if (known) return known;
    const seconds = answerTimeoutMs / 1000;
    const cancelTimeout = this.#options.schedule(
      answerTimeoutMs,
      () => abort.abort(new Error(`nobody has answered within ${seconds} s`)),
    );
    let verdict: Verdict;
    try {
      abort.signal.throwIfAborted();
      verdict = await this.#ask(visitor, abort.signal);
      abort.signal.throwIfAborted();
    } catch (error) {
      const cause = abort.signal.aborted ? abort.signal.reason : error;
      verdict = { kind: "refused", reason: describeFailure(cause), isKept: false };
    }
    cancelTimeout();
    this.#keep(visitor, verdict);
    return verdict;
  }

  async #ask({ id, port, program }: Visitor, signal: AbortSignal): Promise<Verdict> {
    const { host, prompter } = this.#options;
    const root = program && rootOf(program);
    const executable = program?.processes[0]?.executable;
    log.info("client {id} waits for a person: {program}", {
      id,
      program: describeProgram({ port, program }),
    });
    const words = ["yes", ...(executable ? ["program"] : []), "no"];
    let question = `A program wants to use ${host} through sshshim:\n` +
      `  ${describeProgram({ port, program })}\n` +
      `Type yes for ${root ? `all that ${describe(root)} starts` : "this connection"}, ` +
      (executable ? `program for every ${clip(executable.path)}, ` : "") + `or no: `;
    for (let attempt = 0; attempt < mostAttempts; attempt++) {
      const answer = (await prompter.ask(question, { echo: true, signal }))?.trim().toLowerCase();
      if (answer === "yes") return { kind: "tree" };
      if (answer === "program" && executable) return { kind: "program" };
      if (answer === undefined || answer === "no") break;
      question = `Type ${words.join(", ")}: `;
    }
    return { kind: "refused", reason: "a person has said no", isKept: true };
  }

  #knownVerdict(visitor: Visitor): Verdict | undefined {
    const file = visitor.program?.processes[0]?.executable?.id;
    if (file !== undefined && this.#programs.has(file)) return { kind: "program" };
    const tree = treeOf(visitor);
    return tree === undefined ? undefined : this.#trees.get(tree);
  }

  #keep(visitor: Visitor, verdict: Verdict): void {
    if (verdict.kind === "program") {
      this.#programs.add(visitor.program!.processes[0]!.executable!.id);
      return;
    }
    const tree = treeOf(visitor);
    if (tree === undefined || (verdict.kind === "refused" && !verdict.isKept)) return;
    this.#trees.set(tree, verdict);
  }
}

/** What names the processes that belong together; `undefined` where that is hidden. */
function treeOf({ program }: Visitor): string | undefined {
  const root = program && rootOf(program);
  return root && `${root.pid} since ${root.startTime}`;
}

/** Why there is no answer; the prompter's advice is about log-ins. */
function describeFailure(error: unknown): string {
  const isNobody = error instanceof NobodyToAskError && error.cause === undefined;
  return isNobody
    ? "nobody can be asked: there is no terminal, and SSH_ASKPASS is not set or may not be used"
    : messageOf(error);
}

function reasonOf(verdict: Verdict): string | undefined {
  return verdict.kind === "refused" ? verdict.reason : undefined;
}

/** A client's process and those that started it: `ssh (pid 12) from git (pid 11)`. */
function describeProgram({ port, program }: Omit<Visitor, "id">): string {
  const { processes = [], uid } = program ?? {};
  if (processes.length > 0) return processes.slice(0, mostShown).map(describe).join(" from ");
  const user = uid === undefined ? "" : ` of user ${uid}`;
  const place = port === undefined ? "at the control socket" : `at port ${port}`;
  return `a process${user} ${place}; the system does not tell which`;
}

function describe({ name, pid }: Process): string {
  return `${clip(name)} (pid ${pid})`;
}

/** A process chooses its own name. */
function clip(name: string): string {
  const safe = escapeControls(name);
  return safe.length <= longestName ? safe : `…${safe.slice(-longestName)}`;
}
