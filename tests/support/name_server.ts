/**
 * A name server at port 53 of 127.0.0.1, in a network namespace of its own, while a command runs.
 *
 * `name_server.ts ZONE COMMAND…` takes the zone as JSON: names, each with an address of IPv4 or with
 * the name that it stands for. It ends with the status of the command.
 */

import { Buffer } from "node:buffer";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { isIPv4 } from "node:net";

const types = { A: 1, CNAME: 5 } as const;
const noSuchName = 3;

/** The answer to a query with one question (RFC 1035, 4.1). */
function answer(query: Uint8Array, zone: Readonly<Record<string, string>>): Uint8Array {
  const end = query.indexOf(0, 12) + 5;
  const name = readName(query);
  const type = Buffer.from(query).readUInt16BE(end - 4);
  const records: Uint8Array[] = [];
  let owner = name;
  // An alias comes with what it stands for, as from a server that asks others.
  for (let value = zone[owner]; value !== undefined; value = zone[owner]) {
    if (isIPv4(value)) {
      if (type === types.A) records.push(record(owner, types.A, value.split(".").map(Number)));
      break;
    }
    records.push(record(owner, types.CNAME, writeName(value)));
    if (type === types.CNAME) break;
    owner = value;
  }
  const header = Buffer.alloc(12);
  header.writeUInt16BE(Buffer.from(query).readUInt16BE(0), 0);
  header.writeUInt16BE(0x8580 | (zone[name] === undefined ? noSuchName : 0), 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(records.length, 6);
  return Buffer.concat([header, query.subarray(12, end), ...records]);
}

function record(owner: string, type: number, data: ArrayLike<number>): Uint8Array {
  const fields = Buffer.alloc(10);
  fields.writeUInt16BE(type, 0);
  fields.writeUInt16BE(1, 2);
  fields.writeUInt32BE(60, 4);
  fields.writeUInt16BE(data.length, 8);
  return Buffer.concat([writeName(owner), fields, Uint8Array.from(data)]);
}

function readName(query: Uint8Array): string {
  const labels: string[] = [];
  for (let at = 12; query[at] !== 0; at += 1 + query[at]!) {
    labels.push(new TextDecoder().decode(query.subarray(at + 1, at + 1 + query[at]!)));
  }
  return labels.join(".").toLowerCase();
}

function writeName(name: string): Uint8Array {
  const labels = name.split(".").map((label) => Buffer.from(label));
  return Buffer.concat([
    ...labels.flatMap((label) => [Buffer.of(label.length), label]),
    Buffer.of(0),
  ]);
}

if (import.meta.main) {
  const [zone, program, ...args] = Deno.args;
  const names = JSON.parse(zone!);
  const socket = createSocket("udp4");
  socket.on("message", (query, from) => socket.send(answer(query, names), from.port, from.address));
  socket.bind(53, "127.0.0.1");
  await once(socket, "listening");
  const { code } = await new Deno.Command(program!, { args }).spawn().status;
  Deno.exit(code);
}
