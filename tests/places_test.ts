import assert from "node:assert/strict";
import type { ByteConnection } from "../lib/byte_connection.ts";
import { type Guest, Places } from "../lib/places.ts";
import { settled } from "./support/scripted_connector.ts";

/** As many as may be silent or wait for a place, and as may log in. */
const room = 1024;
const logins = 32;

/** A peer that says one byte when it is told to. */
class Peer implements ByteConnection {
  readonly events: string[] = [];
  readonly #spoken = Promise.withResolvers<void>();
  guest!: Guest;

  speak(): void {
    this.#spoken.resolve();
    void this.guest.read(new Uint8Array(1)).then(() => this.events.push("read"));
  }

  read(): Promise<number> {
    return this.#spoken.promise.then(() => 1);
  }

  write(data: Uint8Array): Promise<number> {
    return Promise.resolve(data.length);
  }

  close(): void {
    this.events.push("closed");
  }
}

function enter(places: Places): Peer | undefined {
  const peer = new Peer();
  const guest = places.enter(peer);
  if (!guest) return undefined;
  peer.guest = guest;
  guest.host = {
    onWait: () => peer.events.push("waits"),
    onPlace: () => peer.events.push("has a place"),
    onUnwanted: () => guest.close(),
  };
  return peer;
}

Deno.test("when there is no room, the oldest silent one goes, and never one that has spoken", async () => {
  const places = new Places();
  const peers = Array.from({ length: room }, () => enter(places)!);
  peers[0]!.speak();
  await settled();
  const newest = [enter(places), enter(places)];
  // The first has spoken and has a place, so there was room for one.
  assert.deepEqual(peers[0]!.events, ["waits", "has a place", "read"]);
  assert.deepEqual([peers[1]!.events, peers[2]!.events], [["closed"], []]);
  for (const peer of [...peers.slice(2), ...newest]) peer!.speak();
  await settled();
  while (places.size < room + logins) {
    enter(places)!.speak();
    await settled();
  }
  assert.equal(enter(places), undefined);
});

Deno.test("whoever waits gets the place of one that has logged in or left, in turn", async () => {
  const places = new Places();
  const peers = Array.from({ length: logins + 2 }, () => enter(places)!);
  for (const peer of peers) peer.speak();
  await settled();
  const [next, last] = peers.slice(-2);
  assert.deepEqual([next!.events, last!.events], [["waits"], ["waits"]]);
  peers[0]!.guest.leave();
  await settled();
  assert.deepEqual([next!.events, last!.events], [["waits", "has a place", "read"], ["waits"]]);
  peers[0]!.guest.leave();
  peers[1]!.guest.close();
  await settled();
  assert.deepEqual(last!.events, ["waits", "has a place", "read"]);
});
