/** Loaded into the shim: it begins a key exchange after each MB that a logged-in peer sent. */

import Protocol from "ssh2/lib/protocol/Protocol.js";
import { rekeyBytes } from "./peer_cases.ts";

interface Ssh2Protocol {
  _authenticated: boolean;
  _kexinit: unknown;
  rekey(): void;
  parse(chunk: Uint8Array, start: number, length: number): void;
}

const { prototype } = Protocol as unknown as { prototype: Ssh2Protocol };
const { parse } = prototype;
const received = new WeakMap<Ssh2Protocol, number>();

prototype.parse = function (chunk, start, length) {
  parse.call(this, chunk, start, length);
  const bytes = (received.get(this) ?? 0) + length;
  const isDue = bytes >= rekeyBytes && this._authenticated && this._kexinit === undefined;
  received.set(this, isDue ? 0 : bytes);
  if (!isDue) return;
  console.error("early rekey");
  this.rekey();
};
