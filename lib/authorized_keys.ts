/**
 * A file of authorized keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT): what it says of a key that
 * somebody has named. Whatever is not understood lets nobody in.
 */

import { Buffer } from "node:buffer";
import { isFrom } from "./address_patterns.ts";
import { everything } from "./client_rules.ts";
import { type KeyOptions, parseKeyOptions } from "./key_options.ts";
import type { KeyVerdict } from "./login_keys.ts";
import { fieldCountOf, isPublicKey, isSameKey } from "./public_key.ts";
import { displayText } from "./ssh_data.ts";

/** A line longer than this holds no key, in bytes; the longest RSA key takes 4 KiB. */
const longestLine = 64 * 1024;

/** A line with a key; `line` counts from 1. */
interface KeyLine {
  line: number;
  publicKey: Uint8Array;
  /** In words why the key does not count, where they are not understood. */
  options: KeyOptions | string;
}

/** The content of a file. */
export class AuthorizedKeys {
  readonly #file: string;
  readonly #keys: KeyLine[] = [];
  /** Lines that hold no key. */
  readonly #others: { line: number; text: string }[] = [];

  /** @param file its name, for the log. */
  constructor(file: string, content: Uint8Array) {
    this.#file = file;
    const lines = Buffer.from(content).toString("latin1").split("\n");
    for (const [index, whole] of lines.entries()) {
      const line = index + 1;
      const text = whole.replace(/^[ \t]+|[ \t\r]+$/g, "");
      if (text === "" || text.startsWith("#")) continue;
      const found = text.length > longestLine ? undefined : parseLine(text);
      if (found) this.#keys.push({ line, ...found });
      else this.#others.push({ line, text });
    }
  }

  /** What is wrong with it, in words for the log; keys of such lines do not count. */
  get faults(): string[] {
    const inKeys = this.#keys.flatMap(({ line, options }) =>
      typeof options === "string" ? [`${this.#file}, line ${line}: ${options}`] : []
    );
    const others = this.#others.map(({ line }) =>
      `${this.#file}, line ${line}: there is no key in it`
    );
    return [...inKeys, ...others];
  }

  /**
   * What the file says of a key, by the first line that has it and counts here and now. A line that
   * is not understood may have been meant to restrict the key: it counts nowhere then.
   *
   * @param now in milliseconds since 1970.
   */
  judge(publicKey: Uint8Array, { address, now }: { address: string; now: number }): KeyVerdict {
    const lines = this.#keys.filter((it) => isSameKey(it.publicKey, publicKey));
    const base64 = Buffer.from(publicKey).toString("base64");
    const maimed = this.#others.find(({ text }) => text.includes(base64.replace(/=+$/, "")));
    if (maimed) return this.#refused(maimed.line, "the line is malformed");
    if (lines.length === 0) return { kind: "unknown" };
    let obstacle: KeyVerdict | undefined;
    let accepted: KeyVerdict | undefined;
    for (const { line, options } of lines) {
      if (typeof options === "string") return this.#refused(line, options);
      const { expiresAt, from, permissions } = options;
      if (expiresAt !== undefined && now > expiresAt) {
        obstacle ??= this.#refused(line, "it has expired");
      } else if (from !== undefined && !isFrom(address, from)) {
        obstacle ??= this.#refused(line, `it does not count from ${address}`);
      } else {
        accepted ??= {
          kind: "accepted",
          key: {
            name: `${this.#file}, line ${line}`,
            needsTouch: options.needsTouch,
            needsVerification: options.needsVerification,
            permissions: permissions === everything ? undefined : permissions,
          },
        };
      }
    }
    return accepted ?? obstacle!;
  }

  #refused(line: number, reason: string): KeyVerdict {
    return { kind: "refused", reason: `${this.#file}, line ${line}: ${displayText(reason)}` };
  }
}

/** `undefined` where there is no key in it. */
function parseLine(text: string): Omit<KeyLine, "line"> | undefined {
  const plain = readKey(text);
  if (plain) return { publicKey: plain, options: parseKeyOptions("") };
  const [options, rest] = /^((?:"(?:\\"|[^"\\]|\\(?!"))*"|\\"|[^ \t"])+)[ \t]+(.*)$/s.exec(text)
    ?.slice(1) ?? [];
  const publicKey = rest === undefined ? undefined : readKey(rest);
  return publicKey && { publicKey, options: parseKeyOptions(options!) };
}

/** The key with which a text begins: its type, and the key in base64. */
function readKey(text: string): Uint8Array | undefined {
  const [type, base64] = text.split(/[ \t]+/, 2);
  if (type === undefined || base64 === undefined || fieldCountOf(type) === undefined) {
    return undefined;
  }
  const key = Buffer.from(base64, "base64");
  const isWhole = key.toString("base64").replace(/=+$/, "") === base64.replace(/=+$/, "");
  return isWhole && isPublicKey(key, type) ? new Uint8Array(key) : undefined;
}
