/** The streams of a client that asks for one forwarded connection, as that connection. */

import type { PipeEnd } from "./channel_pipe.ts";
import type { LaneStreams } from "./lane_streams.ts";

/** The end of a forwarded connection; its streams are closed by whoever has them. */
export class LaneEnd implements PipeEnd {
  readonly #streams: LaneStreams;
  readonly #onClose: () => void;
  readonly #closed = new AbortController();

  /** @param onClose called once, when nothing more passes. */
  constructor(streams: LaneStreams, onClose: () => void) {
    this.#streams = streams;
    this.#onClose = onClose;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    const bytes = await this.#streams.read(buffer.length, this.#closed.signal);
    if (bytes === undefined) return null;
    buffer.set(bytes);
    return bytes.length;
  }

  write(bytes: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#streams.write(bytes, false, ({ isTaken }) => {
        if (isTaken) resolve(bytes.length);
        else reject(new Error("nobody reads it"));
      });
    });
  }

  /** The client shares its streams with others, who would not notice. */
  closeWrite(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    this.#onClose();
  }
}
