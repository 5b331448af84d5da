/**
 * The fuzzer's side `control`: clients of the control socket that send wrong messages, with streams
 * that are real, beside a bystander with an open session.
 */

import assert from "node:assert/strict";
import { Control } from "../../lib/control.ts";
import { ControlConnection } from "../../lib/control_connection.ts";
import { ControlType } from "../../lib/control_messages.ts";
import type { ControlSocket } from "../../lib/control_socket.ts";
import type { ControlStream } from "../../lib/control_stream.ts";
import { Descriptors } from "../../lib/descriptors.ts";
import { type Libc, loadLibc } from "../../lib/libc.ts";
import { concatenate, encodeFields, type Field, writeUint32 } from "../../lib/ssh_data.ts";
import { MessageType } from "../../lib/wire.ts";
import { Mutator } from "./fuzz_mutations.ts";
import type { Trace } from "./fuzz_trace.ts";
import "./loaded_libc.ts";
import { type MemoryPeer, type Sent, World } from "./memory.ts";
import type { Random } from "./models.ts";
import { waitUntil } from "./processes.ts";

const clientsPerCase = 4;
const mostMessages = 12;

const readAndWrite = 2;
const closedOnExec = 0o2000000;

const noEscape = 0xffffffff;

/** Runs one case. @returns how many messages it had. @throws {Error} where somebody was harmed. */
export async function runControlCase(random: Random, trace: Trace): Promise<number> {
  // No mutant is to reach the display of whoever runs this.
  Deno.env.delete("DISPLAY");
  const before = await openDescriptors();
  const world = new World({ channels: 20 });
  const bystander = world.client("bystander");
  const channel = world.open(bystander);
  const upstream = new HastyUpstream(world.upstream, random);
  const libc = loadLibc();
  const system = new Descriptors(libc);
  const control = new Control(noSocket as unknown as ControlSocket, {
    ...{ relay: world.relay, alias: "host", system, objection: undefined, reception: undefined },
    ...{ agentSocket: undefined, identify: () => Promise.resolve(undefined) },
    presence: { enter() {}, leave() {} },
    nextClientId: () => 1,
    forwards: {
      open: () => Promise.resolve({ port: 1, close: () => Promise.resolve() }),
      close: () => Promise.reject(new Error("there is none")),
    },
    inform: (name) => Promise.resolve(name),
    onOwnRequest: (text, answer) => Promise.resolve(answer.send(text, { isLast: true })),
    onTerminate() {},
  });
  let messages = 0;
  try {
    for (let count = 0; count < clientsPerCase; count++) {
      messages += await runMutant(control, { random, trace, libc, upstream });
    }
    await upstream.settle();
    await waitUntil("all of them have left", () => Promise.resolve(world.relay.channelCount === 1));
    world.upstream.onSent = undefined;
    assert.equal(world.upstream.fault, undefined);
    assert.equal(world.upstream.ending, undefined);
    channel.expectAlive();
  } finally {
    system.close();
  }
  const isClosed = async () => await openDescriptors() <= before;
  await waitUntil("what they have passed is closed", isClosed);
  return messages;
}

