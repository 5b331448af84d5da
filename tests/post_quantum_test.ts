/** The post-quantum key exchange: its arithmetic, on both legs, through rekeys, and without. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type ssh2Types from "ssh2";
import { ssh2 } from "../lib/ssh2.ts";
import { clientAlgorithms } from "../lib/ssh2_algorithms.ts";
import { beginClientExchange, beginServerExchange, hybridKexName } from "../lib/hybrid_kex.ts";
import { ByteSocket } from "../lib/ssh2_socket.ts";
import { type KexProtocol, offerKeyExchanges } from "../lib/ssh2_kex.ts";
import { buildMessage, encodeFields, Reader } from "../lib/ssh_data.ts";
import { patternBytes, sha256 } from "./support/files.ts";
import { logIn, serverArguments, type ServingShim, startServing } from "./support/login.ts";
import { findPostQuantumSsh } from "./support/openssh10.ts";
import { run, text } from "./support/run.ts";
import { startSecondSshd } from "./support/second_sshd.ts";
import { withFolder } from "./support/signing.ts";
import { startSshd } from "./support/sshd.ts";
import { makePeer } from "./support/ssh2_peer.ts";

const classical = "curve25519-sha256";

/** ML-KEM-768 (FIPS 203): what each side sends before its X25519 key of 32 bytes. */
const clientValueBytes = 1184 + 32;
const serverValueBytes = 1088 + 32;

Deno.test("both sides of an exchange come to the same secret, and to another one each time", () => {
  const secrets = new Set<string>();
  for (let round = 0; round < 20; round++) {
    const client = beginClientExchange();
    const server = beginServerExchange();
    assert.equal(client.publicValue.length, clientValueBytes);
    const secret = server.computeSecret(client.publicValue);
    assert.equal(server.publicValue.length, serverValueBytes);
    assert.equal(secret.length, 32);
    assert.deepEqual(client.computeSecret(server.publicValue), secret);
    secrets.add(secret.toString("hex"));
  }
  assert.equal(secrets.size, 20);
});

Deno.test("a value that was changed on its way leads to another secret or to none", () => {
  const client = beginClientExchange();
  const server = beginServerExchange();
  const secret = server.computeSecret(client.publicValue);
  for (const at of [0, 500, 1087, 1088, 1100, 1119]) {
    const changed = Buffer.from(server.publicValue);
    changed[at]! ^= 1;
    assert.notDeepEqual(client.computeSecret(changed), secret, `byte ${at}`);
  }
});

Deno.test("values of a wrong length are refused by both sides", () => {
  const server = beginServerExchange();
  assert.throws(() => server.publicValue, /has not come/);
  for (const bytes of [0, 1, 32, serverValueBytes, clientValueBytes - 1, clientValueBytes + 1]) {
    assert.throws(() => server.computeSecret(new Uint8Array(bytes)), /public value of/, `${bytes}`);
  }
  const client = beginClientExchange();
  for (const bytes of [0, 1, 32, clientValueBytes, serverValueBytes - 1, serverValueBytes + 1]) {
    assert.throws(() => client.computeSecret(new Uint8Array(bytes)), /public value of/, `${bytes}`);
  }
});

Deno.test("an ML-KEM key with numbers beyond its modulus is refused", () => {
  const value = Buffer.from(beginClientExchange().publicValue);
  value.fill(0xff, 0, 1152);
  assert.throws(() => beginServerExchange().computeSecret(value));
});

/** The points of X25519 that lead to the secret 0, in their encodings (RFC 7748, section 6.1). */
const lowOrderKeys = [
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
].map((hex) => Buffer.from(hex, "hex"));

