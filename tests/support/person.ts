/** A person at a terminal who starts the shim and answers its questions. */

import { loginEnvironment, type LoginOptions, shimCommand } from "./login.ts";
import { Terminal } from "./pty.ts";

/** What the terminal shows, and what is typed then, or done. */
export type Dialog = [shown: RegExp, reaction: string | ((screen: string) => Promise<void>)][];

/** What came of it. */
export interface Session {
  /** Whether the shim listened; it was ended by Ctrl-C then. */
  isIn: boolean;
  status: number;
  /** What the terminal showed: the questions, what was typed with echo, and the banner. */
  screen: string;
  /** Standard error, which leads to a file. */
  log: string;
  /** Whether the terminal's modes are what they were before. */
  isRestored: boolean;
}

/** What Ctrl-C, Ctrl-D and the erasing keys send. */
export const key = { interrupt: "\x03", end: "\x04", erase: "\x7f", kill: "\x15", enter: "\r" };

/**
 * Keeps the terminal's modes in two files, and the shim's status in another. The shell itself
 * outlives Ctrl-C. Input and messages of the shim lead elsewhere: only questions and the banner
 * are left to the terminal.
 */
const script = `
trap : INT
stty -a > "$0/modes_before"
"$@" < /dev/null 2> "$0/log"
echo $? > "$0/status"
stty -a > "$0/modes_after"
`;

/**
 * Runs the shim at a terminal. When the dialog is over it has to end, or to listen: then Ctrl-C ends
 * it.
 */
export async function atTerminal(
  args: string[],
  { folder, environment, dialog }: LoginOptions & { dialog: Dialog },
): Promise<Session> {
  const own = await Deno.makeTempDir({ dir: folder });
  await using terminal = new Terminal(["sh", "-c", script, own, ...shimCommand(args)], {
    environment: loginEnvironment(folder, environment),
  });
  let position = 0;
  for (const [shown, reaction] of dialog) {
    const match = await terminal.screen.waitFor(shown, { from: position });
    position += match.index + match[0].length;
    if (typeof reaction === "string") await terminal.type(reaction);
    else await reaction(terminal.screen.text);
  }
  const isIn = await terminal.screen.waitFor(/Ctrl-C ends it\.|"listening"/)
    .then(() => true, () => false);
  // Also where it still asks, so that the test goes on to say what is wrong.
  await terminal.type(key.interrupt).catch(() => {});
  await terminal.exit;
  const read = (name: string) => Deno.readTextFile(`${own}/${name}`);
  return {
    isIn,
    status: Number(await read("status")),
    screen: terminal.screen.text,
    log: await read("log"),
    isRestored: await read("modes_before") === await read("modes_after"),
  };
}
