/** Starting ssh with forwards, and what goes with that. */

import type { Target } from "./both.ts";
import type { RunningProcess } from "./run.ts";
import type { Service } from "./services.ts";

/** The words after `-L` or `-R` for a forward from a port to a service. */
export function lead(port: number, service: Service): string {
  return `127.0.0.1:${port}:127.0.0.1:${service.port}`;
}

/** Starts ssh with forwards; they stand once its session runs, which lasts until its stdin ends. */
export async function startForwarding(target: Target, options: string[]): Promise<RunningProcess> {
  const client = target.startSsh("echo ready; cat", { options });
  try {
    await client.stdout.waitFor(/ready/);
  } catch (error) {
    await client[Symbol.asyncDispose]();
    throw new Error(client.stderr.text, { cause: error });
  }
  return client;
}

/** Ends the session, and resolves with how ssh ended. */
export async function finish(client: RunningProcess): Promise<{ code: number; stderr: string }> {
  await client.closeStdin();
  const { code } = await client.drained();
  return { code, stderr: client.stderr.text };
}

/** Free ports differ from run to run. */
export function withoutPorts(message: string): string {
  return message.replaceAll(/(?<=port )\d+/g, "N");
}