Deno.test("X25519 keys of low order are refused by both sides", () => {
  for (const key of lowOrderKeys) {
    const client = beginClientExchange();
    const server = beginServerExchange();
    server.computeSecret(client.publicValue);
    const fromServer = Buffer.concat([server.publicValue.subarray(0, -32), key]);
    assert.throws(() => client.computeSecret(fromServer), key.toString("hex"));
    const fromClient = Buffer.concat([client.publicValue.subarray(0, -32), key]);
    assert.throws(() => beginServerExchange().computeSecret(fromClient), key.toString("hex"));
  }
});

/** An ssh2 connection, as far as key exchange is concerned, that has just begun. */
function fakeProtocol(options: { isServer?: boolean; forSsh2: string[] }) {
  const { isServer = false, forSsh2 } = options;
  const names = [...forSsh2, "ext-info-c", "kex-strict-c-v00@openssh.com"];
  const all = Buffer.from(encodeFields(names.join(","), "ssh-ed25519"));
  const received: Uint8Array[] = [];
  const protocol: KexProtocol = {
    _server: isServer,
    _strictMode: true,
    _offer: {
      totalSize: all.length,
      lists: { kex: { array: names, buffer: Buffer.from(names.join(",")) }, all },
    },
    _kex: undefined,
    _decipher: { _onPayload: (payload) => received.push(payload) },
    _skipNextInboundPacket: false,
  };
  return { protocol, received, offered: () => namesAt(protocol._offer.lists.all, 0) };
}

/** A KEXINIT (RFC 4253, section 7.1). */
function kexinit(names: string[], { hasGuess = false } = {}): Uint8Array {
  const lists = [names.join(","), ...Array<string>(9).fill("none")];
  return buildMessage(20, { raw: new Uint8Array(16) }, ...lists, hasGuess, 0);
}

function namesAt(bytes: Uint8Array, offset: number): string[] {
  return new Reader(bytes, offset).text().split(",");
}

Deno.test("key exchanges are offered in their order, before what ssh2 says of itself", () => {
  const signs = ["ext-info-c", "kex-strict-c-v00@openssh.com"];
  const both = [hybridKexName, classical];
  for (const names of [both, both.toReversed(), [hybridKexName], [classical]]) {
    const { protocol, offered } = fakeProtocol({ forSsh2: [classical] });
    // A server's connections share one offer.
    for (let connection = 0; connection < 2; connection++) offerKeyExchanges(protocol, names);
    assert.deepEqual(offered(), [...names, ...signs]);
    assert.equal(protocol._offer.totalSize, protocol._offer.lists.all.length);
  }
});

Deno.test("ssh2 is led to the exchange that both sides' lists lead to, and to no other", () => {
  const other = "sntrup761x25519-sha512@openssh.com";
  const group = "diffie-hellman-group-exchange-sha256";
  const strict = "kex-strict-s-v00@openssh.com";
  const cases: [ours: string[], theirs: string[], isServer: boolean, seen: string[]][] = [
    [[hybridKexName, classical], [other, classical], false, [other, classical]],
    [[hybridKexName, classical], [classical, hybridKexName, strict], false, [classical, strict]],
    [[classical, hybridKexName], [hybridKexName, classical], false, [hybridKexName, classical]],
    [[hybridKexName], [hybridKexName], false, [classical]],
    [[hybridKexName, classical], [classical, hybridKexName], true, [classical, hybridKexName]],
    [[hybridKexName, classical], [hybridKexName], true, [classical]],
    // An exchange of four messages cannot become the hybrid.
    [[hybridKexName, group], [group, hybridKexName], false, [classical]],
    [[group, hybridKexName], [hybridKexName, strict], false, [classical, strict]],
    // It is not offered, though ssh2 has to be given it.
    [[hybridKexName], [classical, strict], false, [strict]],
    [[hybridKexName, group], [classical, group], false, [group]],
  ];
  for (const [ours, theirs, isServer, seen] of cases) {
    const { protocol, received } = fakeProtocol({
      isServer,
      forSsh2: [...ours.filter((name) => name === group), classical],
    });
    offerKeyExchanges(protocol, ours);
    const message = kexinit(theirs);
    protocol._decipher!._onPayload(message);
    const kex = { negotiated: { kex: classical, serverHostKey: "ssh-ed25519" } } as NonNullable<
      KexProtocol["_kex"]
    >;
    protocol._kex = kex;
    assert.equal(kex._remoteKexinit, message, "what is hashed is what came");
    assert.deepEqual(namesAt(received[0]!, 17), seen, `${ours} and ${theirs}`);
  }
});

