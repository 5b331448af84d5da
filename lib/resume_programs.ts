/**
 * The program that runs on the host for `--resume`: it opens a TCP connection to the host's own sshd,
 * keeps it, and hands it to one carrier after the other. It is written twice, in perl and in python,
 * and the host runs what it has. `.github/RESUME.md` tells its users what it does.
 *
 * Its first line of output is {@link greeting}. Then it reads a line, `new NAME TOKEN COUNT SECONDS`
 * or `attach PATH TOKEN COUNT`, and answers `ok COUNT PATH`, followed by frames, or `no REASON`.
 *
 * It goes through the user's login shell, whichever that is: so the programs have no `'`, no `!`, no
 * backslash and no backquote, which stands for the end of a line, and no word is long.
 */

import { perlProgram } from "./resume_perl.ts";
import { pythonProgram } from "./resume_python.ts";

/** With which the program begins; the language follows, or `none`. */
export const greeting = "sshshim-resume 1 ";

/** How long the words of the command are, in characters: OpenBSD's csh takes 1023. */
const wordLength = 900;

/** Tries what there is, and runs it with its program; everything is in its arguments. */
const chooser = [
  'p=; until test "$1" = --; do p=$p$1; shift; done; shift',
  "y=; until test $# = 0; do y=$y$1; shift; done",
  'if perl -e "use 5.014; use POSIX (); use Socket qw(getaddrinfo)" </dev/null >/dev/null 2>&1',
  'then exec perl -e "eval join chr(10), split chr(96), shift; die" -- "$p"; fi',
  'if python3 -c "import select, socket, os; os.set_blocking" </dev/null >/dev/null 2>&1',
  'then exec python3 -c "import sys; exec(sys.argv[1].replace(chr(96), chr(10)))" "$y"; fi',
  `echo ${greeting}none`,
].join("; ");

/** The programs by their language, as they are sent. */
export const programs: Readonly<Record<"perl" | "python", string>> = {
  perl: perlProgram,
  python: pythonProgram,
};

/** The command that runs one of the programs, for any login shell. */
export function resumeCommand({ perl, python } = programs): string {
  const words = ["sh", "-c", chooser, "sh", ...wordsOf(perl), "--", ...wordsOf(python)];
  return words.map((word, index) => index < 2 ? word : `'${word}'`).join(" ");
}

/** Pieces of a program, of which none is `--`. */
function wordsOf(program: string): string[] {
  const line = program.replaceAll("\n", "`");
  const words = [];
  for (let at = 0; at < line.length; at += wordLength) words.push(line.slice(at, at + wordLength));
  return words;
}
