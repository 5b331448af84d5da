/** Where a remote forward listens, and what requests for it look like (RFC 4254, section 7.1). */

import { displayText, encodeFields, Reader, readUint32 } from "./ssh_data.ts";

/** A TCP address, or the path of a unix socket. */
export type Place =
  | { kind: "tcpip"; bindAddress: string; bindPort: number }
  | { kind: "streamlocal"; socketPath: string };

/** The largest TCP port. */
export const maximumPort = 65535;

/** How many file descriptors sshd needs to listen there: `localhost` is 127.0.0.1 and ::1. */
export function descriptorsOf({ kind }: Place): number {
  return kind === "tcpip" ? 2 : 1;
}

/** The request for a listener; with `cancel-` before its name it is the one that ends it. */
export function listenRequest(place: Place): { name: string; data: Uint8Array } {
  return place.kind === "tcpip"
    ? { name: "tcpip-forward", data: encodeFields(place.bindAddress, place.bindPort) }
    : { name: "streamlocal-forward@openssh.com", data: encodeFields(place.socketPath) };
}

export function describePlace(place: Place): string {
  if (place.kind === "streamlocal") return displayText(place.socketPath);
  return `${displayText(place.bindAddress) || "*"}:${place.bindPort}`;
}

/** The port that upstream has allocated; `undefined` where it names none. */
export function readGrantedPort(data: Uint8Array): number | undefined {
  const port = data.length >= 4 ? readUint32(data, 0) : 0;
  return port === 0 || port > maximumPort ? undefined : port;
}

export function readPlace(kind: Place["kind"], data: Uint8Array): Place {
  const reader = new Reader(data);
  return kind === "tcpip"
    ? { kind, bindAddress: reader.text(), bindPort: reader.uint32() }
    : { kind, socketPath: reader.text() };
}

/**
 * Finds the listener at a place: as it was asked for, else any spelling of it, else the port's only
 * place; of several the one that was granted last.
 */
export function findNewest<Listener extends { place: Place; grant: number }>(
  listeners: readonly Listener[],
  place: Place,
): Listener | undefined {
  const newestFirst = listeners.toSorted((one, two) => two.grant - one.grant);
  const onPort = newestFirst.filter((it) => isSamePort(it.place, place));
  const [newest] = onPort;
  return newestFirst.find((it) => isEqualPlace(it.place, place)) ??
    newestFirst.find((it) => isSamePlace(it.place, place)) ??
    (newest && onPort.every((it) => isSamePlace(it.place, newest.place)) ? newest : undefined);
}

/** Whether two places are spelled alike. */
export function isEqualPlace(one: Place, two: Place): boolean {
  if (one.kind === "streamlocal" || two.kind === "streamlocal") return isSamePlace(one, two);
  return one.bindPort === two.bindPort && one.bindAddress === two.bindAddress;
}

/** Whether sshd may bind two places to the same socket, however they are spelled. */
function isSamePlace(one: Place, two: Place): boolean {
  if (one.kind === "tcpip" && two.kind === "tcpip") {
    return one.bindPort === two.bindPort &&
      addressClass(one.bindAddress) === addressClass(two.bindAddress);
  }
  return one.kind === "streamlocal" && two.kind === "streamlocal" &&
    one.socketPath === two.socketPath;
}

/** Whether two places are the same TCP port, at whatever addresses. */
export function isSamePort(one: Place, two: Place): boolean {
  return one.kind === "tcpip" && two.kind === "tcpip" && one.bindPort === two.bindPort;
}

/** sshd binds all of these to loopback, or to every address, depending on GatewayPorts. */
const anyOrLoopback = ["", "*", "localhost", "127.0.0.1", "0.0.0.0", "::", "::1"];

function addressClass(address: string): string {
  const name = address.toLowerCase();
  return anyOrLoopback.includes(name) ? "" : name;
}
