/** One host's local port, and the name that leads there for ssh. */

import { reachable } from "./banner.ts";
import { loadClientKey } from "./client_key.ts";
import { EndpointError, messageOf, PublishingError } from "./errors.ts";
import { listen } from "./local_port.ts";
import type { LocalHostKey } from "./local_host_key.ts";
import { logger } from "./log.ts";
import { publicKeyLine } from "./public_key.ts";
import { isSetUp } from "./setup.ts";
import { hostOf, nameFor } from "./published_config.ts";
import {
  claimName,
  healNames,
  type LiveName,
  publishedFolder,
  type PublishedName,
} from "./published_files.ts";

const log = logger("name");

/** What the command line says of the name and the port. */
export interface PlaceOptions {
  /** The address to listen at. */
  localHost: string;
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
 * @param home the folder of the user's account, where ssh looks
 * @throws {EndpointError} The port cannot be had; or a name was asked for, and is in use.
 */
export async function takePlace(
  { localHost: hostname, localPort: port, name, as, sshConfig }: PlaceOptions,
  { alias, home }: { alias: string; home: string },
): Promise<LocalPlace> {
  const folder = publishedFolder(home);
  let others: readonly LiveName[] = [];
  try {
    if (sshConfig !== "none") {
      const wanted = { name: name ?? nameFor(alias), as };
      const place = await claimName(folder, {
        ...wanted,
        isExact: name !== undefined,
        listen: (others) => listen({ hostname, port }, others),
      });
      if (place.name.name !== wanted.name) {
        const [host, taken] = [place.name.host, hostOf(wanted)];
        log.info("{taken} is another sshshim: this one is {host}", { taken, host });
      }
      return place;
    }
    others = await healNames(folder);
  } catch (error) {
    if (!(error instanceof PublishingError)) throw error;
    log.warn("the port has no name for ssh: {reason}", { reason: messageOf(error) });
  }
  return { listener: await listen({ hostname, port }, others), name: undefined };
}

/** How ssh reaches an endpoint by its name. */
export interface SshName {
  /** `NAME.shim`. */
  host: string;
  /** The further name. */
  as?: string;
  /** Where the configuration is; absent where it is not written. */
  configFile?: string;
  /** The configuration itself. */
  config: string;
  /** Whether ssh finds the file by itself. */
  isSetUp: boolean;
}

/**
 * Lets ssh find an endpoint that listens. Where that fails, a warning says so and there is no name.
 *
 * @param home the folder of the user's account, where ssh looks
 */
export async function publish(
  { name }: LocalPlace,
  { home, address, user, hostKeys, controlPath, isPrinted }: {
    home: string;
    address: string;
    /** The account on the host. */
    user: string;
    hostKeys: readonly LocalHostKey[];
    /** The control socket by which clients are to come, if they are. */
    controlPath?: string;
    /** Whether the configuration is not to be written. */
    isPrinted: boolean;
  },
): Promise<SshName | undefined> {
  if (name === undefined) return undefined;
  const keys = hostKeys.map(({ publicKey }) => publicKeyLine(publicKey));
  try {
    const identityFile = await clientKeyFile();
    const facts = { address: reachable(address), user, hostKeys: keys, identityFile, controlPath };
    const config = name.publish(facts, { isPrinted });
    if (config === undefined) return undefined;
    const { host, as, configFile } = name;
    return {
      host,
      ...(as === undefined ? {} : { as }),
      ...(isPrinted ? {} : { configFile }),
      config,
      isSetUp: await isSetUp(home),
    };
  } catch (error) {
    if (!(error instanceof PublishingError)) throw error;
    log.warn("the port has no name for ssh: {reason}", { reason: messageOf(error) });
    name.remove();
    return undefined;
  }
}

/** Without a key ssh still gets in where the kernel tells whose it is. */
async function clientKeyFile(): Promise<string | undefined> {
  try {
    return (await loadClientKey()).privateFile;
  } catch (error) {
    if (!(error instanceof EndpointError)) throw error;
    log.warn("{message}", { message: messageOf(error) });
    return undefined;
  }
}
