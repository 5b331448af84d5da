/** With which algorithm a user's key is offered to servers of several ages: as ssh does it. */

import assert from "node:assert/strict";
import type ssh2Types from "ssh2";
import { buildMessage, Reader } from "../lib/ssh_data.ts";
import { buildExtInfo } from "../lib/ext_info.ts";
import { ssh2 } from "../lib/ssh2.ts";
import { serverAlgorithms } from "../lib/ssh2_algorithms.ts";
import { announceExtensions } from "../lib/ssh2_extensions.ts";
import { ByteSocket } from "../lib/ssh2_socket.ts";
import { clientEnvironment } from "./support/both.ts";
import { logIn, serverArguments } from "./support/login.ts";
import { run } from "./support/run.ts";
import { certify, makeKey, withFolder } from "./support/signing.ts";
import { makePeer } from "./support/ssh2_peer.ts";

/** The private part of ssh2 1.17.0 that is used here. */
interface Protocol {
  _onPayload(payload: Uint8Array): unknown;
}

/** A server that takes no key. Leaving its scope ends it. */
interface RefusingServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  readonly username: string;
  readonly knownHostsFile: string;
  /** The algorithms with which keys were offered; taking them begins anew. */
  takeOffers(): string[];
}

/** @param listed its `server-sig-algs`; `undefined` for none. */
async function startRefusing(
  folder: string,
  { version, listed }: { version: string; listed: string | undefined },
): Promise<RefusingServer> {
  const hostKey = `${folder}/host`;
  await makeKey(hostKey, "-t", "ed25519");
  // None that is newer than these servers.
  const kex = ["curve25519-sha256"];
  const algorithms = { ...serverAlgorithms(), kex };
  let offers: string[] = [];
  const server = new ssh2.Server({
    hostKeys: [await Deno.readTextFile(hostKey)],
    algorithms: { ...algorithms.forSsh2, kex: kex as ssh2Types.KexAlgorithm[] },
    ident: version,
  }, (connection) => {
    connection.on("error", () => {});
    const { _protocol: protocol } = connection as unknown as { _protocol: Protocol };
    const transport = makePeer(connection, algorithms);
    const send = () => {
      if (listed !== undefined) {
        transport.send(buildExtInfo(new Map([["server-sig-algs", listed]])));
      }
    };
    // In the place of ssh2's own.
    announceExtensions(connection, {
      transport: { ...transport, send },
      answersPings: () => false,
    });
    const onPayload = protocol._onPayload;
    protocol._onPayload = (payload) => {
      if (payload[0] !== 50) return onPayload(payload);
      const reader = new Reader(payload, 1);
      const [, , method] = [reader.text(), reader.text(), reader.text()];
      if (method === "publickey") {
        reader.boolean();
        offers.push(reader.text());
      }
      // ssh2 does not know each of the algorithms.
      transport.send(buildMessage(51, "publickey", false));
    };
  });
  const sockets = new Set<ByteSocket>();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const accepting = (async () => {
    for await (const connection of listener) {
      const socket = new ByteSocket(connection, { role: "server", remote: connection.remoteAddr });
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      server.injectSocket(socket as never);
    }
  })();
  const knownHostsFile = `${folder}/known_hosts`;
  const publicKey = await Deno.readTextFile(`${hostKey}.pub`);
  await Deno.writeTextFile(knownHostsFile, `[127.0.0.1]:${port} ${publicKey}`);
  return {
    ...{ host: "127.0.0.1", port, username: "jane", knownHostsFile },
    takeOffers() {
      const taken = offers;
      offers = [];
      return taken;
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting;
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Servers by what they are, and the list of what they take. */
const servers: [version: string, listed: string | undefined][] = [
  ["OpenSSH_9.2", "ssh-ed25519,rsa-sha2-512,rsa-sha2-256"],
  ["OpenSSH_9.2", "rsa-sha2-256"],
  ["OpenSSH_9.2", "ecdsa-sha2-nistp256"],
  ["OpenSSH_7.4", "ssh-ed25519,ssh-rsa"],
  ["OpenSSH_7.6", "ssh-ed25519,rsa-sha2-256,rsa-sha2-512"],
  ["OpenSSH_6.6.1p1 Debian-4", undefined],
  ["Cisco-1.25", undefined],
  ["elsewhere", undefined],
];

const lists = [
  undefined,
  "+ssh-rsa,ssh-rsa-cert-v01@openssh.com",
  "^ssh-rsa",
  "rsa-sha2-*,ssh-ed25519",
];

for (const [version, listed] of servers) {
  Deno.test(`keys are offered to ${version}, which lists ${listed ?? "nothing"}, as ssh does`, async (t) => {
    await withFolder(async (folder) => {
      const at = (name: string) => `${folder}/${name}`;
      await using server = await startRefusing(folder, { version, listed });
      await makeKey(at("ca"), "-t", "ed25519");
      await makeKey(at("rsa"), "-t", "rsa");
      await makeKey(at("certified"), "-t", "rsa");
      await certify(at("ca"), at("certified"));
      await makeKey(at("ed25519"), "-t", "ed25519");
      for (const list of lists) {
        await t.step(list ?? "as usual", async () => {
          const options = [
            ...["rsa", "certified", "ed25519"].flatMap((name) => ["-i", at(name)]),
            ...["-o", "IdentitiesOnly=yes"],
            ...(list === undefined ? [] : ["-o", `PubkeyAcceptedAlgorithms=${list}`]),
          ];
          await run([
            ...["ssh", "-F", "none", "-o", "BatchMode=yes", ...options],
            ...["-o", `UserKnownHostsFile=${server.knownHostsFile}`],
            ...["-p", String(server.port), `jane@${server.host}`],
          ], { environment: clientEnvironment(folder) });
          const theirs = server.takeOffers();
          assert(theirs.length > 0);
          const { status, log } = await logIn([...serverArguments(server), ...options], { folder });
          assert.equal(status, 3, log);
          // Where ssh would go without a key, because SHA-1 is not allowed, another is tried.
          const isBeyond = (name: string) =>
            listed === undefined && name.startsWith("rsa-sha2-") && !theirs.includes(name);
          assert.deepEqual(server.takeOffers().filter((name) => !isBeyond(name)), theirs);
        });
      }
    });
  });
}

Deno.test("the configuration's limits count for a key that shows itself only when it is unlocked", async (t) => {
  await withFolder(async (folder) => {
    await using server = await startRefusing(folder, { version: "elsewhere", listed: undefined });
    const key = `${folder}/key`;
    await makeKey(key, "-t", "rsa", "-m", "PEM", "-N", "secret");
    await Deno.remove(`${key}.pub`);
    const SSH_ASKPASS = `${folder}/askpass`;
    await Deno.writeTextFile(SSH_ASKPASS, "#!/bin/sh\necho secret\n", { mode: 0o700 });
    const cases: [option: string, offers: string[], log: RegExp][] = [
      ["PubkeyAcceptedAlgorithms=rsa-*", ["rsa-sha2-256"], /refused authentication/],
      ["PubkeyAcceptedAlgorithms=+ssh-rsa", ["ssh-rsa"], /refused authentication/],
      [
        "PubkeyAcceptedAlgorithms=ssh-ed25519",
        [],
        /no signature algorithm that the server accepts/,
      ],
      ["RequiredRSASize=2049", [], /has 2048 bits, and RequiredRSASize is 2049/],
    ];
    for (const [option, offers, message] of cases) {
      await t.step(option, async () => {
        const args = [...serverArguments(server), "-i", key, "-o", option];
        const environment = { SSH_ASKPASS, SSH_ASKPASS_REQUIRE: "force" };
        const { status, log } = await logIn(args, { folder, environment });
        assert.equal(status, 3, log);
        assert.match(log, message);
        assert.deepEqual(server.takeOffers(), offers);
      });
    }
  });
});
