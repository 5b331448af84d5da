/**
 * Tries the system's calls on things of our own, before streams of others are used by them: what this
 * system's headers say may not be so, where nobody has tried it.
 */

import { control, flagsOf, type Libc, makeOurs, openWithoutWaiting } from "./libc.ts";
import { type Descriptors, failed, nothingNow } from "./descriptors.ts";
import { leadToOneFile } from "./descriptor_kind.ts";
import { hasTerminalNow, readWords } from "./process_facts.ts";
import { messageHeader, passingControl } from "./system_layout.ts";
import { encodeTerminalModes, isRaw, termiosBytes } from "./terminal_modes.ts";

const unix = 1;
const stream = 1;
const readAndWrite = 2;

/** How long anything here may take to be ready, in milliseconds. */
const patienceMs = 2000;

const hello = new TextEncoder().encode("hello");

/** A terminal's number of columns that nobody has by chance. */
const oddColumns = 123;

/** Ctrl-C, and its opcode as of those of ECHO and of the end (RFC 4254, section 8). */
const interruptCharacter = 3;
const opcodes = { interrupt: 1, echo: 53 };

/** @throws {Error} with what is not as it should be. */
export async function checkStreams(system: Descriptors, libc: Libc): Promise<void> {
  const opened: number[] = [];
  const check = new StreamCheck(system, libc, (descriptor) => {
    demand(descriptor >= 0, "descriptor");
    opened.push(descriptor);
    return descriptor;
  });
  try {
    await check.passing();
    await check.terminal();
    await check.process();
  } finally {
    for (const descriptor of opened) system.closeOne(descriptor);
  }
}

class StreamCheck {
  readonly #system: Descriptors;
  readonly #libc: Libc;
  readonly #own: (descriptor: number) => number;

  constructor(system: Descriptors, libc: Libc, own: (descriptor: number) => number) {
    this.#system = system;
    this.#libc = libc;
    this.#own = own;
  }

