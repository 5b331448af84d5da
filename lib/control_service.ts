/** The control socket of one host, opened where there can be one. */

import { Control, type ControlOptions } from "./control.ts";
import { controlFolder } from "./control_place.ts";
import { ControlSocket } from "./control_socket.ts";
import { Descriptors } from "./descriptors.ts";
import { messageOf } from "./errors.ts";
import { loadLibc } from "./libc.ts";
import { logger } from "./log.ts";
import { thisSystem } from "./state_folder.ts";
import { checkStreams } from "./stream_check.ts";

const log = logger("control");

/** An open control socket. */
export interface OpenControl {
  /** Where it is. */
  path: string;
  /** Whether clients can pass their streams by it. */
  takesStreams: boolean;
  /** Takes no more clients. */
  stopListening(): void;
  /** Ends all clients. */
  close(): void;
}

/**
 * Opens the control socket of a host and serves it. Where there can be none, the log says so, and
 * there is the port alone.
 *
 * @param home the folder of the user's account.
 */
export async function openControl(
  { name, home }: { name: string; home: string },
  options: Omit<ControlOptions, "system">,
): Promise<OpenControl | undefined> {
  const folder = controlFolder({ ...thisSystem(), home });
  const system = await loadSystem();
  try {
    const socket = await ControlSocket.open({ folder, name }, system);
    void socket.serve(new Control(socket, { ...options, system }));
    return {
      path: socket.path,
      takesStreams: system !== undefined && options.objection === undefined,
      stopListening: () => socket.stopListening(),
      close() {
        socket.close();
        system?.close();
      },
    };
  } catch (error) {
    log.info("there is no control socket: {reason}", { reason: messageOf(error) });
    system?.close();
    return undefined;
  }
}

/** The system's calls; `undefined` where they cannot be used. */
async function loadSystem(): Promise<Descriptors | undefined> {
  let system: Descriptors | undefined;
  try {
    const libc = loadLibc();
    system = new Descriptors(libc);
    if (Deno.build.os !== "linux") await checkStreams(system, libc);
    return system;
  } catch (error) {
    log.debug("no streams can be passed: {reason}", { reason: messageOf(error) });
    system?.close();
    return undefined;
  }
}
