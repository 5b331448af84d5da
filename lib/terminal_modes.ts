/**
 * The modes of a terminal, as the system keeps them on Linux (termios(3)), in the encoding of
 * RFC 4254, section 8.
 */

import { Buffer } from "node:buffer";

/** How much of the system's structure there is, in bytes. */
export const termiosBytes = 60;

/** Where its parts are. */
const flagsAt = { input: 0, output: 4, control: 8, local: 12 } as const;
const charactersAt = 17;

/** A character that is switched off: the system's, and the protocol's. */
const disabled = 0;
const disabledInProtocol = 255;

/** opcode: index of the character. */
const characters: Record<number, number> = {
  ...{ 1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 11, 7: 16, 8: 8, 9: 9, 10: 10 },
  ...{ 12: 12, 13: 14, 14: 15, 18: 13 },
};

/** opcode: which of the flags, and its bits; any of them counts, as with OpenSSH. */
const flags: Record<number, readonly [keyof typeof flagsAt, number]> = {
  30: ["input", 0o4],
  31: ["input", 0o10],
  32: ["input", 0o20],
  33: ["input", 0o40],
  34: ["input", 0o100],
  35: ["input", 0o200],
  36: ["input", 0o400],
  37: ["input", 0o1000],
  38: ["input", 0o2000],
  39: ["input", 0o4000],
  40: ["input", 0o10000],
  41: ["input", 0o20000],
  42: ["input", 0o40000],
  50: ["local", 0o1],
  51: ["local", 0o2],
  52: ["local", 0o4],
  53: ["local", 0o10],
  54: ["local", 0o20],
  55: ["local", 0o40],
  56: ["local", 0o100],
  57: ["local", 0o200],
  58: ["local", 0o400],
  59: ["local", 0o100000],
  60: ["local", 0o1000],
  61: ["local", 0o4000],
  62: ["local", 0o40000],
  70: ["output", 0o1],
  71: ["output", 0o2],
  72: ["output", 0o4],
  73: ["output", 0o10],
  74: ["output", 0o20],
  75: ["output", 0o40],
  90: ["control", 0o40],
  91: ["control", 0o60],
  92: ["control", 0o400],
  93: ["control", 0o1000],
};

/** The speeds, in bits per second, by the system's numbers: those from 0, and those from 4097. */
const slowSpeeds = [
  ...[0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400],
];
const fastSpeeds = [57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000];
const speedBits = 0o10017;
const fastSpeedsFrom = 0o10001;

/** Opcodes of the speeds and of the end. */
const inputSpeed = 128;
const outputSpeed = 129;
const end = 0;

/** Whether a terminal shows what is written as it is. @param termios the system's structure. */
export function isRaw(termios: Uint8Array): boolean {
  const view = new DataView(termios.buffer, termios.byteOffset, termios.byteLength);
  const processed = 0o1;
  return (view.getUint32(flagsAt.output, true) & processed) === 0;
}

/** @param termios the system's structure. */
export function encodeTerminalModes(termios: Uint8Array): Uint8Array {
  const view = new DataView(termios.buffer, termios.byteOffset, termios.byteLength);
  // The system's numbers are in this machine's order, which is little-endian wherever Deno runs.
  const flagsOf = (kind: keyof typeof flagsAt) => view.getUint32(flagsAt[kind], true);
  const speed = flagsOf("control") & speedBits;
  const bitsPerSecond = slowSpeeds[speed] ?? fastSpeeds[speed - fastSpeedsFrom] ?? 9600;
  const encoded: [opcode: number, value: number][] = [
    [outputSpeed, bitsPerSecond],
    [inputSpeed, bitsPerSecond],
    ...Object.entries(characters).map(([opcode, index]): [number, number] => {
      const character = termios[charactersAt + index]!;
      return [Number(opcode), character === disabled ? disabledInProtocol : character];
    }),
    ...Object.entries(flags).map(([opcode, [kind, bits]]): [number, number] => [
      Number(opcode),
      (flagsOf(kind) & bits) === 0 ? 0 : 1,
    ]),
  ];
  const bytes = Buffer.alloc(encoded.length * 5 + 1);
  encoded.forEach(([opcode, value], index) => {
    bytes[index * 5] = opcode;
    bytes.writeUInt32BE(value, index * 5 + 1);
  });
  bytes[encoded.length * 5] = end;
  return bytes;
}
