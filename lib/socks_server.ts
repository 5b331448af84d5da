/**
 * The server's half of SOCKS 4, 4a and 5 (RFC 1928) up to the request, as ssh has it for `-D`:
 * CONNECT without authentication. As with ssh whatever is not understood has no answer, and neither
 * has a request for somebody who cannot be reached.
 */

import { MalformedDataError } from "./errors.ts";
import { canonicalHost } from "./host_name.ts";
import { concatenate } from "./ssh_data.ts";

/** Of the names in version 4, in bytes, as with ssh. */
const longestName4Bytes = 1024;

const connectCommand = 1;
const noAuthentication = 0;

/** Where a client wants to be led; the host is a byte string. */
export interface SocksDestination {
  host: string;
  port: number;
}

/** What comes of some bytes. */
export interface SocksStep {
  /** To be sent to the client, with a request once it is connected; may be empty. */
  answer: Uint8Array;
  /** The end of the negotiation: where to, and what came after the request. */
  request?: { destination: SocksDestination; rest: Uint8Array };
}

const needsMore: SocksStep = { answer: new Uint8Array() };

/** The words of one client, which may come in pieces of any length. */
export class SocksNegotiation {
  #pending: Uint8Array = new Uint8Array();
  #hasGreeted = false;

  /** Takes the next bytes. @throws {MalformedDataError} where the client is to be left alone. */
  take(bytes: Uint8Array): SocksStep {
    const pending = this.#pending = concatenate([this.#pending, bytes]);
    if (pending.length === 0) return needsMore;
    if (this.#hasGreeted) return this.#takeRequest5();
    switch (pending[0]) {
      case 4:
        return this.#takeRequest4();
      case 5:
        return this.#takeGreeting5();
      default:
        throw new MalformedDataError(`version ${pending[0]} of SOCKS is not known`);
    }
  }

  #takeRequest4(): SocksStep {
    const bytes = this.#pending;
    if (bytes.length < 9) return needsMore;
    const user = nameAt(bytes, 8);
    if (user === undefined) return needsMore;
    const address = bytes.subarray(4, 8);
    const isNamed = address[0] === 0 && address[1] === 0 && address[2] === 0 && address[3] !== 0;
    const name = isNamed ? nameAt(bytes, user.end) : { text: address.join("."), end: user.end };
    if (name === undefined) return needsMore;
    return this.#grant({
      command: bytes[1]!,
      destination: { host: name.text, port: portAt(bytes, 2) },
      end: name.end,
      answer: Uint8Array.of(0, 90, 0, 0, 0, 0, 0, 0),
    });
  }

  #takeGreeting5(): SocksStep {
    const end = 2 + (this.#pending[1] ?? 0);
    if (this.#pending.length < 2 || this.#pending.length < end) return needsMore;
    if (!this.#pending.subarray(2, end).includes(noAuthentication)) {
      throw new MalformedDataError("the client wants to authenticate");
    }
    this.#hasGreeted = true;
    this.#pending = this.#pending.slice(end);
    // It may have sent its request without waiting.
    const { answer, request } = this.take(new Uint8Array());
    return { answer: Uint8Array.of(5, noAuthentication, ...answer), ...request && { request } };
  }

  #takeRequest5(): SocksStep {
    const bytes = this.#pending;
    if (bytes[0] !== 5) throw new MalformedDataError("a request of another version");
    if (bytes.length < 5) return needsMore;
    const kind = bytes[3]!;
    const start = kind === 3 ? 5 : 4;
    const length = kind === 1 ? 4 : kind === 3 ? bytes[4]! : kind === 4 ? 16 : undefined;
    if (length === undefined) throw new MalformedDataError("an unknown kind of address");
    const end = start + length + 2;
    if (bytes.length < end) return needsMore;
    const address = bytes.subarray(start, start + length);
    return this.#grant({
      command: bytes[1]!,
      destination: { host: hostOf(kind, address), port: portAt(bytes, end - 2) },
      end,
      answer: Uint8Array.of(5, 0, 0, 1, 0, 0, 0, 0, bytes[end - 2]!, bytes[end - 1]!),
    });
  }

  #grant({ command, destination, end, answer }: {
    command: number;
    destination: SocksDestination;
    end: number;
    answer: Uint8Array;
  }): SocksStep {
    if (command !== connectCommand) throw new MalformedDataError("it is no request to connect");
    if (destination.host === "") throw new MalformedDataError("the request names no host");
    return { answer, request: { destination, rest: this.#pending.subarray(end) } };
  }
}

/** A name that a NUL ends; `undefined` where it has not all come. */
function nameAt(bytes: Uint8Array, start: number): { text: string; end: number } | undefined {
  const nul = bytes.indexOf(0, start);
  if ((nul === -1 ? bytes.length : nul) - start > longestName4Bytes) {
    throw new MalformedDataError("a name is too long");
  }
  return nul === -1 ? undefined : { text: textOf(bytes.subarray(start, nul)), end: nul + 1 };
}

function hostOf(kind: number, address: Uint8Array): string {
  if (kind === 1) return address.join(".");
  if (kind === 3) {
    if (address.includes(0)) throw new MalformedDataError("a NUL byte within a name");
    return textOf(address);
  }
  const words = Array.from({ length: 8 }, (_, at) => portAt(address, 2 * at).toString(16));
  return canonicalHost(words.join(":"));
}

function portAt(bytes: Uint8Array, at: number): number {
  return bytes[at]! << 8 | bytes[at + 1]!;
}

function textOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