Deno.test("a KEXINIT that is cut short, and any other message, reaches ssh2 as it is", () => {
  const { protocol, received } = fakeProtocol({ forSsh2: [classical] });
  offerKeyExchanges(protocol, [hybridKexName]);
  const messages = [kexinit([hybridKexName]).subarray(0, 19), kexinit([classical]).subarray(0, 25)];
  messages.push(Uint8Array.of(20), Uint8Array.of(), buildMessage(31, "a value"));
  for (const message of messages) protocol._decipher!._onPayload(message);
  assert.deepEqual(received, messages);
});

Deno.test("a packet that a peer sends on a guess is skipped if the guess was wrong", () => {
  const cases: [theirs: string[], hasGuess: boolean, isSkipped: boolean][] = [
    [[hybridKexName, classical], false, false],
    [[hybridKexName, classical], true, false],
    [[classical, hybridKexName], false, false],
    [[classical, hybridKexName], true, true],
  ];
  for (const [theirs, hasGuess, isSkipped] of cases) {
    const { protocol } = fakeProtocol({ forSsh2: [classical] });
    offerKeyExchanges(protocol, [hybridKexName, classical]);
    const message = kexinit(theirs, { hasGuess });
    protocol._decipher!._onPayload(message);
    const kex = { negotiated: { kex: classical, serverHostKey: "ssh-ed25519" } } as NonNullable<
      KexProtocol["_kex"]
    >;
    protocol._kex = kex;
    assert.equal(kex.negotiated.kex, hybridKexName);
    assert.equal(kex._remoteKexinit, message, "what is hashed is what came");
    assert.equal(protocol._skipNextInboundPacket, isSkipped, `${theirs}, ${hasGuess}`);
  }
});

/** What the log says of a leg's key exchange. */
function exchangeOf(shim: ServingShim, leg: "upstream" | "endpoint"): string {
  return new RegExp(`${leg}: (?:client \\d+: )?key exchange ([^,]+),`).exec(shim.log.text)![1]!;
}

const marked = (name: string) => name === hybridKexName ? name : `${name} (not post-quantum)`;

/** Sends bytes to `cat` through the shim, and asserts that they come back. */
async function assertEcho(
  { target }: ServingShim,
  data: Uint8Array,
  { program = "ssh", options }: { program?: string; options?: string[] } = {},
): Promise<string> {
  const [, ...words] = target.sshCommand("cat", options);
  const { stdout, stderr } = await run([program, ...words], {
    environment: target.environment,
    stdin: data,
    digestStdout: true,
  });
  assert.equal(text(stdout), `${sha256(data)} ${data.length}`, text(stderr).slice(-2000));
  return text(stderr);
}

function rekeysIn(log: string): number {
  return log.match(/SSH2_MSG_NEWKEYS received/g)?.length ?? 0;
}

