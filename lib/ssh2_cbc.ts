/**
 * OpenSSH's defence of ciphers in CBC mode, which ssh2 lacks.
 *
 * There a packet's length is read from its first block before its MAC is known to be right. Whoever
 * can write into the connection may put there any block that the server has sent before; if a bad
 * length ended the connection at once, and another one when that many bytes have come, they would
 * learn some of what is in the block (CPNI-957037). So a bad packet ends it after as many bytes as
 * the longest one has, whatever is wrong with it.
 *
 * Like `ssh2_transport.ts` this builds on private fields of ssh2 1.17.0.
 */

/** OpenSSH's PACKET_MAX_SIZE. */
const maximumPacketBytes = 256 * 1024;

/** What precedes what a packet's length counts. */
const lengthBytes = 4;

/** ssh2's decipher with a separate MAC. */
export interface CbcDecipher {
  /** What the length field of the packet says. */
  _len: number;
  _blockSize: number;
  _macActualLen: number;
  /** Takes the bytes from `at` to `end`; `undefined` once they are used up. */
  decrypt(data: Uint8Array, at: number, end: number): number | undefined;
}

/** Called before it decrypts. */
export function hideFailures(decipher: CbcDecipher): void {
  const decrypt = decipher.decrypt.bind(decipher);
  let failure: Error | undefined;
  let left = 0;
  decipher.decrypt = (data, at, end) => {
    if (failure !== undefined) {
      left -= end - at;
    } else {
      try {
        return decrypt(data, at, end);
      } catch (error) {
        failure = error as Error;
        left = maximumPacketBytes - bytesUntil(failure, decipher);
      }
    }
    if (left <= 0) throw failure;
  };
}

/** How much of the bad packet had come when it was found to be bad. */
function bytesUntil({ message }: Error, decipher: CbcDecipher): number {
  return message === "Invalid MAC"
    ? lengthBytes + decipher._len + decipher._macActualLen
    : decipher._blockSize;
}
