/** Memory to read into, small until a read fills it: most of what is read is typed, or nothing. */
export class ReadBuffer {
  #length: number;
  readonly #mostBytes: number;
  #memory: Uint8Array<ArrayBuffer> | undefined;

  /** How large it is at first, and at most; in bytes. */
  constructor({ firstBytes, mostBytes }: { firstBytes: number; mostBytes: number }) {
    this.#length = firstBytes;
    this.#mostBytes = mostBytes;
  }

  /** Where the next read goes, over the one before. */
  space(mostBytes = Infinity): Uint8Array<ArrayBuffer> {
    this.#memory ??= new Uint8Array(this.#length);
    return this.#memory.subarray(0, mostBytes);
  }

  /** A read has brought so many bytes, which stay as they are until the next one. */
  onRead(bytes: number): void {
    if (bytes < this.#length || bytes >= this.#mostBytes) return;
    this.#length = Math.min(4 * bytes, this.#mostBytes);
    this.#memory = undefined;
  }
}