Deno.test("OpenSSH's own post-quantum exchange is used on both legs, through rekeys", async (t) => {
  await using openssh = await findPostQuantumSsh();
  if (openssh === undefined) {
    console.warn("No OpenSSH with mlkem768x25519-sha256 here: only sshshim's two ends were tried.");
    return;
  }
  await using keys = await startSshd();
  const { folder, keyFile } = keys;
  const start = (...config: string[]) =>
    startSecondSshd(keys, { command: [openssh.sshd], config: [...openssh.config, ...config] });
  const data = patternBytes(6_000_000);

  await t.step("with RekeyLimit 1M on both sides", async () => {
    await using sshd = await start("RekeyLimit 1M", "LogLevel DEBUG1");
    const args = [...serverArguments(sshd), "--ed25519-key", keyFile];
    await using shim = await startServing(args, { folder });
    const log = await assertEcho(shim, data, {
      program: openssh.ssh,
      options: ["-v", "-o", "RekeyLimit=1M"],
    });
    assert(log.includes(`kex: algorithm: ${hybridKexName}`));
    assert(!log.includes("post-quantum"), "ssh warns of an exchange that is not");
    assert(rekeysIn(log) > 4, `${rekeysIn(log)} rekeys of the client`);
    assert(rekeysIn(sshd.log.text) > 4, `${rekeysIn(sshd.log.text)} rekeys of the server`);
    assert.equal(exchangeOf(shim, "upstream"), hybridKexName);
    assert.equal(exchangeOf(shim, "endpoint"), hybridKexName);
  });
  await t.step("a server that has nothing else", async () => {
    await using sshd = await start(`KexAlgorithms ${hybridKexName}`, "RekeyLimit 1M");
    const args = [...serverArguments(sshd), "--ed25519-key", keyFile];
    for (const kex of [hybridKexName, `${hybridKexName},diffie-hellman-group14-sha256`]) {
      await using shim = await startServing([...args, "-o", `KexAlgorithms=${kex}`], { folder });
      assert.equal(exchangeOf(shim, "upstream"), hybridKexName);
      await assertEcho(shim, data.subarray(0, 3_000_000));
    }
  });
  await t.step("a client that has nothing else", async () => {
    await using sshd = await start();
    const args = [...serverArguments(sshd), "--ed25519-key", keyFile];
    await using shim = await startServing(args, { folder });
    await assertEcho(shim, data.subarray(0, 3_000_000), {
      program: openssh.ssh,
      options: ["-o", `KexAlgorithms=${hybridKexName}`, "-o", "RekeyLimit=1M"],
    });
    assert.equal(exchangeOf(shim, "endpoint"), hybridKexName);
  });
  await t.step("the order of KexAlgorithms counts", async () => {
    await using sshd = await start();
    const args = [...serverArguments(sshd), "--ed25519-key", keyFile];
    const orders = [
      ["-o", `KexAlgorithms=${classical},${hybridKexName}`],
      ["-o", `KexAlgorithms=^${classical}`],
      ["-o", `KexAlgorithms=-mlkem*`],
    ];
    for (const order of orders) {
      await using shim = await startServing([...args, ...order], { folder });
      assert.equal(exchangeOf(shim, "upstream"), marked(classical));
    }
  });
});

Deno.test("a shim behind a shim uses it on the leg between them", async () => {
  await using sshd = await startSshd();
  const { folder, keyFile } = sshd;
  const first = [...serverArguments(sshd), "--ed25519-key", keyFile];
  await using front = await startServing(first, { folder });
  const second = [...serverArguments({ ...front.target, username: sshd.username }), "-v"];
  // Whatever else is offered beside it.
  for (const group of ["curve25519-sha256", "diffie-hellman-group-exchange-sha256"]) {
    const list = ["-o", `KexAlgorithms=${hybridKexName},${group}`];
    await using behind = await startServing([...second, ...list], { folder });
    assert.equal(exchangeOf(behind, "upstream"), hybridKexName);
    assert.equal(exchangeOf(front, "endpoint"), hybridKexName);
    await assertEcho(behind, patternBytes(3_000_000));
  }
});

