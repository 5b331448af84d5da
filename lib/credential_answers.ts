/** Passwords and answers to a server's questions: given in advance, remembered, or asked for. */

import type { Questions } from "./credential_questions.ts";
import type { InfoRequest } from "./userauth_messages.ts";

/** The password that was typed last; it outlives the attempt. */
export interface PasswordMemory {
  typed: string | undefined;
}

/** What the answers are taken from. */
export interface AnswerOptions {
  questions: Questions;
  memory: PasswordMemory;
  /** A password that was given in advance; with one, nobody is asked for another. */
  given: string | undefined;
  /** How often a password may be asked for. */
  numberOfPasswordPrompts: number;
}

/** The answers during one attempt. */
export class Answers {
  readonly #options: AnswerOptions;
  readonly #remembered: string | undefined;
  #hasUsedRemembered = false;

  constructor(options: AnswerOptions) {
    this.#options = options;
    this.#remembered = options.memory.typed ?? options.given;
  }

  /** The password of an attempt, counted from 0; `undefined` when there is none to try. */
  async password(attempt: number): Promise<string | undefined> {
    const { questions, memory, given, numberOfPasswordPrompts } = this.#options;
    const remembered = this.#takeRemembered();
    if (remembered !== undefined) return remembered;
    if (given !== undefined || attempt >= numberOfPasswordPrompts) return undefined;
    const password = await questions.ask(`${questions.name}'s password: `, { echo: false });
    memory.typed = password;
    return password;
  }

  /** Answers to a server's questions; `undefined` when nobody can answer. */
  async answer(request: InfoRequest): Promise<string[] | undefined> {
    if (!isPasswordPrompt(request)) return await this.#ask(request);
    const remembered = this.#takeRemembered();
    if (remembered !== undefined) return [remembered];
    if (this.#options.given !== undefined) return undefined;
    const answers = await this.#ask(request);
    if (answers !== undefined) this.#options.memory.typed = answers[0];
    return answers;
  }

  /** A new password, typed twice alike; `undefined` when nobody can give one. */
  async newPassword(prompt: string): Promise<string | undefined> {
    const { questions, memory } = this.#options;
    while (true) {
      const question = `${questions.asTheirs(prompt)}\nNew password for ${questions.name}: `;
      const first = await questions.ask(question, { echo: false });
      if (first === undefined) return undefined;
      const second = await questions.ask("The same again: ", { echo: false });
      if (second === undefined) return undefined;
      if (first === second) {
        memory.typed = first;
        return first;
      }
    }
  }

  async #ask({ name, instruction, prompts }: InfoRequest): Promise<string[] | undefined> {
    const { questions } = this.#options;
    const heading = [name, instruction].filter(Boolean).join("\n");
    const answers: string[] = [];
    for (const [index, { text, echo }] of prompts.entries()) {
      const introduction = index === 0 && heading ? `${questions.asTheirs(heading)}\n` : "";
      const answer = await questions.ask(`${introduction}${questions.asTheirs(text)}`, { echo });
      if (answer === undefined) return undefined;
      answers.push(answer);
    }
    return answers;
  }

  /** A password that is known is tried once an attempt; if it was wrong it is forgotten. */
  #takeRemembered(): string | undefined {
    if (this.#hasUsedRemembered) {
      this.#options.memory.typed = undefined;
      return undefined;
    }
    this.#hasUsedRemembered = true;
    return this.#remembered;
  }
}

/** Whether it is the password that is asked for, and not one that changes each time. */
function isPasswordPrompt({ prompts: [prompt, ...others] }: InfoRequest): boolean {
  if (prompt === undefined || prompt.echo || others.length > 0) return false;
  return /passw/i.test(prompt.text) && !/one[- ]?time|otp|oath|token|code/i.test(prompt.text);
}
