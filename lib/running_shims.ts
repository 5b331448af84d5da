/** The shims of this user that run, by the names of their control sockets. */

import { basename } from "node:path";
import type { ByteConnection } from "./byte_connection.ts";
import { ControlClient } from "./control_client.ts";
import {
  connectTo,
  controlFolder,
  type ControlPlace,
  findControlPlaces,
  isControlSocket,
} from "./control_place.ts";
import { messageOf, NotRunningError, UsageError } from "./errors.ts";
import { localFacts } from "./local_facts.ts";
import { findOwnPath, ownPathFault } from "./own_path.ts";
import { shownText } from "./shown_text.ts";
import { thisSystem } from "./state_folder.ts";
import type { ShimStatus } from "./status.ts";

/** What the names that ssh has for shims end with. */
const ending = ".shim";

/** A place, and the name under which somebody is there or was. */
interface NamedPlace {
  name: string;
  place: ControlPlace;
}

/** The names of all control sockets; some may be left over. */
export function namesOfShims(): string[] {
  try {
    return findControlPlaces(ourFolder()).map(({ path }) => nameAt(path));
  } catch {
    return []; // Nobody wants an error in the middle of a word.
  }
}

/**
 * Speaks with the shim of a name, with or without `.shim`, or with the only one.
 *
 * @throws {NotRunningError} where there is none, or it does not answer.
 * @throws {UsageError} where several could be meant.
 */
export async function meetShim(name: string | undefined): Promise<ControlClient> {
  const places = await findPlaces();
  if (name === undefined) {
    const silent: string[] = [];
    const clients = await meetAll(places, (reason) => silent.push(reason));
    if (clients.length === 0 && silent.length > 0) throw new NotRunningError(silent.join("\n"));
    return theOnly(clients, "Several shims run");
  }
  const wanted = withoutEnding(name);
  for (const it of places) {
    if (it.name !== wanted) continue;
    const client = await meet(it);
    if (client !== undefined) return client;
  }
  const clients = await meetAll(places);
  const called = await Promise.all(clients.map((it) => isCalled(it, wanted)));
  const names = clients.map((client) => client.name).join(", ");
  const found = clients.filter((client, at) => {
    if (!called[at]) client[Symbol.dispose]();
    return called[at];
  });
  if (found.length > 0) return theOnly(found, `Several shims serve "${shownText(name)}"`);
  const those = names === "" ? "No shim runs at all" : `Those that run: ${names}`;
  throw new NotRunningError(`No shim "${shownText(name)}" runs. ${those}.`);
}

/**
 * Speaks with all shims that run.
 *
 * @param onSilent told why one cannot be spoken with.
 * @throws {NotRunningError} where their sockets are not to be trusted.
 */
export async function meetShims(onSilent: (reason: string) => void): Promise<ControlClient[]> {
  return await meetAll(await findPlaces(), onSilent);
}

function theOnly(clients: ControlClient[], several: string): ControlClient {
  const [client, ...others] = clients;
  if (client === undefined) throw new NotRunningError("No shim runs.");
  if (others.length === 0) return client;
  for (const it of clients) it[Symbol.dispose]();
  const names = clients.map(({ name }) => name).join(", ");
  throw new UsageError(`${several}: ${names}. Say which by its name.`);
}

async function meetAll(
  places: readonly NamedPlace[],
  onSilent: (reason: string) => void = () => {},
): Promise<ControlClient[]> {
  const clients = await Promise.all(places.map(async (it) => {
    try {
      return await meet(it);
    } catch (error) {
      onSilent(messageOf(error));
      return undefined;
    }
  }));
  return clients.filter((it) => it !== undefined);
}

/** @returns `undefined` where nobody is. */
async function meet({ name, place }: NamedPlace): Promise<ControlClient | undefined> {
  let connection: ByteConnection | undefined;
  try {
    connection = await connectTo(place);
  } catch (error) {
    throw new NotRunningError(messageOf(error), { cause: error });
  }
  return connection && await ControlClient.meet(name, connection);
}

/** The name may be one that ssh has for it, or that of its host. */
async function isCalled(client: ControlClient, wanted: string): Promise<boolean> {
  let status: ShimStatus;
  try {
    status = await client.status({ full: false });
  } catch {
    return false; // It has ended just now, or stands still.
  }
  return [status.name, ...status.local.sshNames].map(withoutEnding).includes(wanted);
}

/**
 * The sockets that are ours: whoever could put others there would be believed.
 *
 * @throws {NotRunningError} where they are not ours alone.
 */
async function findPlaces(): Promise<NamedPlace[]> {
  const folder = ourFolder();
  const places = findControlPlaces(folder);
  if (places.length === 0) return [];
  const judged = await findOwnPath(folder);
  if ("fault" in judged) {
    throw new NotRunningError(`The sockets in "${folder}" are not used: ${judged.fault}.`);
  }
  return places.filter(({ path, hiddenPath }) => isOurs(path) || isOurs(hiddenPath))
    .map((place) => ({ name: nameAt(place.path), place }));
}

function isOurs(path: string): boolean {
  try {
    const info = Deno.lstatSync(path);
    return isControlSocket(info) && ownPathFault(info, thisSystem()) === undefined;
  } catch {
    return false; // It has gone meanwhile.
  }
}

function ourFolder(): string {
  return controlFolder({ ...thisSystem(), home: localFacts({}).home });
}

function nameAt(path: string): string {
  return basename(path).replace(/\.ctl$/, "");
}

function withoutEnding(name: string): string {
  return name.endsWith(ending) ? name.slice(0, -ending.length) : name;
}
