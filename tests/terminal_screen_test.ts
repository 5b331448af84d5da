/** Whether one line more can be shown at a terminal, by what its session has sent. */

import assert from "node:assert/strict";
import { ServerKeepalives } from "../lib/server_keepalives.ts";
import { TerminalScreen } from "../lib/terminal_screen.ts";

const outputs: [what: string, output: string, takesLine: boolean][] = [
  ["nothing", "", true],
  ["lines", "one\r\ntwo\r\n$ ", true],
  ["a prompt with colours and a title", "\x1b]0;me@host\x07\x1b[01;32mme\x1b[00m$ ", true],
  ["a title that ESC \\ ends", "\x1b]0;me@host\x1b\\$ ", true],
  ["the alternate screen", "$ vim\r\n\x1b[?1049h\x1b[22;0;0t\x1b[?1h", false],
  ["the alternate screen and back", "\x1b[?1049h\x1b[5;1Hwords\x1b[?1049l\r\n$ ", true],
  ["the older alternate screen", "\x1b[?47h", false],
  ["the older alternate screen and back", "\x1b[?47h\x1b[?47l", true],
  ["the screen of xterm", "\x1b[?1047h\x1b[H", false],
  ["several modes at once", "\x1b[?1;1049;25h", false],
  ["another mode", "\x1b[?25l", true],
  ["words placed on the screen, as by top", "\x1b[H\x1b[Jtop - 1\r\n\x1b[Htop - 2\r\n", false],
  ["words placed by row", "\x1b[12dwords", false],
  ["a part of the screen that scrolls", "\x1b[2;20r", false],
  ["a screen that scrolls back", "words\x1bM", false],
  ["an emptied screen", "\x1b[H\x1b[2J\x1b[3J$ ", true],
  ["an emptied screen of another terminal", "\x1b[H\x1b[J$ ", true],
  ["a screen that is emptied first", "\x1b[2J\x1b[H$ ", true],
  ["an emptied screen that words are placed on", "\x1b[H\x1b[2Jwords\x1b[3;4Hwords", false],
  ["a prompt after a program like top", "\x1b[Htop\x1b[24;1H\r\n\x1b[?2004h$ ", true],
  ["many lines after a program like top", `\x1b[Htop${"line\r\n".repeat(200)}`, true],
  ["some lines after a program like top", `\x1b[Htop${"line\r\n".repeat(199)}`, false],
  ["a terminal that begins anew", "\x1b[?1049h\x1bc", true],
  ["half a sequence", "words\x1b[3", false],
  ["half a title", "words\x1b]0;me", false],
  ["half a character", "gr\u00fc", true],
  ["a sequence that is given up", "\x1b[3\x18words", true],
  ["a sequence that never ends", `\x1b[${"1;".repeat(40)}`, true],
  ["a character set", "\x1b(B$ ", true],
];

for (const [what, output, takesLine] of outputs) {
  Deno.test(`${what}: ${takesLine ? "a line can be shown" : "no line is shown"}`, () => {
    const bytes = new TextEncoder().encode(output);
    // However it is cut into pieces.
    for (const size of [bytes.length, 1, 2, 3]) {
      const screen = new TerminalScreen({ terminal: "xterm", columns: 80 });
      for (let at = 0; at < bytes.length; at += size) {
        screen.onOutput(bytes.subarray(at, at + size));
      }
      assert.equal(screen.takesLine, takesLine, `pieces of ${size}`);
    }
  });
}

Deno.test("half a character of each length is waited for", () => {
  for (const character of ["\u00fc", "\u20ac", "\u{1f600}"]) {
    const bytes = new TextEncoder().encode(`word${character}`);
    for (let size = 1; size <= bytes.length; size++) {
      const screen = new TerminalScreen({ terminal: "xterm", columns: 80 });
      screen.onOutput(bytes.subarray(0, size));
      assert.equal(screen.takesLine, size <= 4 || size === bytes.length, `${character}: ${size}`);
      for (const byte of bytes.subarray(size)) screen.onOutput(Uint8Array.of(byte));
      assert.equal(screen.takesLine, true);
    }
  }
});

Deno.test("terminals that only show characters, or have no width, get no line", () => {
  for (const terminal of ["", "dumb", "emacs"]) {
    assert.equal(new TerminalScreen({ terminal, columns: 80 }).takesLine, false);
  }
  assert.equal(new TerminalScreen({ terminal: "xterm", columns: 0 }).takesLine, false);
});

Deno.test("the interval of a server's keepalives is the shortest that comes twice", () => {
  const told: number[] = [];
  const keepalives = new ServerKeepalives((seconds) => told.push(seconds));
  // Busy times make it longer; those that waited for the network come at once.
  for (const time of [0, 40_000, 40_001, 40_002, 55_010, 90_000, 105_020, 120_030, 135_000]) {
    keepalives.onKeepalive(time);
  }
  assert.deepEqual(told, [15]);
});
