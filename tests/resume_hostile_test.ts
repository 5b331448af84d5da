/** What a host, or chance, may do to a connection that is to be kept there. */

import assert from "node:assert/strict";
import type { ByteConnection } from "../lib/byte_connection.ts";
import { ask, CannotResumeError, type Carrier, NotKeptError, openCarrier } from "../lib/carrier.ts";
import { UpstreamLostError } from "../lib/errors.ts";
import { Hand } from "../lib/hand.ts";
import { programs, resumeCommand } from "../lib/resume_programs.ts";
import { ResumeStream } from "../lib/resume_stream.ts";
import { buildMessage } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { waitUntil } from "./support/processes.ts";
import { type Language, makeResumeHost, newName, token } from "./support/resume_host.ts";

/** What makes a program wait, right after its socket has a name, until the file `go` is there. */
const slowed: Record<Language, [RegExp, string]> = {
  perl: [/bind\(\$l, [^)]*\)\)/, "$& and wait_for_go($d)"],
  python: [/l\.bind\(.*/, '$&\n            while b"go" not in posix.listdir(d): time.sleep(0.01)'],
};
const waitForGo =
  'sub wait_for_go { my $d = shift; select(undef, undef, undef, 0.01) until -e "$d/go"; 1 }\n';

for (const language of Object.keys(programs) as Language[]) {
  Deno.test(`${language}: one that has just begun is not taken for one that has ended`, async () => {
    using sshd = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    await using host = await makeResumeHost(language, sshd.addr.port);
    const slow = programs[language].replace(...slowed[language]);
    assert.notEqual(slow, programs[language]);
    const command = resumeCommand({
      ...programs,
      [language]: language === "perl" ? waitForGo + slow : slow,
    });
    const request = { kind: "new", token, seconds: 60 } as const;
    const first = host.open({ ...request, name: newName() }, { command });
    const names = async () =>
      (await Array.fromAsync(Deno.readDir(host.sockets))).map((it) => it.name);
    await waitUntil(
      "the socket has a name",
      async () => (await names().catch(() => [])).length > 0,
    );
    const second = await host.open({ ...request, name: newName() });
    await Deno.writeTextFile(`${host.sockets}/go`, "");
    const carriers = [await first, second];
    assert.equal((await names()).filter((name) => /^[0-9a-f]{32}$/.test(name)).length, 2);
    for (const { connection } of carriers) {
      await connection.write(Uint8Array.of(88, 0, 0, 0, 0));
      while (await connection.take() !== null);
    }
    await waitUntil("nothing is left", async () => (await names()).join() === "go");
    await Promise.all(carriers.map((carrier) => carrier.cut()));
  });
}

/** A connection that says these bytes and then ends. */
function saying(bytes: Uint8Array): ByteConnection & Carrier["connection"] {
  let rest = bytes;
  return {
    take() {
      const all = rest.length > 0 ? rest : null;
      rest = new Uint8Array();
      return Promise.resolve(all);
    },
    read: (buffer) => {
      if (rest.length === 0) return Promise.resolve(null);
      const part = rest.subarray(0, buffer.length);
      rest = rest.subarray(part.length);
      buffer.set(part);
      return Promise.resolve(part.length);
    },
    write: (data) => Promise.resolve(data.length),
    close: () => {},
  };
}

for (const answer of ["no gone", "", "ok 0", "ok 0 /a b", "ok 9999999999999999 /a"]) {
  Deno.test(`a host that answers "${answer}" at once cannot keep a connection, or does not any more`, async () => {
    const connection = () => saying(new TextEncoder().encode(`sshshim-resume 1 perl\n${answer}\n`));
    const begun = ask(connection(), { kind: "new", name: newName(), token, seconds: 1 });
    await assert.rejects(begun, CannotResumeError);
    const kept = ask(connection(), { kind: "attach", path: "/a", token, has: 0 });
    await assert.rejects(kept, NotKeptError);
  });
}

Deno.test("a host that has bytes of a connection that has just begun cannot keep it", async () => {
  const connection = saying(new TextEncoder().encode("sshshim-resume 1 perl\nok 5 /a\n"));
  const begun = ask(connection, { kind: "new", name: newName(), token, seconds: 1 });
  await assert.rejects(begun, CannotResumeError);
});

Deno.test("a host that ends each carrier after one byte is not asked again without a pause", async () => {
  const counts = { attached: 0, pauses: 0 };
  const done = Promise.withResolvers<void>();
  /** A frame of one byte. */
  const carrier = (): Carrier => ({
    connection: saying(Uint8Array.of(68, 0, 0, 0, 1, 7)),
    answer: { has: 0, path: "/a" },
    reason: undefined,
    probe() {},
  });
  const stream = new ResumeStream(carrier(), {
    name: "host",
    resumeForMs: 60_000,
    backoff: {
      next: () => {
        counts.pauses++;
        return 1;
      },
      reset() {},
    },
    attach: () => {
      if (++counts.attached === 10) done.resolve();
      return Promise.resolve(carrier());
    },
  });
  await done.promise;
  assert.equal(counts.pauses, counts.attached);
  stream.close();
  await stream.whenClosed;
});

Deno.test("a carrier on which the host breaks the protocol is one that is lost, and is tried again", async () => {
  const { channelOpenConfirmation } = MessageType;
  const violations = [
    buildMessage(channelOpenConfirmation, 5, 0, 1000, 1000),
    buildMessage(channelOpenConfirmation, 0, 0, 1000, 0),
    buildMessage(MessageType.channelData, 0, "x"),
    Uint8Array.of(channelOpenConfirmation, 1),
  ];
  for (const violation of violations) {
    const [ours, hosts] = [new Hand(), new Hand()];
    for (const [hand, other] of [[ours, hosts], [hosts, ours]] as const) hand.meet(other, () => {});
    hosts.start({ onPayload: () => hosts.send(violation), onDrain() {}, onDisconnect() {} });
    const opened = openCarrier({ kind: "new", name: newName(), token, seconds: 1 }, {
      connector: {
        name: "user@host:22",
        connect: ({ onReady }) => Promise.resolve(onReady(ours, { verdict: "trusted" })),
      },
      keepalive: { intervalMs: 0, count: 3 },
      signal: new AbortController().signal,
      mayAsk: false,
      onSession: () => {},
    });
    await assert.rejects(opened, UpstreamLostError);
  }
});
