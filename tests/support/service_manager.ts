/** A service manager, as far as it listens (sd_notify(3)). */

import { pythonProgram } from "./python.ts";
import { RunningProcess } from "./run.ts";

/** Prints each message that comes to a unix socket, with its lines in one. */
const listener = `
import socket, sys
address = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("\\0" + address[1:] if address[0] == "@" else address)
print("bound", flush=True)
while True:
    print(s.recv(65536).decode().replace("\\n", " "), flush=True)
`;

/** Starts one at an address; `@` begins an abstract one. What it is told is in its output. */
export async function startServiceManager(address: string): Promise<RunningProcess> {
  const manager = new RunningProcess([pythonProgram, "-c", listener, address]);
  await manager.stdout.waitFor(/bound/);
  return manager;
}
