/**
 * The values of ssh_config(5) keywords: each kind is checked as ssh checks it, and brought into
 * one spelling.
 *
 * No error repeats a value: with `-o`, whatever stands in the wrong place may be a password.
 */

import { configError, type ConfigLine, lowerCase } from "./ssh_config_line.ts";

/**
 * Checks the arguments of a line, and returns the values in their usual spelling. Undefined means
 * that the line counts as absent: a later one may still decide.
 *
 * @throws {UsageError} ssh would refuse the line.
 */
export type ValueReader = (line: ConfigLine) => readonly string[] | undefined;

const largestInteger = 2 ** 31 - 1;

/** Takes whatever is there; for keywords that are not looked at. */
export const anything: ValueReader = (line) => line.words;

/** One word that is not empty. */
export const word: ValueReader = (line) => [onlyWord(line)];

/** One of several words, in any case; each is mapped to its usual spelling. */
export function choice(spellings: Readonly<Record<string, string>>): ValueReader {
  return (line) => {
    const spelling = Object.entries(spellings).find(([key]) => key === lowerCase(onlyWord(line)));
    if (spelling !== undefined) return [spelling[1]];
    throw badValue(line, `takes ${Object.keys(spellings).join(", ")}`);
  };
}

const yesAndNo = { yes: "yes", no: "no", true: "yes", false: "no" };

/** yes or no. */
export const flag: ValueReader = choice(yesAndNo);

/** yes or no, or one of a few other words. */
export function flagOr(...others: string[]): ValueReader {
  return choice({ ...yesAndNo, ...Object.fromEntries(others.map((other) => [other, other])) });
}

/** A number from 0 to 2147483647. */
export const integer: ValueReader = (line) => {
  const value = onlyWord(line);
  if (!/^\+?\d+$/.test(value) || Number(value) > largestInteger) {
    throw badValue(line, `takes a number from 0 to ${largestInteger}`);
  }
  return [String(Number(value))];
};

/** A TCP port. ssh also takes names of services; of these only its own is known here. */
export const port: ValueReader = (line) => {
  const value = parsePort(onlyWord(line));
  if (value === undefined) throw badValue(line, "takes a number from 1 to 65535");
  return [String(value)];
};

/** A TCP port from 1 to 65535; `undefined` for anything else. */
export function parsePort(text: string): number | undefined {
  if (text === "ssh") return 22;
  const value = Number(text);
  return /^\+?\d+$/.test(text) && value >= 1 && value <= 65535 ? value : undefined;
}

const secondsPerUnit: Readonly<Record<string, number>> = {
  "": 1,
  s: 1,
  m: 60,
  h: 3600,
  d: 86400,
  w: 604800,
};

/** A time such as `90` or `1h30m`, as a number of seconds; `none` counts as absent. */
export const seconds: ValueReader = (line) => {
  const value = onlyWord(line);
  if (value === "none") return undefined;
  const total = parseSeconds(value);
  if (total === undefined) throw badValue(line, "takes a time such as 90 or 1h30m");
  return [String(total)];
};

/** A time in the format of sshd_config(5), "TIME FORMATS", in seconds; `undefined` for others. */
export function parseSeconds(text: string): number | undefined {
  const isTime = /^(?:\+?\d+[smhdw])*\+?\d+[smhdw]?$/i.test(text);
  const total = [...text.matchAll(/(\d+)([a-z]?)/gi)].reduce(
    (sum, [, count, unit]) => sum + Number(count) * secondsPerUnit[lowerCase(unit ?? "")]!,
    0,
  );
  return isTime && total <= largestInteger ? total : undefined;
}

/** One or more words, or `none` alone. */
export const words: ValueReader = (line) => {
  if (line.words.length === 0) throw badValue(line, "has no value");
  if (line.words.includes("")) throw badValue(line, "has an empty value");
  if (line.words.length > 1 && line.words.some((value) => lowerCase(value) === "none")) {
    throw badValue(line, "takes none only as its one value");
  }
  return line.words;
};

/** Domains in lower case, without a dot at the end; or `none` alone. */
export const domains: ValueReader = (line) => {
  const isDomain = (word: string) => /^[a-z0-9](?:[a-z0-9_-]|\.(?!\.))*$/i.test(word);
  const values = line.words.map((word) => lowerCase(word).replace(/\.$/, ""));
  const hasNone = values.includes("none");
  if (values.length === 0 || !line.words.every(isDomain) || (hasNone && values.length > 1)) {
    throw badValue(line, "takes names of domains, or none alone");
  }
  return values;
};

/** Pairs of lists with a colon between, or `*`; no values at all stand for `none`. */
export const namePairs: ValueReader = (line) => {
  const values = line.words.map((word) => word === "*" ? "*:*" : lowerCase(word));
  if (values.length === 1 && values[0] === "none") return [];
  if (values.length === 0 || values.includes("none") || !values.every((it) => /:./s.test(it))) {
    throw badValue(line, "takes pairs SOURCES:TARGETS, * or none alone");
  }
  return values;
};

/** A shell command: all that follows the keyword, with its quotes, as written. */
export const command: ValueReader = (line) => [line.text.replace(/^[ \t=]+/, "")];

/** A list with commas, which may begin with `+`, `-` or `^`; which names there are is not asked. */
export const algorithms: ValueReader = (line) => {
  const value = onlyWord(line);
  if (!/^[-+^]?[^\s,][!-~]*$/.test(value)) {
    throw badValue(line, "takes names with commas between them");
  }
  return [value];
};

/** An error about the values of a line; `problem` completes "Port …". */
export function badValue({ keyword, source }: ConfigLine, problem: string): Error {
  return configError(source, `${keyword} ${problem}.`);
}

function onlyWord(line: ConfigLine): string {
  const [value, ...others] = line.words;
  if (value === undefined || value === "") throw badValue(line, "has no value");
  if (others.length > 0) throw badValue(line, "takes one value; put quotes around white space");
  return value;
}
