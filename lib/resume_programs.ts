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

import { perlProgram, runPerl } from "./resume_perl.ts";
import { pythonProgram, runPython } from "./resume_python.ts";

/** With which the program begins; the language follows, or `none`. */
export const greeting = "sshshim-resume 1 ";

/** How long the words of the command are, in characters: OpenBSD's csh takes 1023. */
const wordLength = 900;

/** What is said where there is no language for it. */
const none = `${greeting}none`;

/**
 * Runs what there is, with its program; everything is in its arguments. Nothing is started to see
 * whether it is there: that would take as long as all the rest.
 * python loads no site packages and heeds no variables of its own, which spares memory.
 */
const chooser = [
  'p=; until test "$1" = --; do p=$p$1; shift; done; shift',
  "y=; until test $# = 0; do y=$y$1; shift; done",
  `n="${none}"`,
  "if command -v perl >/dev/null 2>&1",
  `then exec perl -e "${runPerl(runPython)}" -- "$p" "$y" "$n"; fi`,
  "if command -v python3 >/dev/null 2>&1",
  `then exec python3 -SEs -c "${runPython}" "$y" "$n"; fi`,
  'echo "$n"',
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
