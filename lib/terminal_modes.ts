/**
 * The modes of a terminal, as the system keeps them (termios(3)), in the encoding of RFC 4254,
 * section 8.
 */

import { Buffer } from "node:buffer";

/** How much of the system's structure there is at most, in bytes. */
export const termiosBytes = 72;

type FlagKind = "input" | "output" | "control" | "local";

/** The structure of one system. */
export interface TerminalLayout {
  /** Where its parts are, of which the lower 32 bits count. */
  flagsAt: Readonly<Record<FlagKind, number>>;
  charactersAt: number;
  /** A character that is switched off. */
  disabled: number;
  /** opcode: index of the character. */
  characters: Readonly<Record<number, number>>;
  /** opcode: which of the flags, and its bits; any of them counts, as with OpenSSH. */
  flags: Readonly<Record<number, readonly [FlagKind, number]>>;
  /** In bits per second. */
  speedOf(view: DataView): number;
}

/** The same in the protocol. */
const disabledInProtocol = 255;

const linuxCharacters = {
  ...{ 1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 11, 7: 16, 8: 8, 9: 9, 10: 10 },
  ...{ 12: 12, 13: 14, 14: 15, 18: 13 },
};

const linuxFlags: TerminalLayout["flags"] = {
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

export const linuxTerminal: TerminalLayout = {
  flagsAt: { input: 0, output: 4, control: 8, local: 12 },
  charactersAt: 17,
  disabled: 0,
  characters: linuxCharacters,
  flags: linuxFlags,
  speedOf(view) {
    const speed = view.getUint32(8, true) & speedBits;
    return slowSpeeds[speed] ?? fastSpeeds[speed - fastSpeedsFrom] ?? 9600;
  },
};

/** macOS: flags of 64 bits, and speeds as they are. */
export const macTerminal: TerminalLayout = {
  flagsAt: { input: 0, output: 8, control: 16, local: 24 },
  charactersAt: 32,
  disabled: 255,
  characters: {
    ...{ 1: 8, 2: 9, 3: 3, 4: 5, 5: 0, 6: 1, 7: 2, 8: 12, 9: 13, 10: 10, 11: 11 },
    ...{ 12: 6, 13: 4, 14: 14, 17: 18, 18: 15 },
  },
  flags: {
    30: ["input", 0x4],
    31: ["input", 0x8],
    32: ["input", 0x10],
    33: ["input", 0x20],
    34: ["input", 0x40],
    35: ["input", 0x80],
    36: ["input", 0x100],
    38: ["input", 0x200],
    39: ["input", 0x800],
    40: ["input", 0x400],
    41: ["input", 0x2000],
    42: ["input", 0x4000],
    50: ["local", 0x80],
    51: ["local", 0x100],
    53: ["local", 0x8],
    54: ["local", 0x2],
    55: ["local", 0x4],
    56: ["local", 0x10],
    57: ["local", 0x80000000],
    58: ["local", 0x400000],
    59: ["local", 0x400],
    60: ["local", 0x40],
    61: ["local", 0x1],
    62: ["local", 0x20000000],
    70: ["output", 0x1],
    72: ["output", 0x2],
    73: ["output", 0x10],
    74: ["output", 0x20],
    75: ["output", 0x40],
    90: ["control", 0x200],
    91: ["control", 0x300],
    92: ["control", 0x1000],
    93: ["control", 0x2000],
  },
  speedOf: (view) => Number(view.getBigUint64(64, true) & 0xffffffffn),
};

const thisTerminal = Deno.build.os === "darwin" ? macTerminal : linuxTerminal;

/** Opcodes of the speeds and of the end. */
const inputSpeed = 128;
const outputSpeed = 129;
const end = 0;

/** Whether a terminal shows what is written as it is. @param termios the system's structure. */
export function isRaw(termios: Uint8Array, { flagsAt } = thisTerminal): boolean {
  const processed = 0o1;
  return (viewOf(termios).getUint32(flagsAt.output, true) & processed) === 0;
}

/** @param termios the system's structure. */
export function encodeTerminalModes(termios: Uint8Array, layout = thisTerminal): Uint8Array {
  const { flagsAt, charactersAt, characters, flags, disabled } = layout;
  const view = viewOf(termios);
  // The system's numbers are in this machine's order, which is little-endian wherever Deno runs.
  const flagsOf = (kind: FlagKind) => view.getUint32(flagsAt[kind], true);
  const bitsPerSecond = layout.speedOf(view);
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

function viewOf(termios: Uint8Array): DataView {
  return new DataView(termios.buffer, termios.byteOffset, termios.byteLength);
}
