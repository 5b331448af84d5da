import assert from "node:assert/strict";
import { join } from "node:path";
import {
  type Admission,
  type AdmissionOptions,
  type Admit,
  type Endpoints,
  sameUserOnly,
  sameUserSupported,
} from "../lib/access.ts";
import { endpointsOf } from "../lib/door.ts";
import { findSocketsBetween } from "../lib/socket_diag.ts";
import "./support/loaded_libc.ts";

/** The kernel's tables exist on Linux alone; everything that reads the real ones runs there. */
const isLinux = Deno.build.os === "linux";
const NOBODY = 65534;

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "sshshim-access-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** What a gate-keeper says, without the socket that it found. */
function gateKeeper(options?: AdmissionOptions): Admit {
  const admit = sameUserOnly(options);
  return async (connection) => {
    const admission = await admit(connection);
    if (!admission.admitted) return admission;
    if (admission.socket) assert.match(admission.socket.inode, /^\d+$/);
    return { admitted: true };
  };
}

function admitSameUser(connection: Endpoints, options?: AdmissionOptions): Promise<Admission> {
  return gateKeeper(options)(connection);
}

async function assertRefused(
  connection: Endpoints,
  { pattern, ...options }: AdmissionOptions & { pattern: RegExp },
): Promise<void> {
  const admission = await admitSameUser(connection, options);
  assert.equal(admission.admitted, false);
  assert(!admission.admitted);
  assert.match(admission.reason, pattern);
}

Deno.test("the lookup is offered where the kernel has the table, and nowhere else", () => {
  assert.equal(sameUserSupported(), isLinux);
});

Deno.test({
  name: "a connection of our own user is admitted, also from an IPv6 socket",
  ignore: !isLinux,
  fn: async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    for (const hostname of ["127.0.0.1", "::ffff:127.0.0.1"]) {
      using client = await Deno.connect({ hostname, port: listener.addr.port });
      using connection = await listener.accept();
      assert.equal(client.localAddr.hostname, hostname);
      assert.deepEqual(await admitSameUser(endpointsOf(connection)), { admitted: true });
      const uid = Deno.uid()! + 1;
      const pattern = new RegExp(`belongs to user ${Deno.uid()}$`);
      await assertRefused(endpointsOf(connection), { uid, pattern });
    }
  },
});

Deno.test({
  name: "a connection over IPv6 loopback is admitted",
  ignore: !isLinux,
  fn: async () => {
    using listener = Deno.listen({ hostname: "::1", port: 0 });
    using _client = await Deno.connect({ hostname: "::1", port: listener.addr.port });
    using connection = await listener.accept();
    assert.deepEqual(await admitSameUser(endpointsOf(connection)), { admitted: true });
  },
});

Deno.test({
  name: "a connection of another user is refused",
  // Only root can become somebody else; the tables below stand in for that elsewhere.
  ignore: !isLinux || Deno.uid() !== 0,
  fn: async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const script = `exec 3<>/dev/tcp/127.0.0.1/${listener.addr.port}; read -r _`;
    const ids = ["--reuid", String(NOBODY), "--regid", String(NOBODY), "--clear-groups"];
    const stranger = new Deno.Command("setpriv", {
      args: [...ids, "bash", "-c", script],
      stdin: "piped",
    }).spawn();
    try {
      using connection = await listener.accept();
      const pattern = /belongs to user 65534$/;
      await assertRefused(endpointsOf(connection), { pattern });
      assert.deepEqual(
        await admitSameUser(endpointsOf(connection), { uid: NOBODY }),
        { admitted: true },
      );
    } finally {
      await stranger.stdin.close();
      await stranger.status;
    }
  },
});

