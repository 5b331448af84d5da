/** Clients of the control socket that pass descriptors as no ssh would. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import type { Target } from "./both.ts";
import { pythonProgram } from "./python.ts";
import { type CommandResult, run, RunningProcess, text } from "./run.ts";

const script = fileURLToPath(new URL("./control_client.py", import.meta.url));

type Where = Pick<Target, "controlPath" | "environment">;

async function words({ controlPath }: Where, body: string): Promise<string[]> {
  const path = `control_path = ${JSON.stringify(controlPath)}`;
  const program = [path, await Deno.readTextFile(script), body].join("\n");
  return [pythonProgram, "-c", program];
}

/** Starts statements of Python that use what `control_client.py` defines. */
export async function startControlClient(where: Where, body: string): Promise<RunningProcess> {
  return new RunningProcess(await words(where, body), { environment: where.environment });
}

/** Runs them to their end, which has to be a good one. @returns what they have printed. */
export async function runControlClient(where: Where, body: string): Promise<string> {
  const { environment } = where;
  const result: CommandResult = await run(await words(where, body), { environment });
  assert.equal(result.code, 0, text(result.stderr));
  return text(result.stdout);
}
