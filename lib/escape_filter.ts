/**
 * What a person at a terminal types to ssh itself (ssh(1), ESCAPE CHARACTERS): a line that begins
 * with the escape character. What a ControlMaster does for its clients is done here.
 */

const carriageReturn = 0x0d;
const newline = 0x0a;
const controlZ = 0x1a;

/** What was typed. */
export interface Typed {
  /** What goes on to the remote host. */
  bytes: Uint8Array;
  /** What is asked for, in its order; `end` is the last. */
  wishes: Wish[];
}

/** `help` and `list` are answered with text; `unavailable` names what cannot be had here. */
export type Wish =
  | { kind: "end" | "help" | "list" | "break" | "rekey" | "info" }
  | { kind: "unavailable"; name: string };

const wishes: Record<string, Wish> = {
  ".": { kind: "end" },
  "?": { kind: "help" },
  "#": { kind: "list" },
  "B": { kind: "break" },
  "R": { kind: "rekey" },
  "I": { kind: "info" },
  ...Object.fromEntries(
    ["V", "v", "&", "C"].map((name) => [name, { kind: "unavailable", name } as const]),
  ),
  [String.fromCharCode(controlZ)]: { kind: "unavailable", name: "^Z" },
};

/** Reads what one person types, from the first byte on. */
export class EscapeFilter {
  readonly #escape: number;
  #isLineStart = true;
  #isPending = false;

  /** @param escape the escape character. */
  constructor(escape: number) {
    this.#escape = escape;
  }

  /** The escape character, for people. */
  get name(): string {
    return String.fromCharCode(this.#escape);
  }

  take(typed: Uint8Array): Typed {
    const bytes: number[] = [];
    const wanted: Wish[] = [];
    for (const byte of typed) {
      if (this.#isPending) {
        this.#isPending = false;
        const wish = byte === this.#escape ? undefined : wishes[String.fromCharCode(byte)];
        if (wish) {
          wanted.push(wish);
          if (wish.kind === "end") break;
          continue;
        }
        if (byte !== this.#escape) bytes.push(this.#escape);
      } else if (this.#isLineStart && byte === this.#escape) {
        this.#isPending = true;
        continue;
      }
      this.#isLineStart = byte === carriageReturn || byte === newline;
      bytes.push(byte);
    }
    return { bytes: Uint8Array.from(bytes), wishes: wanted };
  }
}

/** What `~?` shows. */
export function escapeHelp(escape: string): string {
  return [
    `${escape}?`,
    "Supported escape sequences:",
    ` ${escape}.   - end this session`,
    ` ${escape}B   - send a BREAK to the remote host`,
    ` ${escape}I   - show information about the connection`,
    ` ${escape}#   - list the connections that are open`,
    ` ${escape}?   - this message`,
    ` ${escape}${escape}   - send the escape character by typing it twice`,
    "(They are known at the start of a line alone.)",
    "",
  ].join("\r\n");
}
