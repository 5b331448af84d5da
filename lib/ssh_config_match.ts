/** Which Host and Match blocks of ssh_config(5) are for a connection. */

import { matchesPatterns } from "./pattern.ts";
import { type ConfigLine, lowerCase } from "./ssh_config_line.ts";
import { isInNetworks } from "./ssh_config_network.ts";
import { badValue } from "./ssh_config_values.ts";

/** What Match compares with, as far as it is known at the line that is read. */
export interface MatchFacts {
  /** With HostName applied, if it was given before. */
  host: string;
  /** As typed. */
  originalHost: string;
  user: string;
  localUser: string;
  /** The value of Tag; empty without one. */
  tag: string;
  /** Whether the files are read for the second time: see {@link MatchResult}. */
  isFinalPass: boolean;
  /** Expands the tokens in a command of `Match exec`. */
  expand(command: string): string;
  /** Runs a command; its exit status 0 is true. */
  run(command: string): Promise<boolean>;
}

/** Whether the block applies, and whether it asks for a second reading of all files. */
export interface MatchResult {
  matches: boolean;
  wantsFinalPass: boolean;
}

/**
 * Whether a Host line is for a host; letters must agree in case, as with ssh.
 *
 * @throws {UsageError} One of its patterns is empty.
 */
export function matchesHostLine(line: ConfigLine, host: string): boolean {
  if (line.words.includes("")) throw badValue(line, "has an empty pattern");
  return matchesPatterns(host, line.words);
}

/**
 * Judges a Match line. `final` and `canonical` are both true in the second reading only; a line
 * with `final` asks for one.
 *
 * @throws {UsageError} The line is malformed, or has a criterion that cannot be judged here.
 */
export async function evaluateMatch(line: ConfigLine, facts: MatchFacts): Promise<MatchResult> {
  const words = [...line.words];
  const result: MatchResult = { matches: true, wantsFinalPass: false };
  let criteria = 0;
  while (words.length > 0) {
    const criterion = nextCriterion(words, line);
    const { name, isNegated } = criterion;
    if (name === "all") {
      if (criteria > 1 || words.length > 0) {
        throw badValue(line, "takes all only alone, or after canonical or final");
      }
      result.matches &&= !isNegated;
      return result;
    }
    criteria++;
    if (name === "final" && !isNegated) result.wantsFinalPass = true;
    // A command runs only where its result still counts. The others are judged all the same, for
    // the errors in them.
    const holds = name === "exec"
      ? await judgeCommand(criterion.value, facts, result.matches)
      : judge(criterion, line, facts);
    if (holds === isNegated) result.matches = false;
  }
  if (criteria === 0) throw badValue(line, "has no criterion");
  return result;
}

interface Criterion {
  name: string;
  isNegated: boolean;
  /** Empty for the criteria that take none. */
  value: string;
}

/** Takes `NAME`, `NAME VALUE`, `NAME=VALUE` or `NAME = VALUE` off the words, or one after `!`. */
function nextCriterion(words: string[], line: ConfigLine): Criterion {
  const [, negation, given, inline] = /^(!?)([^=]*)(?:=(.*))?$/s.exec(words.shift() ?? "") ?? [];
  const name = lowerCase(given ?? "");
  const isNegated = negation === "!";
  if (["all", "canonical", "final"].includes(name)) return { name, isNegated, value: "" };
  const mayBeEmpty = name === "tagged" || name === "command";
  if (mayBeEmpty && inline !== undefined) return { name, isNegated, value: inline };
  let value = inline === undefined || inline === "" ? words.shift() : inline;
  if (inline === undefined) value = value === "=" ? words.shift() : value?.replace(/^=/, "");
  if (value === undefined || (value === "" && !mayBeEmpty)) {
    throw badValue(line, "has a criterion without a value");
  }
  return { name, isNegated, value };
}

/** As for `ssh -N`, which runs no command and has no session: clients have theirs. */
function judge({ name, value }: Criterion, line: ConfigLine, facts: MatchFacts): boolean {
  const list = value.split(",");
  switch (name) {
    case "canonical":
    case "final":
      return facts.isFinalPass;
    case "host":
      return matchesPatterns(lowerCase(facts.host), list.map(lowerCase));
    case "originalhost":
      return matchesPatterns(lowerCase(facts.originalHost), list.map(lowerCase));
    case "user":
      return matchesPatterns(facts.user, list);
    case "localuser":
      return matchesPatterns(facts.localUser, list);
    case "tagged":
      return facts.tag === "" ? value === "" : matchesPatterns(facts.tag, list);
    case "command":
      return value === "";
    case "sessiontype":
      return matchesPatterns("none", list);
    case "localnetwork": {
      const isIn = isInNetworks(value);
      if (isIn === undefined) throw badValue(line, "localnetwork takes networks: 192.0.2.0/24,…");
      return isIn;
    }
    case "version":
      throw badValue(line, `${name} is not supported; use another criterion, such as exec`);
    default:
      throw badValue(line, "has a criterion that ssh does not know");
  }
}

async function judgeCommand(
  value: string,
  facts: MatchFacts,
  counts: boolean,
): Promise<boolean> {
  const command = facts.expand(value);
  return counts && await facts.run(command);
}