Deno.test({
  name: "a connection of another user is refused from an IPv6 socket as well",
  ignore: !isLinux || Deno.uid() !== 0,
  fn: async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const script = "import socket, sys; s = socket.socket(socket.AF_INET6); " +
      `s.connect(("::ffff:127.0.0.1", ${listener.addr.port})); sys.stdin.read()`;
    const ids = ["--reuid", String(NOBODY), "--regid", String(NOBODY), "--clear-groups"];
    const stranger = new Deno.Command("setpriv", {
      args: [...ids, "/usr/bin/python3", "-c", script],
      stdin: "piped",
    }).spawn();
    try {
      using connection = await listener.accept();
      await assertRefused(endpointsOf(connection), { pattern: /belongs to user 65534$/ });
    } finally {
      await stranger.stdin.close();
      await stranger.status;
    }
  },
});

Deno.test({
  name: "a connection that its peer has closed is refused",
  ignore: !isLinux,
  fn: async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const client = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
    using connection = await listener.accept();
    client.close();
    // Its end has arrived once the read ends.
    assert.equal(await connection.read(new Uint8Array(1)), null);
    await assertRefused(endpointsOf(connection), {
      pattern: /state 0[4-6]$|belongs to no|no record/,
    });
  },
});

Deno.test({
  name: "each of many connections is admitted while others come and go",
  ignore: !isLinux,
  fn: async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const port = listener.addr.port;
    for (let round = 0; round < 5; round++) {
      const clients = await Promise.all(
        Array.from({ length: 60 }, () => Deno.connect({ hostname: "127.0.0.1", port })),
      );
      const connections: Deno.TcpConn[] = [];
      for (let index = 0; index < clients.length; index++) {
        connections.push(await listener.accept());
      }
      try {
        const admit = sameUserOnly();
        const admissions = await Promise.all(
          connections.map((connection) => admit(endpointsOf(connection))),
        );
        assert.deepEqual(
          new Set(admissions.map((admission) => admission.admitted)),
          new Set([true]),
        );
      } finally {
        for (const connection of [...clients, ...connections]) connection.close();
      }
    }
  },
});

Deno.test({
  name: "the kernel says of single sockets what its tables say",
  ignore: !isLinux,
  fn: async () => {
    for (const [hostname, from] of [["127.0.0.1"], ["127.0.0.1", "::ffff:127.0.0.1"], ["::1"]]) {
      using listener = Deno.listen({ hostname, port: 0 });
      const { port } = listener.addr;
      using client = await Deno.connect({ hostname: from ?? hostname, port });
      using connection = await listener.accept();
      const [byKernel, ...others] = findSocketsBetween(client.localAddr.port, port)!;
      assert.deepEqual(others, []);
      assert.equal(byKernel!.local.port, client.localAddr.port);
      const inode = String(byKernel!.inode);
      assert.deepEqual(
        await sameUserOnly({ procNet: "/proc/net" })(endpointsOf(connection)),
        { admitted: true, socket: { uid: byKernel!.uid, inode } },
      );
      // The other end is another socket.
      const [ours] = findSocketsBetween(port, client.localAddr.port)!;
      assert.notEqual(ours!.inode, byKernel!.inode);
    }
    assert.deepEqual(findSocketsBetween(1, 2), []);
  },
});

/** A connection from port 0x1234 to port 0x5678 of 127.0.0.1, for tables of our own. */
const CONNECTION: Endpoints = {
  remoteHost: "127.0.0.1",
  remotePort: 0x1234,
  localHost: "127.0.0.1",
  localPort: 0x5678,
};

const isLittleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
const LOOPBACK = isLittleEndian ? "0100007F" : "7F000001";
const MAPPED = `0000000000000000${isLittleEndian ? "FFFF0000" : "0000FFFF"}${LOOPBACK}`;
const LOOPBACK6 = `000000000000000000000000${isLittleEndian ? "01000000" : "00000001"}`;
const HEADER =
  "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

function row(
  { ends = `${LOOPBACK}:1234 ${LOOPBACK}:5678`, state = "01", uid = "1000", inode = "777" } = {},
): string {
  return `   3: ${ends} ${state} 00000000:00000000 00:00000000 00000000 ${uid.padStart(5)}` +
    `        0 ${inode} 1 0000000046f6c7b3 20 4 30 10 -1\n`;
}