  /** A descriptor that is passed over a socket is the one that was passed. */
  async passing(): Promise<void> {
    const [system, { symbols, layout }] = [this.#system, this.#libc];
    const [one, other] = this.#pair();
    const [end, way] = this.#pair();
    const buffer = new Uint8Array(64);
    for (const it of [one, other, end, way]) {
      const { nonBlocking } = layout.open;
      demand((flagsOf(this.#libc, it) & nonBlocking) !== 0, "calls-that-do-not-wait");
    }
    demand(system.receive(other, buffer) === undefined, "nothing-where-nothing-was-sent");
    demand(system.receiveNow(other, buffer) === nothingNow, "nothing-at-once");

    const vector = BigUint64Array.of(addressOf(hello), BigInt(hello.length));
    const passed = passingControl(layout, [way]);
    const header = messageHeader(layout, {
      ...{ vector: addressOf(vector), control: addressOf(passed), controlLength: passed.length },
    });
    demand(Number(symbols.sendmsg(one, header, 0)) === hello.length, "descriptor-to-pass");
    await this.#ready(other, "readable");
    const received = system.receive(other, buffer);
    demand(received?.descriptors.length === 1, "descriptor-that-was-passed");
    const copy = this.#own(received!.descriptors[0]!);
    demand(text(received!.bytes) === "hello", "what-came-with-it");
    await this.#ready(copy, "writable");
    demand(system.sendNow(copy, hello) === hello.length, "way-by-it");
    await this.#ready(end, "readable");
    demand(system.receiveNow(end, buffer) === hello.length, "end-of-that-way");
    demand(text(buffer.subarray(0, hello.length)) === "hello", "what-went-that-way");

    const peer = system.credentialsOf(one);
    demand(peer?.pid === Deno.pid && peer.uid === Deno.uid(), "whose-a-socket-is");
    demand(!leadToOneFile(this.#libc, one, end), "files-that-are-not-one");
    demand(system.sendNow(-1, hello) === failed, "failure-that-is-one");
  }

  /** A terminal that is opened once more is read without waiting; its modes and dimensions are known. */
  async terminal(): Promise<void> {
    const [system, libc] = [this.#system, this.#libc];
    const { symbols, layout } = libc;
    const path = new TextEncoder().encode("/dev/ptmx\0");
    const { notControlling, closedOnExec } = layout.open;
    const keeper = this.#own(symbols.open(path, readAndWrite | notControlling | closedOnExec));
    demand(symbols.grantpt(keeper) === 0 && symbols.unlockpt(keeper) === 0, "terminal");
    const name = symbols.ptsname(keeper);
    demand(name !== null, "terminal-name");
    const given = new Deno.UnsafePointerView(name!).getCString();
    const passed = this.#own(openWithoutWaiting(libc, given, "input"));
    demand(system.isTerminal(passed) && !system.isOurTerminal(passed), "terminal-of-nobody");
    demand(system.kindOf(passed) === "reopened", "terminal-that-can-be-opened-again");
    const again = this.#own(system.reopen(passed, "input") ?? -1);
    demand(
      system.readNow(again, new Uint8Array(1)) === nothingNow,
      "terminal-that-does-not-wait",
    );

    const size = Uint16Array.of(45, oddColumns, 0, 0);
    demand(control(libc, keeper, layout.windowSize.set, size), "size-to-set");
    demand(system.dimensions(passed)?.columns === oddColumns, "terminal-size");

    const modes = system.terminalModes(passed);
    demand(modes !== undefined && !isRaw(modes) && modeOf(modes, "echo") === 1, "modes");
    demand(modeOf(modes!, "interrupt") === interruptCharacter, "terminal-characters");
    const raw = new Uint8Array(termiosBytes + 64);
    raw.set(modes!);
    symbols.cfmakeraw(raw);
    demand(symbols.tcsetattr(passed, 0, raw) === 0, "modes-to-set");
    const rawModes = system.terminalModes(passed);
    demand(rawModes && isRaw(rawModes) && modeOf(rawModes, "echo") === 0, "raw-modes");

    demand(system.writeNow(keeper, hello) === hello.length, "something-to-read");
    await this.#ready(again, "readable");
    const typed = new Uint8Array(64);
    demand(system.readNow(again, typed) === hello.length, "what-was-typed");
    demand(text(typed.subarray(0, hello.length)) === "hello", "what-was-typed-as-it-was");
  }

  /** What a process was started with, and whose its terminal is. */
  async process(): Promise<void> {
    const words = await readWords(Deno.pid, "cmdline");
    demand(words !== undefined && words[0] !== undefined && words[0] !== "", "our-own-arguments");
    demand(await hasTerminalNow(Deno.pid) !== undefined, "whose-our-terminal-is");
  }

  #pair(): [number, number] {
    const ends = new Int32Array(2);
    const { open, setsFlagsAtOnce } = this.#libc.layout;
    const flags = setsFlagsAtOnce ? open.closedOnExec | open.nonBlocking : 0;
    demand(this.#libc.symbols.socketpair(unix, stream | flags, 0, ends) === 0, "two-sockets");
    for (const end of ends) makeOurs(this.#libc, this.#own(end));
    return [ends[0]!, ends[1]!];
  }

  async #ready(descriptor: number, readiness: "readable" | "writable"): Promise<void> {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), patienceMs);
    const isReady = await this.#system.when(descriptor, readiness, late.signal);
    clearTimeout(timer);
    demand(isReady, readiness);
  }
}

function demand(isThere: boolean | undefined, what: string): asserts isThere {
  if (!isThere) throw new Error(`the system's calls are not as they should be: ${what}`);
}

function modeOf(termios: Uint8Array, name: keyof typeof opcodes): number | undefined {
  const encoded = encodeTerminalModes(termios);
  for (let at = 0; at + 5 <= encoded.length; at += 5) {
    if (encoded[at] === opcodes[name]) return encoded[at + 4];
  }
  return undefined;
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function addressOf(buffer: ArrayBufferView<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer));
}
