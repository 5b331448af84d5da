/**
 * What a session's output tells of the screen of its terminal: whether one line more can be shown
 * for a while, and taken back, without a loss. It is only looked at, and passes as it is.
 */

import { Reader } from "./ssh_data.ts";

/** After so many lines a program that has placed its words on the screen has left it, likely. */
const manyLines = 200;

/** A longer control sequence is none. */
const longestSequence = 64;

/** Terminals that do no more than to show characters. */
const plainTerminals = ["", "dumb", "unknown", "emacs"];

const [newLine, escape, bell] = [10, 27, 7];

/** What is being received: text, a sequence that ESC has begun, or a string that ESC \ or BEL ends. */
type Part = { kind: "text" } | { kind: "sequence"; text: string } | { kind: "string" };

/** The screen of one terminal. */
export class TerminalScreen {
  readonly #canMove: boolean;
  #columns: number;
  /** A line of ours is shown, and nothing has come since. */
  hasLine = false;
  #part: Part = { kind: "text" };
  /** How many bytes of a character of UTF-8 are still to come. */
  #missingBytes = 0;
  #isAlternate = false;
  /** A program has placed its words on the screen, and may do so again. */
  #isPlaced = false;
  #linesSince = 0;
  /** The cursor is at the first place; the screen is empty. */
  #isHome = false;
  #isCleared = false;

  constructor({ terminal, columns }: { terminal: string; columns: number }) {
    this.#canMove = !plainTerminals.includes(terminal);
    this.#columns = columns;
  }

  /** Of the data of "pty-req" (RFC 4254, section 6.2). */
  static ofRequest(data: Uint8Array): TerminalScreen {
    const reader = new Reader(data);
    return new TerminalScreen({ terminal: reader.text(), columns: reader.uint32() });
  }

  /** How many characters fit into a line. */
  get columns(): number {
    return this.#columns;
  }

  /** Takes the data of "window-change" (RFC 4254, section 6.7). */
  resize(data: Uint8Array): void {
    this.#columns = new Reader(data).uint32();
  }

  /**
   * Whether a line below the cursor is free: no program has the whole screen, the alternate one or
   * by placing its words on it, and nothing is half said.
   */
  get takesLine(): boolean {
    return this.#canMove && !this.#isAlternate && !this.#isPlaced &&
      this.#part.kind === "text" && this.#missingBytes === 0 && this.columns > 1;
  }

  /** The session has sent this to its terminal. */
  onOutput(bytes: Uint8Array): void {
    this.hasLine = false;
    for (let at = 0; at < bytes.length;) {
      if (this.#part.kind !== "text") {
        this.#onByte(this.#part, bytes[at++]!);
        continue;
      }
      const found = bytes.indexOf(escape, at);
      const end = found < 0 ? bytes.length : found;
      if (end > at) this.#onText(bytes.subarray(at, end));
      if (found >= 0) this.#part = { kind: "sequence", text: "" };
      at = end + 1;
    }
  }

  #onText(text: Uint8Array): void {
    this.#isHome = this.#isCleared = false;
    this.#missingBytes = missingBytes(text, this.#missingBytes);
    if (!this.#isPlaced) return;
    for (let at = text.indexOf(newLine); at >= 0; at = text.indexOf(newLine, at + 1)) {
      if (++this.#linesSince < manyLines) continue;
      this.#isPlaced = false;
      return;
    }
  }

  #onByte(part: Exclude<Part, { kind: "text" }>, byte: number): void {
    if (byte === escape) this.#part = { kind: "sequence", text: "" };
    else if (part.kind === "string") {
      if (byte === bell) this.#part = { kind: "text" };
    } else if (byte === 0x18 || byte === 0x1a) this.#part = { kind: "text" }; // CAN and SUB.
    else if (byte >= 0x20) {
      part.text += String.fromCharCode(byte);
      if (/^[\]PX^_]/.test(part.text)) this.#part = { kind: "string" };
      else if (/^(\[[0-?]*[ -/]*[@-~]|[ -/]*[0-Z\\`-~])$/.test(part.text)) {
        this.#part = { kind: "text" };
        this.#onSequence(part.text);
      } else if (part.text.length > longestSequence) this.#part = { kind: "text" };
    }
  }

  #onSequence(text: string): void {
    const words = text.slice(1, -1);
    if (text[0] !== "[") {
      if (text === "c") this.#isPlaced = this.#isAlternate = false; // All is as at the start.
      if (text === "M") this.#place(); // Scrolls back.
      return;
    }
    switch (text.at(-1)) {
      case "h":
      case "l":
        if (words[0] === "?") this.#onModes(words.slice(1).split(";"), text.endsWith("h"));
        return;
      case "H":
      case "f":
        if (!this.#isCleared) this.#place();
        this.#isHome = /^1?(;1?)?$/.test(words);
        return;
      case "J":
        if (words === "2" || words === "3" || (this.#isHome && /^0?$/.test(words))) {
          this.#isPlaced = false;
          this.#isCleared = true;
        }
        return;
      case "d":
        return this.#place();
      case "r":
        if (words[0] !== "?") this.#place();
    }
  }

  #onModes(modes: string[], isSet: boolean): void {
    for (const mode of modes) {
      if (mode === "47" || mode === "1047" || mode === "1049") {
        this.#isAlternate = isSet;
        this.#isPlaced = false;
      }
      // Whoever reads a line wants to know what is pasted: a shell is at its prompt.
      if (mode === "2004" && isSet) this.#isPlaced = false;
    }
  }

  #place(): void {
    this.#isPlaced = true;
    this.#linesSince = 0;
  }
}

/** How many bytes the last character of UTF-8 still lacks. @param before what lacked at the start. */
function missingBytes(text: Uint8Array, before: number): number {
  for (let back = 1; back <= Math.min(4, text.length); back++) {
    const byte = text[text.length - back]!;
    if (byte < 0x80) return 0;
    if (byte < 0xc0) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return Math.max(0, length - back);
  }
  return text.length < 4 ? Math.max(0, before - text.length) : 0;
}
