/**
 * Asking the person at the terminal, also when standard input and output lead elsewhere.
 *
 * The terminal's own line editing and echo are used and its modes never touched, so that however
 * the process ends while it asks, the terminal is as before.
 */

/** A person to ask. Questions come one at a time. */
export interface Terminal {
  /**
   * Prints `question` as it is and resolves with the line that is typed, without its line feed;
   * or with null at the end of input (Ctrl-D) or when the terminal is gone.
   *
   * An aborted `signal` rejects with its reason. The line then being typed answers the next
   * question, and until it ends the process is kept alive, unless it exits by `Deno.exit`.
   */
  ask(question: string, options?: { signal?: AbortSignal }): Promise<string | null>;
  /** Gives the terminal back; no question may be open. May be called twice. */
  close(): void;
}

interface Device {
  input: { read(buffer: Uint8Array): Promise<number | null> };
  output: { write(bytes: Uint8Array): Promise<number> };
  close(): void;
}

/** Longer than the longest line that a terminal's line editing lets through on any system. */
const LINE_BUFFER_BYTES = 16 * 1024;

/** Opens the terminal that controls this process; null when there is none. */
export function openTerminal(): Terminal | null {
  const device = Deno.build.os === "windows"
    ? openDevice("\\\\.\\CONIN$", "\\\\.\\CONOUT$") ?? openStandardStreams()
    : openDevice("/dev/tty", "/dev/tty");
  return device === null ? null : new DeviceTerminal(device);
}

/**
 * Asks whether a host key that nothing is known about may be trusted. "yes" and the fingerprint
 * itself mean yes, "no" and the end of input mean no, and after anything else it asks again.
 */
export async function confirmHostKey(
  terminal: Terminal,
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
  for (;;) {
    const answer = (await terminal.ask(question, { signal }))?.trim();
    if (answer === undefined) return false;
    if (answer === fingerprint || answer.toLowerCase() === "yes") return true;
    if (answer.toLowerCase() === "no") return false;
    question = answer.startsWith("SHA256:")
      ? "That is another fingerprint, so this may be another host. Type yes, no, or the fingerprint: "
      : "Type yes, no, or the fingerprint: ";
  }
}

class DeviceTerminal implements Terminal {
  readonly #device: Device;
  #isOpen = true;
  /** The line being typed; it outlives a question that was taken back. */
  #line: Promise<string | null> | null = null;

  constructor(device: Device) {
    this.#device = device;
  }

  async ask(question: string, { signal }: { signal?: AbortSignal } = {}): Promise<string | null> {
    // Not printed at all then.
    signal?.throwIfAborted();
    await this.#print(question);
    this.#line ??= this.#readLine().finally(() => this.#line = null);
    let line: string | null = null;
    try {
      line = await unlessAborted(this.#line, signal);
    } finally {
      // Whatever is printed next starts on a line of its own.
      if (line === null) await this.#print("\n");
    }
    return line;
  }

  close(): void {
    if (this.#isOpen) this.#device.close();
    this.#isOpen = false;
  }

  async #print(text: string): Promise<void> {
    let bytes = new TextEncoder().encode(text);
    try {
      while (bytes.length > 0) bytes = bytes.subarray(await this.#device.output.write(bytes));
    } catch {
      // The terminal is gone, as the next read will tell.
    }
  }

  async #readLine(): Promise<string | null> {
    const decoder = new TextDecoder();
    const buffer = new Uint8Array(LINE_BUFFER_BYTES);
    let line = "";
    while (!line.includes("\n")) {
      let count: number | null;
      try {
        count = await this.#device.input.read(buffer);
      } catch {
        // The terminal was closed: nobody is there to answer.
        return null;
      }
      if (count === null) return line === "" ? null : line;
      line += decoder.decode(buffer.subarray(0, count), { stream: true });
    }
    return line.slice(0, line.indexOf("\n")).replace(/\r$/, "");
  }
}

function openDevice(inputPath: string, outputPath: string): Device | null {
  const files: Deno.FsFile[] = [];
  const close = (): void => files.forEach((file) => file.close());
  try {
    // Two files, for a pending read holds up every write to the same one.
    for (const path of [inputPath, outputPath]) {
      files.push(Deno.openSync(path, { read: true, write: true }));
    }
  } catch {
    // No controlling terminal, whatever the system calls that.
    close();
    return null;
  }
  return { input: files[0]!, output: files[1]!, close };
}

/** Deno on Windows cannot open the console by name in every version. */
function openStandardStreams(): Device | null {
  if (!Deno.stdin.isTerminal() || !Deno.stderr.isTerminal()) return null;
  return { input: Deno.stdin, output: Deno.stderr, close: () => {} };
}

async function unlessAborted<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (signal === undefined) return await promise;
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort);
  // A signal that was aborted before tells nobody any more.
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
