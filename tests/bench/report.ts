/** The figures of a run, as JSON keeps them and as the tables of a page show them. */

import { arch, cpus, release } from "node:os";
import { run, text } from "../support/run.ts";
import { median, type Row, spread, type WayName, wayNames } from "./rows.ts";

/** A whole run. */
export interface Report {
  machine: Machine;
  isQuick: boolean;
  families: FamilyReport[];
}

/** What one family measured. */
export interface FamilyReport {
  name: string;
  about: string;
  rows: Row[];
}

/** Where it was measured, and how busy that was. */
export interface Machine {
  date: string;
  cores: number;
  processor: string;
  system: string;
  deno: string;
  openssh: string;
  /** The load average of a minute, before and after. */
  load: [number, number?];
}

/** Tells of this machine, before a run. */
export async function describeMachine(): Promise<Machine> {
  const { stderr } = await run(["ssh", "-V"]);
  return {
    date: new Date().toISOString().slice(0, 10),
    cores: navigator.hardwareConcurrency,
    processor: cpus()[0]?.model ?? "unknown",
    system: `${Deno.build.os} ${release()}, ${arch()}`,
    deno: Deno.version.deno,
    openssh: text(stderr).split(",")[0]!.trim(),
    load: [loadNow()],
  };
}

/** The load average of a minute. */
export function loadNow(): number {
  return Math.round(Deno.loadavg()[0]! * 100) / 100;
}

/** The machine in a line or two. */
export function machineText(
  { cores, processor, system, deno, openssh, load, date }: Machine,
): string {
  return `${date}: ${cores} cores (${processor}), ${system}; Deno ${deno}, ${openssh}; load ` +
    load.map((one) => one?.toFixed(1)).join(" before, ") + (load.length > 1 ? " after" : "");
}

/** A family's rows as a table in Markdown, with a heading of its name. */
export function familyText({ name, about, rows }: FamilyReport): string {
  return `### ${name}\n\n${about}\n\n${rowsText(rows)}`;
}

function rowsText(rows: readonly Row[]): string {
  const names = wayNames.filter((name) => rows.some(({ samples }) => name in samples));
  const references = (["ssh", "ControlMaster"] as const).filter((name) => names.includes(name));
  const compared = (["port", "lane"] as const).filter((name) => names.includes(name));
  const head = [
    ...["", ...names],
    ...compared.map((name) => `${name} / ${references.join(", ")}`),
  ];
  const lines = rows.map((row) => [
    `${row.what} (${row.unit})`,
    ...names.map((name) => sampleText(row.samples[name])),
    ...compared.map((name) =>
      references.map((reference) => ratioText(row, name, reference)).join(", ")
    ),
  ]);
  return markdownTable([head, ...lines]);
}

function sampleText(samples: readonly number[] | undefined): string {
  if (samples === undefined) return "";
  const share = spread(samples);
  return figure(median(samples)) + (share === undefined ? "" : ` ±${(100 * share).toFixed(0)} %`);
}

function ratioText(row: Row, name: WayName, reference: WayName): string {
  const [ours, theirs] = [row.samples[name], row.samples[reference]];
  if (ours === undefined || theirs === undefined) return "-";
  return (median(ours) / median(theirs)).toFixed(2);
}

/** Three digits at least. */
export function figure(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/** Columns as wide as they have to be, numbers to the right, as `deno fmt` has tables. */
function markdownTable(lines: readonly string[][]): string {
  const widths = lines[0]!.map((_, column) =>
    Math.max(3, ...lines.map((cells) => cells[column]!.length))
  );
  const lineOf = (cells: readonly string[]) =>
    `| ${
      cells.map((cell, column) =>
        column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)
      ).join(" | ")
    } |`;
  const rule = widths.map((width, column) =>
    column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`
  );
  return [lineOf(lines[0]!), lineOf(rule), ...lines.slice(1).map(lineOf)].join("\n");
}
