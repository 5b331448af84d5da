/**
 * Runs other implementations of SSH as clients of sshshim and as the servers behind it, each case
 * directly and through it, and compares:
 *
 *     deno task peers [NAME ...]
 *
 * `ok`: the same came out. `FAIL`: it works directly, and not, or not like that, through sshshim.
 * `n/a`: the peer itself cannot do it. A NAME is `client`, `server` or a peer's, in any case.
 * The exit status is 1 when a cell fails.
 */

import { findPostQuantumSsh } from "./support/openssh10.ts";
import { type PeerCase, peerCases } from "./support/peer_cases.ts";
import { openSsh, otherClients } from "./support/peer_clients.ts";
import { newerOpenSshServer, otherServers } from "./support/peer_servers.ts";
import { type Cell, formatTable, type Peer, runCell } from "./support/peer_matrix.ts";

async function main(names: string[]): Promise<number> {
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "peers-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const newer = resources.use(await findPostQuantumSsh());
  const peers = [
    openSsh("OpenSSH", "ssh"),
    ...(newer === undefined || newer.ssh === "ssh" ? [] : [openSsh("OpenSSH-10", newer.ssh)]),
    ...otherClients(folder),
    ...otherServers(folder),
    ...(newer === undefined || newer.ssh === "ssh" ? [] : [newerOpenSshServer(newer)]),
  ].filter((peer) => isNamed(peer, names));
  const rows = [];
  for (const peer of peers) rows.push({ peer, cells: await runRow(peer) });
  console.log(`\n${formatTable(rows)}`);
  const verdicts = rows.flatMap(({ cells }) => [...cells.values()].map(({ verdict }) => verdict));
  const count = (verdict: string) => verdicts.filter((one) => one === verdict).length;
  console.log(`\n${count("ok")} ok, ${count("FAIL")} failed, ${count("n/a")} not applicable`);
  return count("ok") === 0 || count("FAIL") > 0 ? 1 : 0;
}

function isNamed({ role, name }: Peer, names: string[]): boolean {
  const wanted = names.map((one) => one.toLowerCase());
  const roles = ["client", "server"].filter((one) => wanted.includes(one));
  const others = wanted.filter((one) => !roles.includes(one));
  return (roles.length === 0 || roles.includes(role)) &&
    (others.length === 0 || others.includes(name.toLowerCase()));
}

async function runRow(peer: Peer): Promise<Map<PeerCase, Cell>> {
  await peer.prepare?.();
  const cells = new Map<PeerCase, Cell>();
  for (const peerCase of Object.keys(peerCases) as PeerCase[]) {
    const cell = await runCell(peer, peerCase);
    cells.set(peerCase, cell);
    const { verdict, reason, log } = cell;
    console.log(`${verdict.padEnd(4)} ${peer.role} ${peer.name}: ${peerCase}`);
    for (const text of [reason, log]) {
      if (text !== undefined) console.log(`     ${text.trim().replaceAll("\n", "\n     ")}`);
    }
  }
  return cells;
}

Deno.exit(await main(Deno.args));
