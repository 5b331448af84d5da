/** The C library: what either system's tables make of bytes, and the check that tries them here. */

import assert from "node:assert/strict";
import { parseMacStat } from "../lib/descriptor_kind.ts";
import { Descriptors } from "../lib/descriptors.ts";
import { type Libc, loadLibc } from "../lib/libc.ts";
import { parseMacState, parseMacWords } from "../lib/mac_processes.ts";
import { checkStreams } from "../lib/stream_check.ts";
import {
  controlLength,
  linuxLayout,
  macLayout,
  messageHeader,
  passedIn,
  passingControl,
  socketAddress,
  type SystemLayout,
} from "../lib/system_layout.ts";
import { encodeTerminalModes, isRaw, linuxTerminal, macTerminal } from "../lib/terminal_modes.ts";
import "./support/loaded_libc.ts";
import { waitUntil } from "./support/processes.ts";

/** Bytes as hexadecimal text, in groups of four. */
function hex(bytes: Uint8Array): string {
  return bytes.toHex().replace(/.{8}(?=.)/g, "$& ");
}

Deno.test("a socket's address begins with its family, on macOS with its length", () => {
  assert.equal(hex(socketAddress(linuxLayout, "/a/b")), "01002f61 2f6200");
  assert.equal(hex(socketAddress(macLayout, "/a/b")), "07012f61 2f6200");
  assert.equal(hex(socketAddress(linuxLayout, "@ab")), "01000061 62");
  for (const layout of [linuxLayout, macLayout]) {
    const { pathBytes } = layout.socketAddress;
    assert.equal(socketAddress(layout, "/".repeat(pathBytes - 1)).length, 2 + pathBytes);
    assert.throws(() => socketAddress(layout, "/".repeat(pathBytes)), /too long/);
  }
});

Deno.test("a message's header has its parts where the system has them", () => {
  const parts = { vector: 0x1122334455667788n, control: 0x99aabbccddeeff00n, controlLength: 24 };
  assert.equal(
    hex(messageHeader(linuxLayout, parts)),
    "00000000 00000000 00000000 00000000 88776655 44332211 01000000 00000000 " +
      "00ffeedd ccbbaa99 18000000 00000000 00000000 00000000",
  );
  assert.equal(
    hex(messageHeader(macLayout, parts)),
    "00000000 00000000 00000000 00000000 88776655 44332211 01000000 00000000 " +
      "00ffeedd ccbbaa99 18000000 00000000",
  );
  for (const layout of [linuxLayout, macLayout]) {
    assert.equal(controlLength(layout, messageHeader(layout, parts)), 24);
  }
});

Deno.test("descriptors that are passed are those that come out", () => {
  assert.equal(
    hex(passingControl(linuxLayout, [7])),
    "14000000 00000000 01000000 01000000 07000000 00000000",
  );
  assert.equal(hex(passingControl(macLayout, [7])), "10000000 ffff0000 01000000 07000000");
  for (const layout of [linuxLayout, macLayout]) {
    for (const descriptors of [[], [3], [3, 1000], [5, 6, 7]]) {
      const control = passingControl(layout, descriptors);
      assert.deepEqual(passedIn(layout, control), descriptors);
      // What the header says is not believed beyond what there is.
      control[layout.controlHeader.length.at + 1] = 0xff;
      assert.ok(passedIn(layout, control).length <= descriptors.length + 1);
    }
    const other = passingControl(layout, [3]);
    other[layout.controlHeader.type] = 2;
    assert.deepEqual(passedIn(layout, other), []);
    assert.deepEqual(passedIn(layout, new Uint8Array(4)), []);
  }
});

