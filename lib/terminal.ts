/**
 * Asking the person at the terminal, also when standard input and output lead elsewhere.
 *
 * Where the answer may be seen, the terminal's own line editing and echo are used. A secret is read
 * without echo; the modes are restored however the question ends. They cannot be set while a write
 * waits for a terminal that somebody has stopped (Ctrl-S), and the whole program would wait as well:
 * so that is waited for first, and at the exit they are left as they are then. As with ssh, what was
 * typed before a question does not answer it: it was meant for something else, perhaps for another
 * host.
 */

import { openNonblocking } from "./nonblocking_file.ts";
import { unlessAborted } from "./timing.ts";

/** A person to ask. Questions come one at a time. */
export interface Terminal {
  /**
   * Prints `question` as it is and resolves with the line that is typed, without its line feed;
   * or with `undefined` at the end of input (Ctrl-D) or when the terminal is gone. What is typed is shown
   * unless `echo` is false.
   *
   * An aborted `signal` rejects with its reason. Until something is typed then the process is kept
   * alive, unless it exits by `Deno.exit`.
   */
  ask(
    question: string,
    options?: { echo?: boolean; signal?: AbortSignal },
  ): Promise<string | undefined>;
  /** Gives the terminal back; no question may be open. May be called twice. */
  close(): void;
}

interface Device {
  input: {
    read(buffer: Uint8Array): Promise<number | null>;
    setRaw(isRaw: boolean, options?: { cbreak: boolean }): void;
  };
  output: { write(bytes: Uint8Array): Promise<number> };
  /** Whether it takes output at this moment; a terminal that is stopped does not. */
  takesOutput(): boolean;
  /** Forgets what has been typed and not been read. */
  discardTyped(): void;
  close(): void;
}

/** How long a read that is left of an earlier question gets to take what was typed, in ms. */
const leftReadMs = 50;

/** Longer than the longest line that a terminal's line editing lets through on any system; in bytes. */
const lineBufferBytes = 16 * 1024;

/** Opens the terminal that controls this process; `undefined` when there is none. */
export function openTerminal(): Terminal | undefined {
  const device = Deno.build.os === "windows"
    ? openDevice("\\\\.\\CONIN$", "\\\\.\\CONOUT$") ?? openStandardStreams()
    : openDevice("/dev/tty", "/dev/tty");
  return device && new DeviceTerminal(device);
}

/**
 * Asks whether a host key that nothing is known about may be trusted. "yes" and the fingerprint
 * itself mean yes, "no" and the end of input mean no, and after anything else it asks again.
 */
export async function confirmHostKey(
  terminal: Pick<Terminal, "ask">,
  key: {
    host: string;
    port: number;
    keyType: string;
    fingerprint: string;
    /** Takes the question back; the promise rejects with its reason. */
    signal?: AbortSignal;
  },
): Promise<boolean> {
  const { host, port, keyType, fingerprint, signal } = key;
  let question = `No known_hosts file has a key for "${host}", port ${port}.\n` +
    `It shows an ${keyType} key with the fingerprint\n  ${fingerprint}\n` +
    `Do you trust this key? Type yes, no, or the fingerprint that you expect: `;
  while (true) {
    const answer = (await terminal.ask(question, { signal }))?.trim();
    if (answer === undefined) return false;
    if (answer === fingerprint || answer.toLowerCase() === "yes") return true;
    if (answer.toLowerCase() === "no") return false;
    question = answer.startsWith("SHA256:")
      ? "That is another fingerprint, so this may be another host. Type yes, no, or the fingerprint: "
      : "Type yes, no, or the fingerprint: ";
  }
}

/** One read of what is typed. */
interface Typed {
  /** `undefined` at the end of input, or when the terminal was closed. */
  bytes: Promise<Uint8Array | undefined>;
  hasCome: boolean;
}

class DeviceTerminal implements Terminal {
  readonly #device: Device;
  #isOpen = true;
  /** What is typed next, until it is taken; it outlives a question that was taken back. */
  #typed: Typed | undefined;
  /** The modes are those from before the last question. */
  #restored: Promise<void> = Promise.resolve();

  constructor(device: Device) {
    this.#device = device;
  }

  async ask(
    question: string,
    { echo = true, signal }: { echo?: boolean; signal?: AbortSignal } = {},
  ): Promise<string | undefined> {
    // Not printed at all then.
    signal?.throwIfAborted();
    await unlessAborted(this.#restored, signal);
    await this.#untilWritten(signal);
    const { input } = this.#device;
    const restore = () => {
      try {
        input.setRaw(false);
      } catch {
        // The terminal is gone, and its modes with it.
      }
    };
    try {
      // Without the line editing, but with the keys that send signals.
      input.setRaw(true, { cbreak: true });
    } catch {
      return undefined;
    }
    const restoreAtExit = () => {
      if (this.#device.takesOutput()) restore();
    };
    globalThis.addEventListener("unload", restoreAtExit);
    try {
      await this.#forgetTyped();
      signal?.throwIfAborted();
      if (!echo) return await this.#askSecret(question, signal);
      await this.#untilWritten(signal);
      restore();
      return await this.#askLine(question, signal);
    } finally {
      this.#restored = this.#untilWritten().then(() => {
        globalThis.removeEventListener("unload", restoreAtExit);
        restore();
      });
      await unlessAborted(this.#restored, signal);
    }
  }

  /** Nothing waits to be written to the terminal, by whomever: a write of nothing comes after that. */
  async #untilWritten(signal?: AbortSignal): Promise<void> {
    const written = this.#device.output.write(new Uint8Array(0)).then(() => {}, () => {});
    await unlessAborted(written, signal);
  }

