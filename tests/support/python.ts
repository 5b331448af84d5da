/** SSH clients written in Python: paramiko and asyncssh, which show what ssh itself hides. */

import type { Target } from "./both.ts";
import { type CommandResult, run, type RunOptions } from "./run.ts";

/** The interpreter for which the distribution packages paramiko and asyncssh. */
export const pythonProgram = "/usr/bin/python3";

/**
 * Runs statements of Python in which `connection` is an asyncssh connection to the target.
 *
 * @param body statements without indentation of their own; they may await
 * @param options `rekeyBytes`: it begins a key exchange after having sent so many.
 */
export function asyncssh(
  target: Target,
  body: string,
  { rekeyBytes = 2 ** 30, ...options }: RunOptions & { rekeyBytes?: number } = {},
): Promise<CommandResult> {
  return python(target, {
    ...options,
    program: [
      "import asyncio, asyncssh, json, sys",
      "async def main():",
      "    async with asyncssh.connect(",
      `        ${quote(target.host)}, ${target.port}, username=${quote(target.username)},`,
      `        client_keys=[${quote(target.keyFile)}],`,
      `        known_hosts=${quote(target.knownHostsFile)}, agent_path=None, config=None,`,
      `        rekey_bytes=${rekeyBytes},`,
      "    ) as connection:",
      ...body.trim().split("\n").map((line) => `        ${line}`),
      "asyncio.run(main())",
    ],
  });
}

/**
 * Runs statements of Python in which `client` is a paramiko SSHClient that is connected to the
 * target.
 *
 * @param body statements without indentation of their own
 */
export function paramiko(
  target: Target,
  body: string,
  options: RunOptions = {},
): Promise<CommandResult> {
  return python(target, {
    ...options,
    program: [
      "import json, paramiko, sys",
      "client = paramiko.SSHClient()",
      `client.load_host_keys(${quote(target.knownHostsFile)})`,
      `client.connect(${quote(target.host)}, ${target.port}, ${quote(target.username)},`,
      `    key_filename=${quote(target.keyFile)}, look_for_keys=False, allow_agent=False)`,
      "with client:",
      ...body.trim().split("\n").map((line) => `    ${line}`),
    ],
  });
}

function python(
  target: Target,
  options: RunOptions & { program: string[] },
): Promise<CommandResult> {
  const { program, ...runOptions } = options;
  // Old ciphers that nobody uses here make the libraries warn on standard error.
  return run([pythonProgram, "-W", "ignore", "-c", program.join("\n")], {
    environment: target.environment,
    ...runOptions,
  });
}

/** A string literal of JSON is one of Python, too. */
function quote(text: string): string {
  return JSON.stringify(text);
}