/** One client comes, sends messages, and leaves. @returns how many messages. */
async function runMutant(
  control: Control,
  { random, trace, libc, upstream }: {
    random: Random;
    trace: Trace;
    libc: Libc;
    upstream: HastyUpstream;
  },
): Promise<number> {
  const stream = new ScriptedStream(libc);
  const served = new ControlConnection(stream, control).serve();
  const mutator = new Mutator(random, { said: [], numbers: () => [0, 1] });
  const wildness = random.pick([0, 0.1, 0.5]);
  const count = 1 + random.below(mostMessages);
  let isProxy = false as boolean;
  for (let at = 0; at < count && !stream.isClosed; at++) {
    const parts: Uint8Array[] = isProxy ? mutator.next().map(packetOf) : [requestOf(random)];
    for (const part of parts.flatMap((it) => random.chance(wildness) ? mutator.mutate(it) : [it])) {
      const length = new Uint8Array(4);
      writeUint32(length, 0, random.chance(wildness / 10) ? random.below(2 ** 32) : part.length);
      const bytes = concatenate([length, part]);
      trace.note("client", bytes);
      isProxy ||= part[0] === 0x10 && part[3] === (ControlType.proxy & 0xff);
      const cut = random.below(bytes.length + 1);
      stream.feed(bytes.slice(0, cut), []);
      stream.feed(bytes.slice(cut), []);
    }
    const passed = random.chance(0.7) ? 3 : random.below(5);
    for (let index = 0; !isProxy && index < passed; index++) {
      stream.feed(Uint8Array.of(0), random.chance(0.9) ? [stream.open(random)] : []);
    }
    if (random.chance(0.7)) await upstream.settle();
  }
  trace.note("client leaves");
  stream.end();
  await served;
  assert(stream.isClosed, "the connection is left open");
  stream.closeOthers();
  return count;
}

/** Requests as they should be. */
function requestOf(random: Random): Uint8Array {
  const flag = () => random.below(2);
  const end = () => random.pick<[string, number]>([["host", 80], ["/path", 0xfffffffe], ["", 0]]);
  const id = random.below(3);
  const requests: Field[][] = [
    [ControlType.hello, 4],
    ...Array<Field[]>(4).fill([
      ...[ControlType.newSession, id, "", flag(), flag(), flag(), flag()],
      ...[random.pick([noEscape, 126]), "xterm", random.pick(["", "true"]), "A=1", "B", "=", "C=="],
    ]),
    [ControlType.newStdioForward, id, "", ...end()],
    [ControlType.aliveCheck, id],
    [ControlType.terminate, id],
    [ControlType.stopListening, id],
    [ControlType.openForward, id, 1 + random.below(3), ...end(), ...end()],
    [ControlType.closeForward, id, 1 + random.below(3), ...end(), ...end()],
    [ControlType.info, id, "connection"],
    [ControlType.own, id, '{"request":"status"}'],
    [ControlType.proxy, id],
  ];
  return encodeFields(...random.pick(requests));
}

/** A packet of proxy mode, without its length. */
function packetOf(payload: Uint8Array): Uint8Array {
  return concatenate([Uint8Array.of(0), payload]);
}

const noSocket = { isHidden: false, stopListening() {} };

/** A connection whose other end is the fuzzer. */
class ScriptedStream implements ControlStream {
  readonly passesDescriptors = true;
  readonly peer = undefined;
  readonly backlogBytes = 0;
  onDrain: (() => void) | undefined;
  isClosed = false;
  readonly #libc: Libc;
  readonly #fed: { bytes: Uint8Array; descriptors: number[] }[] = [];
  readonly #others: number[] = [];
  #waiting: number[] = [];
  #hasEnded = false;
  #onFed: (() => void) | undefined;

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /** A descriptor to pass, of one kind or another. */
  open(random: Random): number {
    const { symbols } = this.#libc;
    if (random.chance(0.5)) {
      return symbols.open(new TextEncoder().encode("/dev/null\0"), readAndWrite | closedOnExec);
    }
    const ends = new Int32Array(2);
    assert(symbols.pipe(ends, closedOnExec) >= 0);
    const passed = random.below(2);
    this.#others.push(ends[1 - passed]!);
    return ends[passed]!;
  }

  feed(bytes: Uint8Array, descriptors: number[]): void {
    if (this.isClosed) return this.closeDescriptors(descriptors);
    this.#fed.push({ bytes, descriptors });
    this.#onFed?.();
  }

  end(): void {
    this.#hasEnded = true;
    this.#onFed?.();
  }

