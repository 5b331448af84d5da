/**
 * Lets ssh2 take packets of up to 256 KiB, as OpenSSH does; its own limit is 35,000 bytes, and a
 * command line alone can be longer.
 *
 * The limit is a constant inside ssh2, but its deciphers compare `_len` with it right after they
 * have read a packet's length, and never again. So `_len` becomes an accessor, whose first answer
 * after a new value is no larger than that constant. Like `ssh2_transport.ts` this builds on private
 * fields of ssh2 1.17.0.
 */

/** ssh2's MAX_PACKET_SIZE, less what it adds for some ciphers before it compares. */
const ssh2Limit = 34_000;

/** What is taken, in bytes: OpenSSH's PACKET_MAX_SIZE. */
const maximumPacketBytes = 256 * 1024;

/** The fields of an ssh2 decipher that are used here. */
export interface Decipher {
  /** Absent in our own. */
  _len?: number;
  /** Of the ciphers with a separate MAC: whether it covers the encrypted bytes. */
  _macETM?: boolean;
}

const length = Symbol("packet length");
const isChecked = Symbol("whether the length was compared with the limit");

interface PatchedDecipher extends Decipher {
  [length]: number;
  [isChecked]: boolean;
}

/** Called for each decipher that a key exchange makes, before it decrypts. */
export function allowLargePackets(decipher: Decipher): void {
  // Without encrypt-then-MAC another field is computed from the length first: no such luck there.
  if (decipher._macETM === false || decipher._len === undefined) return;
  const prototype = Object.getPrototypeOf(decipher);
  if (!Object.hasOwn(prototype, "_len")) Object.defineProperty(prototype, "_len", accessor);
  const { _len } = decipher;
  delete (decipher as Partial<Decipher>)._len;
  decipher._len = _len;
}

const accessor: PropertyDescriptor & ThisType<PatchedDecipher> = {
  configurable: true,
  get() {
    if (this[isChecked] || this[length] > maximumPacketBytes) return this[length];
    this[isChecked] = true;
    return Math.min(this[length], ssh2Limit);
  },
  set(value: number) {
    this[length] = value;
    this[isChecked] = false;
  },
};
