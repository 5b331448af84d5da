/** Questions to the person about one host, within one attempt to log in. */

import { NobodyToAskError } from "./errors.ts";
import { fold, terminalColumns, widthOf } from "./fold.ts";
import { escapeControls } from "./shown_text.ts";

/** Asks a person. */
export interface Prompter {
  /**
   * Asks one question, of several lines perhaps, which the server may have had a part in; its
   * words are marked, and nothing in them drives a terminal.
   *
   * @param options `echo`: whether the answer may be seen; `signal` takes the question back, and
   *   then the answer is not used.
   * @returns what was typed; `undefined` where the person declines.
   * @throws {NobodyToAskError} where there is no way to ask.
   */
  ask(
    question: string,
    options: { echo: boolean; signal: AbortSignal },
  ): Promise<string | undefined>;
}

/** Why a person is asked within an attempt, and how that stands. */
export interface Inquiry {
  /** Said before the first question. */
  readonly why: string;
  /** What has become of the last question. */
  state: "unasked" | "open" | "answered";
}

/** How one attempt may use the credentials. */
export interface AttemptOptions {
  /** Whether a person may be asked; if not, a question throws NobodyToAskError. */
  mayAsk: boolean;
  inquiry?: Inquiry | undefined;
  signal: AbortSignal;
}

/** How much of what a server says around a question is shown, in characters and in lines. */
const longestWords = 4096;
const mostLines = 40;

/** What one attempt asks. */
export class Questions {
  /** The host, for prompts: `user@host`. */
  readonly name: string;
  readonly #prompter: Prompter;
  readonly #attempt: AttemptOptions;

  constructor(
    { name, prompter, attempt }: { name: string; prompter: Prompter; attempt: AttemptOptions },
  ) {
    this.name = name;
    this.#prompter = prompter;
    this.#attempt = attempt;
  }

  /** @throws {NobodyToAskError} where nobody may be asked, or can be. */
  async ask(question: string, { echo }: { echo: boolean }): Promise<string | undefined> {
    const { mayAsk, signal, inquiry } = this.#attempt;
    if (!mayAsk) throw new NobodyToAskError(`${this.name} needs a person to log in`);
    if (inquiry === undefined) return await this.#prompter.ask(question, { echo, signal });
    const words = inquiry.state === "unasked" ? `${inquiry.why}\n${question}` : question;
    inquiry.state = "open";
    const answer = await this.#prompter.ask(words, { echo, signal });
    inquiry.state = "answered";
    return answer;
  }

  /** Marks each line as the host's words, so that none can pass for a question of ours. */
  asTheirs(text: string): string {
    const mark = `(${this.name}) `;
    const columns = terminalColumns();
    const room = columns - widthOf(mark) % columns;
    const lines = text.slice(0, longestWords).trimEnd().split(/\r\n?|\n/)
      .flatMap((line) => fold(escapeControls(line), room))
      .slice(0, mostLines);
    const space = /\s*$/.exec(text)![0].includes(" ") ? " " : "";
    return lines.map((line) => `${mark}${line}`).join("\n") + space;
  }
}