  closeOthers(): void {
    this.closeDescriptors(this.#others.splice(0));
  }

  async read(): Promise<Uint8Array | undefined> {
    for (;;) {
      const next = this.isClosed ? undefined : this.#fed.shift();
      if (next) {
        this.#waiting.push(...next.descriptors);
        if (next.bytes.length > 0) return next.bytes;
      } else if (this.isClosed || this.#hasEnded) return undefined;
      else await new Promise<void>((resolve) => this.#onFed = resolve);
    }
  }

  send(): void {}

  takeDescriptors(count: number): number[] | undefined {
    const descriptors = this.#waiting;
    this.#waiting = [];
    if (descriptors.length === count) return descriptors;
    this.closeDescriptors(descriptors);
    return undefined;
  }

  closeDescriptors(descriptors: readonly number[]): void {
    for (const descriptor of descriptors) this.#libc.symbols.close(descriptor);
  }

  close(): void {
    this.isClosed = true;
    for (const { descriptors } of this.#fed.splice(0)) this.closeDescriptors(descriptors);
    this.takeDescriptors(0);
    this.#onFed?.();
  }
}

/** An upstream that answers whatever is asked, one way or the other. */
class HastyUpstream {
  readonly #peer: MemoryPeer;
  readonly #random: Random;
  readonly #due: (() => void)[] = [];
  #lastChannel = 1_000_000;

  constructor(peer: MemoryPeer, random: Random) {
    this.#peer = peer;
    this.#random = random;
    peer.onSent = (sent) => this.#onSent(sent);
  }

  /** Does what is due, until nothing is. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 3; quiet++) {
      await new Promise((resolve) => setTimeout(resolve, 0));
      for (let next = this.#due.shift(); next; next = this.#due.shift()) {
        next();
        quiet = 0;
      }
    }
  }

  /** The relay's numbers of channels, by ours. */
  readonly #slots = new Map<number, number>();

  #onSent({ message }: Sent): void {
    const { channelOpenConfirmation, channelOpenFailure, channelClose } = MessageType;
    switch (message.type) {
      case MessageType.channelOpen: {
        if (this.#random.chance(0.2)) {
          return this.#say(channelOpenFailure, message.senderChannel, 2, "no", "");
        }
        const own = ++this.#lastChannel;
        this.#slots.set(own, message.senderChannel);
        const window = this.#random.pick([0, 10, 2 ** 21]);
        return this.#say(channelOpenConfirmation, message.senderChannel, own, window, 32_768);
      }
      case MessageType.globalRequest:
        if (message.wantReply) this.#say(MessageType.requestFailure);
        return;
      case MessageType.channelRequest:
        if (message.wantReply) this.#answer(message.recipientChannel);
        return;
      case channelClose: {
        const slot = this.#slots.get(message.recipientChannel);
        if (slot === undefined) return;
        this.#slots.delete(message.recipientChannel);
        return this.#say(channelClose, slot);
      }
    }
  }

  #answer(own: number): void {
    const { channelSuccess, channelFailure, channelData, channelRequest, channelClose } =
      MessageType;
    const isGranted = this.#random.chance(0.8);
    const slot = this.#slots.get(own);
    if (slot === undefined) return;
    this.#say(isGranted ? channelSuccess : channelFailure, slot);
    if (this.#random.chance(0.5)) {
      this.#say(channelData, slot, "x".repeat(this.#random.below(9000)));
    }
    if (this.#random.chance(0.7)) return;
    this.#slots.delete(own);
    this.#say(channelRequest, slot, "exit-status", false, 3);
    this.#say(channelClose, slot);
  }

  #say(type: number, ...fields: Field[]): void {
    this.#due.push(() => this.#peer.say(type, ...fields));
  }
}

/** How many there are of the kinds that are passed. */
async function openDescriptors(): Promise<number> {
  const folder = "/proc/self/fd";
  const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
  const places = await Promise.all(
    names.map((name) => Deno.readLink(`${folder}/${name}`).catch(() => "")),
  );
  return places.filter((place) => /^(pipe:|\/dev\/null$)/.test(place)).length;
}