Deno.test("only one certain row of our user admits", () =>
  withFolder(async (folder) => {
    const mapped = (uid: string) => row({ ends: `${MAPPED}:1234 ${MAPPED}:5678`, uid });
    const reversed = row({ ends: `${LOOPBACK}:5678 ${LOOPBACK}:1234`, uid: "1001" });
    const stranger = row({ uid: "1001" });
    const cases: [tcp: string, tcp6: string, refusal: RegExp | null][] = [
      [HEADER + row(), HEADER, null],
      [HEADER, HEADER + mapped("1000"), null],
      [HEADER + reversed + row(), HEADER, null],
      [HEADER + row() + row(), HEADER, null],
      ["", "", /no record/],
      [HEADER, HEADER, /no record/],
      [HEADER + reversed, HEADER, /no record/],
      [HEADER + row({ ends: `${LOOPBACK}:1234 ${LOOPBACK}:5679` }), HEADER, /no record/],
      [HEADER + row({ ends: `${LOOPBACK}:1235 ${LOOPBACK}:5678` }), HEADER, /no record/],
      [HEADER + row({ ends: `0200007F:1234 ${LOOPBACK}:5678` }), HEADER, /no record/],
      [HEADER + row({ ends: `${LOOPBACK}:1234 0200007F:5678` }), HEADER, /no record/],
      [HEADER + row({ ends: `${LOOPBACK}:1234 ${MAPPED}:5678` }), HEADER, /no record/],
      [HEADER + row({ ends: `00000000:1234 ${LOOPBACK}:5678` }), HEADER, /no record/],
      // Our ends in the wrong columns.
      [HEADER + `   3: x ${row().slice(6)}`, HEADER, /no record/],
      [HEADER + stranger, HEADER, /belongs to user 1001/],
      [HEADER + row() + stranger, HEADER, /belongs to user 1001/],
      [HEADER + stranger + row(), HEADER, /belongs to user 1001/],
      [HEADER + row(), HEADER + mapped("1001"), /belongs to user 1001/],
      [HEADER + row({ uid: "0" }), HEADER, /belongs to user 0/],
      ...["00", "02", "03", "04", "05", "06", "08", "0A", "0B", "1", "001"].map((state) =>
        [HEADER + row({ state }), HEADER, /is in state/] as [string, string, RegExp]
      ),
      [HEADER + row() + row({ state: "06" }), HEADER, /is in state 06/],
      ...["-1", "+1000", "1e3", "0x3E8", "1000.0", "x", "10000000000000001000"].map((uid) =>
        [HEADER + row({ uid }), HEADER, /cannot be parsed/] as [string, string, RegExp]
      ),
      [HEADER + row({ inode: "x" }), HEADER, /cannot be parsed/],
      [HEADER + row({ inode: "0" }), HEADER, /belongs to no process/],
      [HEADER + row({ inode: "000" }), HEADER, /belongs to no process/],
      [`${HEADER}   3: ${LOOPBACK}:1234 ${LOOPBACK}:5678 01\n`, HEADER, /cannot be parsed/],
      [HEADER + row().trimEnd(), HEADER, /ends inside a row/],
      [HEADER + row().slice(0, 80), HEADER, /ends inside a row/],
      [HEADER + row(), HEADER + "half a row", /ends inside a row/],
      [HEADER + row() + "x".repeat(100_000) + "\n", HEADER, /not a table/],
      [HEADER + row().replaceAll(" ", "\0"), HEADER, /no record/],
      [row().replaceAll("\n", "\r"), "", /ends inside a row/],
    ];
    for (const [index, [tcp, tcp6, refusal]] of cases.entries()) {
      const procNet = join(folder, String(index));
      await Deno.mkdir(procNet);
      await Deno.writeTextFile(join(procNet, "tcp"), tcp);
      await Deno.writeTextFile(join(procNet, "tcp6"), tcp6);
      const admission = await admitSameUser(CONNECTION, { procNet, uid: 1000 });
      const about = `case ${index}: ${JSON.stringify(admission)}`;
      assert.equal(admission.admitted, refusal === null, about);
      if (!admission.admitted) assert.match(admission.reason, refusal!, about);
    }
  }));

