/**
 * Lets ssh2 take packets of up to 256 KiB, as OpenSSH does; its own limit is 35,000 bytes, and a
 * command line alone can be longer.
 *
 * The limit is a constant inside ssh2, but its deciphers compare `_len` with it right after they
 * have read a packet's length, and never again. So `_len` becomes an accessor, whose answer to that
 * comparison is no larger than the constant: the first after a new value, or the second where the
 * MAC does not cover the encrypted bytes, since there the first one tells what is still to come.
 * Like `ssh2_transport.ts` this builds on private fields of ssh2 1.17.0.
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
const readsUntilCompared = Symbol("how often the length is read before and with the comparison");

interface PatchedDecipher extends Decipher {
  [length]: number;
  [readsUntilCompared]: number;
}

/** Called for each decipher that a key exchange makes, before it decrypts. */
export function allowLargePackets(decipher: Decipher): void {
  if (decipher._len === undefined) return;
  const prototype = Object.getPrototypeOf(decipher);
  if (!Object.hasOwn(prototype, "_len")) Object.defineProperty(prototype, "_len", accessor);
  const { _len } = decipher;
  delete (decipher as Partial<Decipher>)._len;
  decipher._len = _len;
}

const accessor: PropertyDescriptor & ThisType<PatchedDecipher> = {
  configurable: true,
  get() {
    if (this[readsUntilCompared] > 0) this[readsUntilCompared]--;
    else return this[length];
    const isCompared = this[readsUntilCompared] === 0 && this[length] <= maximumPacketBytes;
    return isCompared ? Math.min(this[length], ssh2Limit) : this[length];
  },
  set(value: number) {
    this[length] = value;
    this[readsUntilCompared] = this._macETM === false ? 2 : 1;
  },
};