Deno.test("sshshim's client and endpoint exchange keys anew in the middle of a transfer", async () => {
  await using sshd = await startSshd();
  const { folder, keyFile } = sshd;
  const args = [...serverArguments(sshd), "--ed25519-key", keyFile];
  await using shim = await startServing(args, { folder });
  const { client, exchanges } = await connect(shim);
  const data = patternBytes(12_000_000);
  const channel = await new Promise<ssh2Types.ClientChannel>((resolve, reject) => {
    client.exec("cat", (error, opened) => error ? reject(error) : resolve(opened));
  });
  const received: Buffer[] = [];
  let bytes = 0;
  const rekeyEvery = data.length / 10;
  let rekeyAt = rekeyEvery;
  channel.on("data", (chunk: Buffer) => {
    // The bytes of data are there until this returns, no longer.
    received.push(Buffer.from(chunk));
    bytes += chunk.length;
    if (bytes < rekeyAt) return;
    rekeyAt += rekeyEvery;
    (client as unknown as { _protocol: { rekey(): void } })._protocol.rekey();
  });
  const closed = new Promise((resolve) => channel.on("close", resolve));
  channel.end(data);
  await closed;
  assert.equal(sha256(Buffer.concat(received)), sha256(data));
  const gone = Promise.withResolvers<void>();
  client.on("close", () => gone.resolve());
  client.end();
  await gone.promise;
  assert(exchanges.length > 2, `${exchanges.length} exchanges`);
  assert.deepEqual([...new Set(exchanges)], [hybridKexName]);
});

/** Logs in to the shim by the library's own client, whose sessions are then left to ssh2. */
async function connect(
  shim: ServingShim,
): Promise<{ client: ssh2Types.Client; exchanges: string[] }> {
  const { host, port, knownHostsFile } = shim.target;
  const [, , key = ""] = (await Deno.readTextFile(knownHostsFile)).split(" ");
  const connection = await Deno.connect({ hostname: host, port });
  const exchanges: string[] = [];
  const algorithms = clientAlgorithms({ kexAlgorithms: hybridKexName }, []);
  const client = new ssh2.Client();
  client.connect({
    sock: new ByteSocket(connection, { role: "client" }) as never,
    username: "anybody",
    authHandler: ["none"],
    hostVerifier: (shown: Buffer) => shown.equals(Buffer.from(key, "base64")),
    algorithms: algorithms.forSsh2,
  });
  makePeer(client, algorithms);
  client.on("handshake", ({ kex }) => exchanges.push(kex));
  await new Promise<void>((resolve, reject) => {
    client.on("ready", resolve);
    client.on("error", reject);
  });
  return { client, exchanges };
}

Deno.test("a leg without it works, and the log marks it", async (t) => {
  await using sshd = await startSshd({ config: [`KexAlgorithms ${classical}`] });
  const { folder, keyFile } = sshd;
  const args = [...serverArguments(sshd), "--ed25519-key", keyFile];
  await t.step("the server has none, and neither has the client", async () => {
    await using shim = await startServing(args, { folder });
    await assertEcho(shim, patternBytes(100_000), {
      options: ["-o", `KexAlgorithms=${classical}`],
    });
    assert.equal(exchangeOf(shim, "upstream"), `${classical} (not post-quantum)`);
    assert.equal(exchangeOf(shim, "endpoint"), `${classical} (not post-quantum)`);
  });
  await t.step("but a server without it is refused where nothing else is wanted", async () => {
    const only = ["-o", `KexAlgorithms=${hybridKexName}`];
    const { isIn, status, log } = await logIn([...args, ...only], { folder });
    assert(!isIn);
    assert.equal(status, 5, log);
    assert.match(log, /no common way to talk: .*no matching key exchange/);
  });
  await t.step("and a list without anything that sshshim has is an error", async () => {
    await withFolder(async (own) => {
      const unknown = ["-o", "KexAlgorithms=sntrup761x25519-sha512@openssh.com"];
      const { status, log } = await logIn([...args, ...unknown], { folder: own });
      assert.equal(status, 5, log);
      assert.match(log, /KexAlgorithms .* leaves no algorithm that sshshim has\. It has: mlkem/);
    });
  });
});