Deno.test("where the tables say nothing of a connection it is refused, and not asked for a key", () =>
  withFolder(async (procNet) => {
    const options = { procNet, uid: 1000 };
    const verdict = async (...rows: string[]) => {
      await Deno.writeTextFile(join(procNet, "tcp"), HEADER + rows.join(""));
      await Deno.writeTextFile(join(procNet, "tcp6"), HEADER);
      return await admitSameUser(CONNECTION, options);
    };
    // The entry has vanished; the port is another user's by now; its socket is nobody's any more.
    assert.deepEqual(await verdict(row()), { admitted: true });
    for (const rows of [[], [row({ uid: "1001" })], [row({ state: "06", inode: "0" })]]) {
      const admission = await verdict(...rows);
      assert.equal(admission.admitted, false);
      assert(!admission.admitted && admission.cannotTell === undefined);
    }
    // Nobody can say anything.
    await Deno.writeTextFile(join(procNet, "tcp"), "half a row");
    const doubt = await admitSameUser(CONNECTION, options);
    assert(!doubt.admitted && doubt.cannotTell === true);
  }));

Deno.test("IPv6 loopback addresses are written as the kernel writes them", () =>
  withFolder(async (procNet) => {
    await Deno.writeTextFile(join(procNet, "tcp"), HEADER);
    const ends = `${LOOPBACK6}:1234 ${LOOPBACK6}:5678`;
    await Deno.writeTextFile(join(procNet, "tcp6"), HEADER + row({ ends }));
    const connection = { ...CONNECTION, remoteHost: "::1", localHost: "::1" };
    assert.deepEqual(await admitSameUser(connection, { procNet, uid: 1000 }), { admitted: true });
    await assertRefused(CONNECTION, { procNet, uid: 1000, pattern: /no record/ });
    const mixed = { ...CONNECTION, remoteHost: "::1" };
    await assertRefused(mixed, { procNet, uid: 1000, pattern: /not a loopback connection/ });
  }));

Deno.test("addresses other than loopback are refused without a lookup", async () => {
  const hosts = ["10.0.0.1", "0.0.0.0", "::", "localhost", "127.1", "127.0.0.256", "127.0.0.1 "];
  for (const host of [...hosts, "::ffff:10.0.0.1", "::ffff:7f00:1", "fe80::1", "128.0.0.1", ""]) {
    const pattern = /not a loopback connection/;
    await assertRefused({ ...CONNECTION, remoteHost: host }, { pattern, uid: 1000 });
    await assertRefused({ ...CONNECTION, localHost: host }, { pattern, uid: 1000 });
  }
});

Deno.test("a table that cannot be read refuses, but a machine may lack IPv6", () =>
  withFolder(async (procNet) => {
    const options = { procNet, uid: 1000 };
    await assertRefused(CONNECTION, { ...options, pattern: /No such file|cannot find/ });
    await Deno.writeTextFile(join(procNet, "tcp"), HEADER + row());
    assert.deepEqual(await admitSameUser(CONNECTION, options), { admitted: true });
    await Deno.mkdir(join(procNet, "tcp6"));
    await assertRefused(CONNECTION, { ...options, pattern: /directory|denied/i });
  }));

Deno.test("a row anywhere in a large table is found, and a second one at its other end", () =>
  withFolder(async (procNet) => {
    const others = Array.from({ length: 60_000 }, (_, index) => {
      const port = (index % 0xffff).toString(16).toUpperCase().padStart(4, "0");
      return row({ ends: `0200007F:${port} ${LOOPBACK}:5678`, uid: "1001" });
    }).join("");
    const options = { procNet, uid: 1000 };
    await Deno.writeTextFile(join(procNet, "tcp"), HEADER + others);
    await assertRefused(CONNECTION, { ...options, pattern: /no record/ });
    await Deno.writeTextFile(join(procNet, "tcp"), HEADER + others + row());
    assert.deepEqual(await admitSameUser(CONNECTION, options), { admitted: true });
    await Deno.writeTextFile(join(procNet, "tcp"), HEADER + row() + others);
    assert.deepEqual(await admitSameUser(CONNECTION, options), { admitted: true });
    await Deno.writeTextFile(
      join(procNet, "tcp"),
      HEADER + row() + others + row({ uid: "1001" }),
    );
    await assertRefused(CONNECTION, { ...options, pattern: /belongs to user 1001/ });
  }));