Deno.test("the same terminal has the same modes on either system", () => {
  const linux = new Uint8Array(60);
  const mac = new Uint8Array(72);
  const put = (bytes: Uint8Array, at: number, value: number) =>
    new DataView(bytes.buffer).setUint32(at, value, true);
  // ICRNL, IXON; OPOST, ONLCR; CS8, CREAD, at 38400; ISIG, ICANON, ECHO, IEXTEN.
  [0o2400, 0o5, 0o277, 0o100013].forEach((flags, index) => put(linux, index * 4, flags));
  [0x300, 0x3, 0xb00, 0x588].forEach((flags, index) => put(mac, index * 8, flags));
  for (const at of [56, 64]) put(mac, at, 38_400);
  mac.fill(255, 32, 52);
  // Ctrl-C, Ctrl-\, DEL, Ctrl-U, Ctrl-D, Ctrl-Q, Ctrl-S, Ctrl-Z.
  const [characters, onLinux, onMac] = [
    [3, 28, 127, 21, 4, 17, 19, 26],
    [0, 1, 2, 3, 4, 8, 9, 10],
    [8, 9, 3, 5, 0, 12, 13, 10],
  ];
  characters!.forEach((character, index) => {
    linux[17 + onLinux![index]!] = character;
    mac[32 + onMac![index]!] = character;
  });
  const modesOf = (encoded: Uint8Array) => {
    const modes = new Map<number, number>();
    for (let at = 0; encoded[at] !== 0; at += 5) {
      modes.set(encoded[at]!, new DataView(encoded.buffer, encoded.byteOffset).getUint32(at + 1));
    }
    return modes;
  };
  const [one, other] = [
    modesOf(encodeTerminalModes(linux, linuxTerminal)),
    modesOf(encodeTerminalModes(mac, macTerminal)),
  ];
  const both = [...one.keys()].filter((opcode) => other.has(opcode));
  assert.ok(both.length > 40);
  assert.deepEqual(both.map((it) => [it, other.get(it)]), both.map((it) => [it, one.get(it)]));
  assert.deepEqual([one.get(128), one.get(53), one.get(1), one.get(7)], [38_400, 1, 3, 255]);

  assert.deepEqual([isRaw(linux, linuxTerminal), isRaw(mac, macTerminal)], [false, false]);
  put(linux, 4, 0o4);
  put(mac, 8, 0x2);
  assert.deepEqual([isRaw(linux, linuxTerminal), isRaw(mac, macTerminal)], [true, true]);
});

Deno.test("what macOS tells of processes and files is read", () => {
  const answer = (count: number, rest: string) =>
    Uint8Array.of(count, 0, 0, 0, ...new TextEncoder().encode(rest));
  const words = answer(3, "/usr/bin/ssh\0\0\0ssh\0-N\0host\0A=1\0B=\0\0ptr_munge=\0");
  assert.deepEqual(parseMacWords(words), {
    args: ["ssh", "-N", "host"],
    environment: ["A=1", "B="],
  });
  assert.deepEqual(parseMacWords(answer(2, "/bin/x\0x\0\0")), { args: ["x", ""], environment: [] });
  for (
    const wrong of [answer(3, "/bin/x\0x\0"), answer(1, "/bin/x"), answer(1, ""), words.slice(0, 3)]
  ) {
    assert.equal(parseMacWords(wrong), undefined);
  }

  const state = new Uint8Array(136);
  const view = new DataView(state.buffer);
  view.setUint32(4, 2, true);
  view.setUint32(100, 77, true);
  view.setUint32(112, 78, true);
  assert.deepEqual(parseMacState(state), { isStopped: false, group: 77, foreground: 78 });
  view.setUint32(4, 4, true);
  view.setInt32(108, -1, true);
  assert.deepEqual(parseMacState(state), { isStopped: true, group: 77, foreground: undefined });

  const stat = new Uint8Array(144);
  const file = new DataView(stat.buffer);
  file.setInt32(0, 5, true);
  file.setUint16(4, 0o020666, true);
  file.setBigUint64(8, 303n, true);
  file.setInt32(24, 0x3000002, true);
  assert.deepEqual(parseMacStat(stat), {
    ...{ type: "characters", device: 5, number: 303, special: 0x3000002 },
  });
});

/** Runs the check with a table of this system in which something is otherwise. */
async function checkWith(change: Partial<SystemLayout>): Promise<void> {
  const libc = loadLibc();
  const changed: Libc = { ...libc, layout: { ...libc.layout, ...change } };
  const system = new Descriptors(changed);
  const before = await openDescriptors();
  try {
    await checkStreams(system, changed);
  } finally {
    await waitUntil("all is closed", async () => await openDescriptors() <= before);
    system.close();
    await waitUntil("nothing waits", async () => await openDescriptors() < before);
  }
}

async function openDescriptors(): Promise<number> {
  let count = 0;
  for await (const _ of Deno.readDir("/dev/fd")) count++;
  return count;
}

Deno.test("the system's calls are as its table says", () => checkWith({}));

Deno.test("waiting by select(2), and flags that are set afterwards, come to the same", () =>
  checkWith({ waitsBySelect: true, setsFlagsAtOnce: false }));

Deno.test("a table that is not this system's is noticed", async () => {
  const { controlHeader, message, windowSize, credentials, errors } = linuxLayout;
  const wrong: Partial<SystemLayout>[] = [
    { controlHeader: { ...controlHeader, type: 8 } },
    { socketLevel: 0xffff },
    { message: { ...message, withoutWaiting: 0 }, setsFlagsAtOnce: true, errors: macLayout.errors },
    { windowSize: macLayout.windowSize },
    { windowSize: { ...windowSize, get: 0x5415 } },
    { credentials: { ...credentials, pid: { option: 17, index: 1 } } },
    { errors: { ...errors, wouldBlock: 35 } },
  ];
  for (const change of wrong) {
    await assert.rejects(
      checkWith(change),
      /the system's (calls are not as|error)/,
      JSON.stringify(change),
    );
  }
});
