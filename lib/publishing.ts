/** One host's local port, and the name that leads there for ssh. */

import { messageOf, PublishingError } from "./errors.ts";
import { listen } from "./local_port.ts";
import { logger } from "./log.ts";
import { nameFor } from "./published_config.ts";
import { claimName, healNames, type LiveName, type PublishedName } from "./published_files.ts";

const log = logger("name");

/** What the command line says of the name and the port. */
export interface PlaceOptions {
  /** Absent: the default, or a free one where another shim has that. */
  localPort: number | undefined;
  /** Absent: made of the host's alias. */
  name: string | undefined;
  /** A further name. */
  as: string | undefined;
  /** `none`: nothing is to be written for ssh. */
  sshConfig: "written" | "printed" | "none";
}

/** A local port that is taken. */
export interface LocalPlace {
  listener: Deno.TcpListener;
  /** Absent where none is wanted or none can be had; it is to be published and removed. */
  name: PublishedName | undefined;
}

/**
 * Takes a local port and a name, and removes what shims left that were killed. Where the files of
 * names cannot be written, a warning says so, and there is a port alone.
 *
 * @param folder where the files of names are
 * @throws {EndpointError} The port cannot be had; or a name was asked for, and is in use.
 */
export async function takePlace(
  { localPort, name, as, sshConfig }: PlaceOptions,
  { alias, folder }: { alias: string; folder: string },
): Promise<LocalPlace> {
  let others: readonly LiveName[] = [];
  try {
    if (sshConfig !== "none") {
      return await claimName(folder, {
        name: name ?? nameFor(alias),
        as,
        isExact: name !== undefined,
        listen: (others) => listen(localPort, others),
      });
    }
    others = await healNames(folder);
  } catch (error) {
    if (!(error instanceof PublishingError)) throw error;
    log.warn("the port has no name for ssh: {reason}", { reason: messageOf(error) });
  }
  return { listener: await listen(localPort, others), name: undefined };
}