  /** Half a line, too: without the line editing it can be read. */
  async #forgetTyped(): Promise<void> {
    if (this.#typed) {
      const { promise: given, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, leftReadMs);
      await Promise.race([this.#typed.bytes, given]);
      clearTimeout(timer);
    }
    this.#device.discardTyped();
  }

  /** What comes from here on may be the answer, also before it is read. */
  async #printQuestion(question: string, signal?: AbortSignal): Promise<void> {
    if (this.#typed?.hasCome) this.#typed = undefined;
    await this.#print(question, signal);
  }

  async #askLine(question: string, signal?: AbortSignal): Promise<string | undefined> {
    await this.#printQuestion(question, signal);
    let line: string | undefined;
    try {
      line = await this.#readLine(signal);
    } finally {
      // Whatever is printed next starts on a line of its own.
      if (line === undefined) await this.#print("\n", signal);
    }
    return line;
  }

  /** Echo is off already, so that nothing typed ahead of the question is seen. */
  async #askSecret(question: string, signal?: AbortSignal): Promise<string | undefined> {
    try {
      await this.#printQuestion(question, signal);
      return await this.#readSecret(signal);
    } finally {
      await this.#print("\n", signal);
    }
  }

  async #readSecret(signal?: AbortSignal): Promise<string | undefined> {
    const typed: number[] = [];
    while (true) {
      const bytes = await this.#read(signal);
      if (bytes === undefined) return undefined;
      for (const byte of bytes) {
        if (byte === Key.enter || byte === Key.lineFeed) {
          return new TextDecoder().decode(Uint8Array.from(typed));
        }
        if (byte === Key.endOfInput && typed.length === 0) return undefined;
        if (byte === Key.clear) typed.length = 0;
        else if (byte === Key.backspace || byte === Key.delete) removeLastCharacter(typed);
        else typed.push(byte);
      }
    }
  }

  close(): void {
    if (this.#isOpen) this.#device.close();
    this.#isOpen = false;
  }

  /** What is not written when `signal` is aborted is written later. */
  async #print(text: string, signal?: AbortSignal): Promise<void> {
    await unlessAborted(this.#write(text), signal);
  }

  async #write(text: string): Promise<void> {
    let bytes = new TextEncoder().encode(text);
    try {
      while (bytes.length > 0) bytes = bytes.subarray(await this.#device.output.write(bytes));
    } catch {
      // The terminal is gone, as the next read will tell.
    }
  }

  async #readLine(signal?: AbortSignal): Promise<string | undefined> {
    const decoder = new TextDecoder();
    let line = "";
    while (!line.includes("\n")) {
      const bytes = await this.#read(signal);
      if (bytes === undefined) return line === "" ? undefined : line;
      line += decoder.decode(bytes, { stream: true });
    }
    return line.slice(0, line.indexOf("\n")).replace(/\r$/, "");
  }

  /** What is typed next; `undefined` at the end of input, or when the terminal was closed. */
  async #read(signal?: AbortSignal): Promise<Uint8Array | undefined> {
    this.#typed ??= this.#readNext();
    const bytes = await unlessAborted(this.#typed.bytes, signal);
    this.#typed = undefined;
    return bytes;
  }

  #readNext(): Typed {
    const buffer = new Uint8Array(lineBufferBytes);
    const typed: Typed = {
      bytes: this.#device.input.read(buffer)
        .then((count) => count === null ? undefined : buffer.subarray(0, count), () => undefined)
        .finally(() => typed.hasCome = true),
      hasCome: false,
    };
    return typed;
  }
}

/** What the terminal's line editing would act on. */
const Key = {
  endOfInput: 0x04,
  backspace: 0x08,
  lineFeed: 0x0a,
  enter: 0x0d,
  clear: 0x15,
  delete: 0x7f,
} as const;

/** Removes the last character of UTF-8 bytes. */
function removeLastCharacter(bytes: number[]): void {
  let byte = bytes.pop();
  while (byte !== undefined && (byte & 0xc0) === 0x80) byte = bytes.pop();
}

function openDevice(inputPath: string, outputPath: string): Device | undefined {
  const files: Deno.FsFile[] = [];
  const close = () => files.forEach((file) => file.close());
  try {
    // Two files, for a pending read holds up every write to the same one.
    for (const path of [inputPath, outputPath]) {
      files.push(Deno.openSync(path, { read: true, write: true }));
    }
  } catch {
    // No controlling terminal, whatever the system calls that.
    close();
    return undefined;
  }
  return {
    input: files[0]!,
    output: files[1]!,
    takesOutput: () => takesOutput(outputPath),
    discardTyped: () => discardTyped(inputPath),
    close,
  };
}

/** Reads a terminal empty; that of Windows has no such reads. */
function discardTyped(path: string): void {
  if (Deno.build.os === "windows") return;
  const buffer = new Uint8Array(lineBufferBytes);
  try {
    using file = openNonblocking(path, "input");
    while (file.read(buffer) > 0);
  } catch {
    // Nothing is left to be read, or the terminal is gone, as the next read will tell.
  }
}

/** Tries with a NUL, which no terminal shows; that of Windows has no such writes. */
function takesOutput(path: string): boolean {
  if (Deno.build.os === "windows") return true;
  try {
    using file = openNonblocking(path, "output");
    return file.write(new Uint8Array(1)) > 0;
  } catch {
    return false;
  }
}

/** Deno on Windows cannot open the console by name in every version. */
function openStandardStreams(): Device | undefined {
  if (!Deno.stdin.isTerminal() || !Deno.stderr.isTerminal()) return undefined;
  const nothing = () => {};
  return {
    input: Deno.stdin,
    output: Deno.stderr,
    takesOutput: () => true,
    discardTyped: nothing,
    close: nothing,
  };
}