Deno.test({
  name: "a row that the first reading missed is found by the next",
  // The tables are named pipes here, which give something else at each reading.
  ignore: !isLinux,
  fn: () =>
    withFolder(async (procNet) => {
      const [tcp, tcp6] = [join(procNet, "tcp"), join(procNet, "tcp6")];
      const { success } = await new Deno.Command("mkfifo", { args: [tcp, tcp6] }).output();
      assert(success);
      // A process of its own writes them: opening a pipe waits for its other end.
      const script = 'printf "$1" >tcp; printf "$1" >tcp6; printf "$2" >tcp; printf "$1" >tcp6';
      const abort = new AbortController();
      const writer = new Deno.Command("sh", {
        args: ["-c", script, "sh", HEADER, HEADER + row()],
        cwd: procNet,
        signal: abort.signal,
      }).output();
      try {
        const admission = await admitSameUser(CONNECTION, { procNet, uid: 1000 });
        assert.deepEqual(admission, { admitted: true });
        assert((await writer).success);
      } finally {
        abort.abort();
      }
    }),
});

Deno.test({
  name: "one reading answers all who asked before it began, and later ones wait for the next",
  // The tables are named pipes here: each reading takes what is written for it alone.
  ignore: !isLinux,
  fn: () =>
    withFolder(async (procNet) => {
      const tables = [join(procNet, "tcp"), join(procNet, "tcp6")] as const;
      const { success } = await new Deno.Command("mkfifo", { args: [...tables] }).output();
      assert(success);
      const admit = gateKeeper({ procNet, uid: 1000 });
      const ask = (port: number) => admit({ ...CONNECTION, remotePort: port });
      const ends = (port: string) => `${LOOPBACK}:${port} ${LOOPBACK}:5678`;
      const first = ask(0x1001);
      // The first reading has begun and waits for a writer, so these share the second.
      const later = [ask(0x1002), ask(0x1003), ask(0x1004)];
      const all = row({ ends: ends("1001") }) + row({ ends: ends("1002") }) +
        row({ ends: ends("1003"), uid: "1001" }) + row({ ends: ends("1004"), inode: "0" });
      await Deno.writeTextFile(tables[0], HEADER + all);
      await Deno.writeTextFile(tables[1], HEADER);
      assert.deepEqual(await first, { admitted: true });
      await Deno.writeTextFile(tables[0], HEADER + all);
      await Deno.writeTextFile(tables[1], HEADER);
      assert.deepEqual(await Promise.all(later), [
        { admitted: true },
        {
          admitted: false,
          reason: "the connecting process belongs to user 1001",
          user: 1001,
        },
        { admitted: false, reason: "the connecting socket belongs to no process any more" },
      ]);
    }),
});

Deno.test("the user id of unknown users admits only where every user is known", () =>
  withFolder(async (procNet) => {
    await Deno.writeTextFile(join(procNet, "tcp"), HEADER + row({ uid: String(NOBODY) }));
    const uidMap = join(procNet, "uid_map");
    const options = { procNet, uidMap, uid: NOBODY };
    await Deno.writeTextFile(uidMap, "         0          0 4294967295\n");
    assert.deepEqual(await admitSameUser(CONNECTION, options), { admitted: true });
    const pattern = /namespace/;
    for (const map of ["", "0 1000 1\n", "0 0 65536\n", "0 1000 1\n1 100000 65536\n"]) {
      await Deno.writeTextFile(uidMap, map);
      await assertRefused(CONNECTION, { ...options, pattern });
    }
    await Deno.remove(uidMap);
    await assertRefused(CONNECTION, { ...options, pattern: /No such file|cannot find/ });
  }));
