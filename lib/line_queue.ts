/**
 * Lines for standard output or error, which nobody has to read: an unread pipe or a stopped
 * terminal holds up nothing but the lines themselves.
 */

/** Where lines go; `Deno.stderr` is one. */
export interface LineTarget {
  write(bytes: Uint8Array): Promise<number>;
}

/** What waits to be written, in bytes; what comes beyond it is dropped. */
const defaultLimitBytes = 256 * 1024;

const encoder = new TextEncoder();

/** Writes lines in their order, without letting anybody wait for it. */
export class LineQueue {
  readonly #target: LineTarget;
  readonly #limitBytes: number;
  readonly #onDropped: (count: number) => void;
  readonly #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #droppedCount = 0;
  #writing: Promise<void> | undefined;
  /** Whether the target cannot be written to any more. */
  #isBroken = false;

  /** @param onDropped called when there is room again for a word on how many lines were dropped. */
  constructor(
    target: LineTarget,
    { limitBytes = defaultLimitBytes, onDropped = () => {} }: {
      limitBytes?: number;
      onDropped?(count: number): void;
    } = {},
  ) {
    this.#target = target;
    this.#limitBytes = limitBytes;
    this.#onDropped = onDropped;
  }

  /** Takes a line, ended by a newline. */
  write(line: string): void {
    if (this.#isBroken) return;
    const bytes = encoder.encode(line);
    if (this.#waitingBytes + bytes.length > this.#limitBytes) {
      this.#droppedCount++;
      return;
    }
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    this.#writing ??= this.#writeAll();
  }

  /** Resolves when everything that was taken is written, or cannot be. */
  async flushed(): Promise<void> {
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    try {
      while (this.#waiting.length > 0) {
        await writeAll(this.#target, this.#waiting[0]!);
        this.#waitingBytes -= this.#waiting.shift()!.length;
        if (this.#waiting.length === 0) this.#tellDropped();
      }
    } catch {
      // Nobody reads it any more, so there is nobody to be told.
      this.#isBroken = true;
      this.#waiting.length = 0;
    }
    this.#writing = undefined;
  }

  #tellDropped(): void {
    const count = this.#droppedCount;
    this.#droppedCount = 0;
    if (count > 0) this.#onDropped(count);
  }
}

/** Writes all of the bytes, however few are taken at once. */
export async function writeAll(target: LineTarget, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length;) {
    written += await target.write(bytes.subarray(written));
  }
}
