/**
 * The identification line with which an SSH connection begins (RFC 4253, section 4.2).
 *
 * ssh2 fails on a line that comes in three or more pieces, so the bytes are kept until the line is
 * complete. What is not SSH is noticed here, before ssh2 sees any of it.
 */

import { concatenate } from "./wire.ts";

const newline = 10;
const prefix = "SSH-";
const maximumLineBytes = 255;
/** A server may greet before it identifies itself; RFC 4253 sets no limit, OpenSSH these. */
const maximumGreetingBytes = 8192;
const maximumGreetingLines = 1024;

/** Collects the first bytes of a connection until the identification line is among them. */
export class IdentificationCollector {
  readonly #mayGreet: boolean;
  #collected: Uint8Array = new Uint8Array();
  #lineStart = 0;
  #lines = 0;
  #isComplete = false;

  /** @param role ours; the peer of a client is a server, which may greet first. */
  constructor(role: "server" | "client") {
    this.#mayGreet = role === "client";
  }

  get isComplete(): boolean {
    return this.#isComplete;
  }

  /**
   * Takes the next bytes.
   *
   * @returns everything so far once the line is complete, `undefined` before.
   * @throws {Error} where the peer does not speak SSH.
   */
  push(bytes: Uint8Array): Uint8Array | undefined {
    this.#collected = concatenate([this.#collected, bytes]);
    while (true) {
      const end = this.#collected.indexOf(newline, this.#lineStart);
      const line = this.#collected.subarray(
        this.#lineStart,
        end === -1 ? undefined : end,
      );
      const isIdentification = beginsLikeIdentification(line) &&
        (end === -1 || line.length >= prefix.length);
      const isTooLong = isIdentification
        ? line.length > maximumLineBytes
        : this.#lineStart + line.length >= maximumGreetingBytes ||
          this.#lines >= maximumGreetingLines;
      if (isTooLong || (!isIdentification && !this.#mayGreet)) {
        throw new Error("the peer does not speak SSH");
      }
      if (end === -1) return undefined;
      if (isIdentification) {
        this.#isComplete = true;
        return this.#collected;
      }
      this.#lineStart = end + 1;
      this.#lines++;
    }
  }
}

/** Whether these bytes are, or may become, an identification line. */
function beginsLikeIdentification(line: Uint8Array): boolean {
  for (let at = 0; at < Math.min(line.length, prefix.length); at++) {
    if (line[at] !== prefix.charCodeAt(at)) return false;
  }
  return true;
}
