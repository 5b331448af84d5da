/**
 * Measures what sshshim costs and saves: against plain ssh, and against ControlMaster, ssh's own
 * way to share a connection. All run in turn against the same OpenSSH server on loopback.
 *
 *     deno task bench [--quick] [--only NAME,…] [--json]
 *     deno task bench --charts FILE
 *
 * It prints tables in Markdown, or with `--json` all samples; progress goes to standard error.
 * `--charts` draws the charts of `.github/PERFORMANCE.md` from such JSON and prints its tables. On
 * Linux; as root it runs in a network of its own, so that nothing else is touched or in the way.
 *
 * The figures depend on the machine and on what else it does; the ratios less so.
 */

import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { drawCharts } from "./bench/charts.ts";
import { files } from "./bench/files.ts";
import { keystrokes } from "./bench/keystrokes.ts";
import { latency } from "./bench/latency.ts";
import { memory } from "./bench/memory.ts";
import { hasOwnNetwork, runInOwnNetwork } from "./bench/network.ts";
import {
  describeMachine,
  type FamilyReport,
  familyText,
  loadNow,
  machineText,
  type Report,
} from "./bench/report.ts";
import { requests } from "./bench/requests.ts";
import type { Family } from "./bench/rows.ts";
import { sessions } from "./bench/sessions.ts";
import { start } from "./bench/start.ts";
import { far, streams } from "./bench/streams.ts";

const families = [latency, streams, far, files, sessions, requests, keystrokes, start, memory];
const pages = fileURLToPath(new URL("../.github/", import.meta.url));

async function main(words: string[]): Promise<number> {
  const { values } = parseArgs({
    args: words,
    options: {
      quick: { type: "boolean", default: false },
      only: { type: "string" },
      json: { type: "boolean", default: false },
      charts: { type: "string" },
    },
  });
  if (values.charts !== undefined) {
    const report: Report = JSON.parse(await Deno.readTextFile(values.charts));
    for (const [file, svg] of drawCharts(report)) await Deno.writeTextFile(`${pages}${file}`, svg);
    for (const family of report.families) console.log(`${familyText(family)}\n`);
    console.log(machineText(report.machine));
    return 0;
  }
  if (Deno.build.os !== "linux") throw new Error("The bench reads /proc: it needs Linux.");
  const chosen = chooseFamilies(values.only);
  if (Deno.uid() === 0 && !hasOwnNetwork()) {
    return await runInOwnNetwork(fileURLToPath(import.meta.url), words);
  }

  const report: Report = {
    machine: await describeMachine(),
    isQuick: values.quick,
    families: [],
  };
  let status = 0;
  for (const family of chosen) {
    try {
      const done = await measure(family, values.quick);
      report.families.push(done);
      if (!values.json) console.log(`${familyText(done)}\n`);
    } catch (error) {
      // The others took long, and are worth as much without it.
      console.error(`${family.name} failed:`, error);
      status = 1;
    }
  }
  report.machine.load.push(loadNow());
  console.log(values.json ? JSON.stringify(report, null, 1) : machineText(report.machine));
  return status;
}

function chooseFamilies(only: string | undefined): Family[] {
  const names = only?.split(",");
  const unknown = names?.filter((name) => families.every((family) => family.name !== name)) ?? [];
  if (unknown.length > 0) {
    const known = families.map(({ name }) => name).join(", ");
    throw new Error(`Nothing is called ${unknown.join(", ")}; there are ${known}.`);
  }
  return families.filter(({ name }) => names?.includes(name) ?? true);
}

async function measure(family: Family, isQuick: boolean): Promise<FamilyReport> {
  const { name, about } = family;
  const report: FamilyReport = { name, about, rows: [] };
  for await (const row of family.measure({ isQuick })) {
    console.error(`${name}: ${row.what}`);
    report.rows.push(row);
  }
  return report;
}

Deno.exit(await main(Deno.args));
