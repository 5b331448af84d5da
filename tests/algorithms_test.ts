/** Which algorithms are offered upstream, and that each of them carries a connection. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createDiffieHellmanGroup } from "node:crypto";
import { missingOf } from "../lib/algorithm_list.ts";
import { NegotiationError } from "../lib/errors.ts";
import { beginNistp521Exchange, loadNistp521 } from "../lib/nistp521_kex.ts";
import { algorithmsFor } from "../lib/public_key.ts";
import {
  acceptedKeyAlgorithms,
  type AlgorithmLists,
  clientAlgorithms,
  missingAlgorithms,
} from "../lib/ssh2_algorithms.ts";
import { type FiniteFieldExchange, guardFiniteField } from "../lib/ssh2_finite_field.ts";
import { patternBytes, sha256 } from "./support/files.ts";
import { logIn, serverArguments, startServing } from "./support/login.ts";
import { run, runChecked, text } from "./support/run.ts";
import { startSecondSshd } from "./support/second_sshd.ts";
import { makeKey, publicText, withFolder } from "./support/signing.ts";
import { type Sshd, startSshd } from "./support/sshd.ts";

/** A keyword of ssh_config, and what sshshim makes of a list for it. */
interface Kind {
  keyword: string;
  ours(list: string | undefined): readonly string[];
}

const kinds: Record<string, Kind> = {
  kex: {
    keyword: "KexAlgorithms",
    ours: (kexAlgorithms) => offered({ kexAlgorithms }).kex,
  },
  cipher: {
    keyword: "Ciphers",
    ours: (ciphers) => offered({ ciphers }).forSsh2.cipher as string[],
  },
  mac: {
    keyword: "MACs",
    ours: (macs) => offered({ macs }).forSsh2.hmac as string[],
  },
  hostKey: {
    keyword: "HostKeyAlgorithms",
    ours: (hostKeyAlgorithms) => offered({ hostKeyAlgorithms }).forSsh2.serverHostKey as string[],
  },
  rsaUserKey: {
    keyword: "PubkeyAcceptedAlgorithms",
    ours: (list) => acceptedKeyAlgorithms(algorithmsFor("ssh-rsa"), list),
  },
};

function offered(lists: { [keyword in keyof AlgorithmLists]: string | undefined }) {
  return clientAlgorithms(lists as AlgorithmLists, []);
}

/** What this machine's ssh makes of a list. */
async function sshs(keyword: string, list: string | undefined): Promise<string[]> {
  const option = list === undefined ? [] : ["-o", `${keyword}=${list}`];
  const shown = await runChecked(["ssh", "-G", "-F", "none", ...option, "box"]);
  const [, value] = new RegExp(`^${keyword} (.*)$`, "mi").exec(shown)!;
  return value!.split(",");
}

Deno.test("lists come to what they come to with ssh, as far as sshshim has it", async (t) => {
  const cases: [kind: keyof typeof kinds, lists: (string | undefined)[]][] = [
    ["kex", [
      undefined,
      "+diffie-hellman-group14-sha1",
      "+diffie-hellman-group1-sha1,diffie-hellman-group-exchange-sha1",
      "^diffie-hellman-group14-sha256,ecdh-sha2-nistp521",
      "-diffie-hellman-*",
      "-diffie-hellman-*,!*-sha512,ecdh*",
      "diffie-hellman-group14-sha1,curve25519-sha256",
    ]],
    ["cipher", [
      undefined,
      "+aes128-cbc,3des-cbc",
      "^aes256-cbc",
      "-chacha20*,*gcm*",
      "3des-cbc,aes256-ctr",
    ]],
    ["mac", [
      undefined,
      "+hmac-md5,hmac-sha1-96-etm@openssh.com",
      "^hmac-md5-96",
      "-*etm@openssh.com",
      "hmac-sha1,hmac-md5-etm@openssh.com",
    ]],
    ["hostKey", [
      undefined,
      "+ssh-rsa",
      "^rsa-sha2-*",
      "rsa-sha2-*",
      "ssh-ed25519*,ecdsa-*",
      "-ecdsa-*",
      "-*,!rsa-sha2-512",
      "*",
    ]],
    ["rsaUserKey", [
      undefined,
      "+ssh-rsa",
      "^ssh-rsa",
      "rsa-sha2-*",
      "ssh-rsa,rsa-*",
      "-rsa-sha2-512",
    ]],
  ];
  for (const [name, lists] of cases) {
    const { keyword, ours } = kinds[name]!;
    const all = ours("*");
    for (const list of lists) {
      await t.step(`${keyword} ${list ?? "as usual"}`, async () => {
        const theirs = await sshs(keyword, list);
        // Those that one of them does not have.
        const queried = await runChecked(["ssh", "-Q", keyword]);
        const known = queried.split("\n");
        assert.deepEqual(
          ours(list).filter((it) => known.includes(it)),
          theirs.filter((it) => all.includes(it)),
        );
      });
    }
  }
});

Deno.test("a user's key of each type may be used where ssh may use it", async () => {
  const names = (await runChecked(["ssh", "-Q", "key-sig"])).trim().split("\n")
    // No key signs like that by itself.
    .filter((name) => !name.startsWith("webauthn-"));
  assert(names.length > 15);
  for (
    const list of [undefined, "+ssh-dss", "^ssh-rsa*", "-sk-*,ssh-ed25519", "ssh-*", "*-cert-*"]
  ) {
    const theirs = await sshs("PubkeyAcceptedAlgorithms", list);
    assert.deepEqual(
      names.filter((name) => acceptedKeyAlgorithms([name], list).length > 0),
      names.filter((name) => theirs.includes(name)),
      list,
    );
    assert.deepEqual([...missingAlgorithms({ pubkeyAcceptedAlgorithms: list ?? "*" })], []);
  }
});

Deno.test("host keys that are known come first unless a list says what does", () => {
  const first = (hostKeyAlgorithms: string | undefined) =>
    clientAlgorithms(
      hostKeyAlgorithms === undefined ? {} : { hostKeyAlgorithms },
      ["ssh-rsa"],
    ).forSsh2.serverHostKey as string[];
  assert.deepEqual(first(undefined).slice(0, 3), [
    "rsa-sha2-512",
    "rsa-sha2-256",
    "ssh-ed25519-cert-v01@openssh.com",
  ]);
  assert.deepEqual(first("+ssh-rsa").slice(0, 3), ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"]);
  const withoutTwo = first("-rsa-sha2-512,*-cert-*").slice(0, 2);
  assert.deepEqual(withoutTwo, ["rsa-sha2-256", "ssh-ed25519"]);
  assert.equal(first("^ecdsa-sha2-nistp256")[0], "ecdsa-sha2-nistp256");
  assert.deepEqual(first("ssh-ed25519,rsa-sha2-512"), ["ssh-ed25519", "rsa-sha2-512"]);
});

Deno.test("what a list names and sshshim does not have is told", async () => {
  const missing = missingAlgorithms({
    kexAlgorithms: "^sntrup761x25519-sha512@openssh.com,curve25519-sha256",
    ciphers: "aes192-cbc,arcfour*,aes128-ctr",
    macs: "-umac*",
    hostKeyAlgorithms: "ssh-ed25519*,ssh-dss",
    pubkeyAcceptedAlgorithms: "ssh-*,sk-*,*-cert-v01@openssh.com,ssh-dss,ssh-xmss@openssh.com",
  });
  assert.deepEqual([...missing], [
    ["KexAlgorithms", ["sntrup761x25519-sha512@openssh.com"]],
    ["Ciphers", ["aes192-cbc", "arcfour*"]],
    ["HostKeyAlgorithms", ["ssh-dss"]],
    ["PubkeyAcceptedAlgorithms", ["ssh-xmss@openssh.com"]],
  ]);
  assert.deepEqual(missingOf("+a,b,c*", ["b", "cc"]), ["a"]);
  assert.throws(
    () => clientAlgorithms({ ciphers: "arcfour" }, []),
    (error) => error instanceof NegotiationError && /Ciphers arcfour leaves no/.test(error.message),
  );
  await withFolder(async (folder) => {
    await using sshd = await startSshd();
    const { isIn, log } = await logIn([
      ...[...serverArguments(sshd), "-i", sshd.keyFile],
      ...["-o", "MACs=umac-64-etm@openssh.com,hmac-sha2-256"],
    ], { folder });
    assert(isIn, log);
    assert.match(log, /MACs for 127\.0\.0\.1: sshshim does not have umac-64-etm@openssh\.com/);
  });
});

/** What OpenSSH has by default, and what has to be named; with what makes sshd use it alone. */
const carriers: [keyword: string, usual: string[], named: string[]][] = [
  ["KexAlgorithms", [
    "curve25519-sha256",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group14-sha256",
  ], [
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group1-sha1",
    "diffie-hellman-group-exchange-sha1",
  ]],
  ["Ciphers", [
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
  ], [
    "3des-cbc",
    "aes128-cbc",
    "aes256-cbc",
  ]],
  ["MACs", [
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha1-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
    "hmac-sha1",
  ], [
    "hmac-sha1-96",
    "hmac-md5",
    "hmac-md5-96",
    "hmac-sha1-96-etm@openssh.com",
    "hmac-md5-etm@openssh.com",
    "hmac-md5-96-etm@openssh.com",
  ]],
];

/** Beside what is restricted; the shorter the keys, the smaller the groups that servers choose. */
const fixed: Readonly<Record<string, string[]>> = {
  KexAlgorithms: ["Ciphers aes128-gcm@openssh.com"],
  Ciphers: ["KexAlgorithms curve25519-sha256"],
  MACs: ["KexAlgorithms curve25519-sha256", "Ciphers aes128-ctr"],
};

/** Sends bytes there and back through the shim, with key exchanges on the way. */
async function assertCarries(
  sshd: Sshd,
  { keyword, name, options }: { keyword: string; name: string; options: string[] },
): Promise<void> {
  await using server = await startSecondSshd(sshd, {
    command: ["/usr/sbin/sshd"],
    config: [...fixed[keyword]!, `${keyword} ${name}`, "RekeyLimit 512K", "LogLevel DEBUG1"],
  });
  await withFolder(async (folder) => {
    const args = [...serverArguments(server), "-i", sshd.keyFile, ...options];
    await using shim = await startServing(args, { folder });
    const data = patternBytes(2_000_000);
    const { stdout, stderr } = await shim.target.ssh("cat", { stdin: data, digestStdout: true });
    assert.equal(text(stdout), `${sha256(data)} ${data.length}`, text(stderr).slice(-2000));
  });
  const log = server.log.text;
  assert(log.includes(keyword === "KexAlgorithms" ? `algorithm: ${name}` : `: ${name}`), log);
  const exchanges = log.match(/SSH2_MSG_NEWKEYS received/g)?.length ?? 0;
  assert(exchanges >= 3, `${exchanges} key exchanges`);
}

for (const [keyword, usual, named] of carriers) {
  Deno.test(`each of the ${keyword} carries a connection to a server that has no other`, async (t) => {
    await using sshd = await startSshd();
    for (const name of usual) {
      await t.step(name, () => assertCarries(sshd, { keyword, name, options: [] }));
    }
    for (const name of named) {
      await t.step(`${name}, once the configuration names it`, async () => {
        const options = ["-o", `${keyword}=+${name}`];
        await assertCarries(sshd, { keyword, name, options });
        const list = offered({});
        const all = [
          ...list.kex,
          ...list.forSsh2.cipher as string[],
          ...list.forSsh2.hmac as string[],
        ];
        assert(!all.includes(name), "it is offered without that");
      });
    }
  });
}

Deno.test("an ECDSA host key of each curve signs many key exchanges", async (t) => {
  await using sshd = await startSshd();
  for (const bits of [256, 384, 521]) {
    await t.step(`nistp${bits}`, () =>
      withFolder(async (folder) => {
        const file = `${folder}/host_key`;
        const publicKey = await makeKey(file, "-t", "ecdsa", "-b", String(bits));
        await using server = await startSecondSshd(sshd, {
          command: ["/usr/sbin/sshd"],
          config: [`HostKey ${file}`, "RekeyLimit 64K", "LogLevel DEBUG1"],
        });
        await Deno.writeTextFile(
          server.knownHostsFile,
          `[${server.host}]:${server.port} ${publicText(publicKey)}\n`,
        );
        const { isIn, log, ran } = await logIn([
          ...[...serverArguments(server), "-i", sshd.keyFile],
          ...["-o", "KexAlgorithms=curve25519-sha256"],
        ], { folder, command: "head -c 4000000 /dev/zero" });
        assert(isIn, log);
        assert(log.includes(`host key ecdsa-sha2-nistp${bits},`), log);
        assert.equal(ran!.stdout.length, 4_000_000);
        const exchanges = server.log.text.match(/SSH2_MSG_NEWKEYS received/g)!.length;
        assert(exchanges > 20, `${exchanges} key exchanges`);
      }));
  }
});

Deno.test("a host key that signs with SHA-1 is taken once the configuration names it", async () => {
  await using sshd = await startSshd({ config: ["HostKeyAlgorithms ssh-rsa", "RekeyLimit 256K"] });
  const { folder, keyFile } = sshd;
  const args = [...serverArguments(sshd), "-i", keyFile];
  const refused = await logIn(args, { folder });
  assert.equal(refused.status, 5, refused.log);
  assert.match(refused.log, /no matching host key/);
  const taken = await logIn([...args, "-o", "HostKeyAlgorithms=+ssh-rsa"], {
    folder,
    command: "head -c 1000000 /dev/zero",
  });
  assert(taken.isIn, taken.log);
  assert.match(taken.log, /host key ssh-rsa,/);
  assert.equal(taken.ran!.stdout.length, 1_000_000);
});

/** An exchange of ssh2's in a group that the server chooses, before it begins. */
function groupExchange(
  { cipher = "chacha20-poly1305@openssh.com", mac = "", compatFlags = 0 } = {},
): FiniteFieldExchange {
  const direction = { cipher, mac };
  const kex: FiniteFieldExchange = {
    type: "groupex",
    negotiated: { kex: "diffie-hellman-group-exchange-sha256", cs: direction, sc: direction },
    _protocol: { _compatFlags: compatFlags },
    _dh: null,
    _public: null,
    _prefBits: 0,
    generateKeys() {},
    setDHParams(prime, generator) {
      this._prime = prime;
      this._generator = generator;
    },
    computeSecret(other) {
      return this._dh!.computeSecret(other);
    },
  };
  guardFiniteField(kex);
  return kex;
}

Deno.test("a group of the size that ssh asks for is asked for", async (t) => {
  const cases = [
    ["chacha20-poly1305@openssh.com", ""],
    ["aes128-gcm@openssh.com", ""],
    ["aes256-gcm@openssh.com", ""],
    ["aes128-ctr", "hmac-sha2-256"],
    ["aes128-ctr", "hmac-sha1"],
    ["aes128-cbc", "hmac-md5"],
    ["3des-cbc", "hmac-md5"],
    ["aes192-ctr", "hmac-sha1"],
  ] as const;
  const kex = "diffie-hellman-group-exchange-sha256";
  await using sshd = await startSshd({
    config: [`KexAlgorithms ${kex}`, "Ciphers +3des-cbc,aes128-cbc", "MACs +hmac-md5"],
  });
  for (const [cipher, mac] of cases) {
    await t.step(`${cipher} ${mac}`, async () => {
      const { stderr } = await run([
        ...["ssh", "-v", "-F", "none", "-o", "BatchMode=yes", "-p", String(sshd.port)],
        ...["-o", `UserKnownHostsFile=${sshd.knownHostsFile}`, "-o", `KexAlgorithms=${kex}`],
        ...["-c", cipher, ...(mac ? ["-m", mac] : []), sshd.host],
      ]);
      const [, bits] = /GEX_REQUEST\(2048<(\d+)<8192\)/.exec(text(stderr))!;
      assert.equal(groupExchange({ cipher, mac })._prefBits, Number(bits));
    });
  }
  // ssh2's mark of old Cisco devices.
  assert.equal(groupExchange({ compatFlags: 8 })._prefBits, 4096);
});

Deno.test("a group of a server that no secret would be safe in is refused", () => {
  const prime = createDiffieHellmanGroup("modp14").getPrime();
  const [two, one] = [Buffer.of(2), Buffer.of(1)];
  const signed = (bytes: Buffer) => Buffer.concat([Buffer.of(0), bytes]);
  const even = Buffer.from(prime);
  even[even.length - 1]! &= 0xfe;
  const bad: [what: string, prime: Buffer, generator: Buffer][] = [
    ["1024 bits", signed(createDiffieHellmanGroup("modp2").getPrime()), two],
    ["2047 bits", Buffer.concat([Buffer.of(0x7f), prime.subarray(1)]), two],
    ["8193 bits", Buffer.concat([one, createDiffieHellmanGroup("modp18").getPrime()]), two],
    ["no prime", Buffer.alloc(0), two],
    ["a negative prime", prime, two],
    ["an even number", signed(even), two],
    ["the generator 0", signed(prime), Buffer.alloc(0)],
    ["the generator 1", signed(prime), one],
    ["the generator p-1", signed(prime), signed(even)],
    ["the generator p", signed(prime), signed(prime)],
    ["a negative generator", signed(prime), Buffer.of(0x82)],
  ];
  for (const [what, ...group] of bad) {
    const kex = groupExchange();
    assert.throws(() => kex.setDHParams!(...group), /no matching Diffie-Hellman group/, what);
    assert.equal(kex._prime, undefined, what);
  }
  for (const name of ["modp14", "modp18"]) {
    const group = createDiffieHellmanGroup(name);
    groupExchange().setDHParams!(signed(group.getPrime()), two);
  }
});

Deno.test("both sides of an exchange in a finite field come to one secret, and to no weak one", () => {
  const prime = createDiffieHellmanGroup("modp14").getPrime();
  const signed = Buffer.concat([Buffer.of(0), prime]);
  const [a, b] = [groupExchange(), groupExchange()];
  for (const kex of [a, b]) {
    kex.setDHParams!(signed, Buffer.of(2));
    kex.generateKeys();
    assert.equal(kex._dh!.getPrivateKey().length, 128);
  }
  assert.notDeepEqual(a._public, b._public);
  const value = (kex: FiniteFieldExchange) => Buffer.concat([Buffer.of(0), kex._public!]);
  assert.deepEqual(a.computeSecret(value(b)), b.computeSecret(value(a)));
  const number = (value: bigint) => Buffer.from(value.toString(16).padStart(512, "0"), "hex");
  const beforeP = Buffer.from(signed);
  beforeP[beforeP.length - 1]! -= 1;
  const weak: [what: string, value: Buffer][] = [
    ["0", number(0n)],
    ["1", number(1n)],
    ["two ones", number(3n)],
    ["three ones", number(7n << 2000n)],
    ["p-1", beforeP],
    ["p", signed],
    ["beyond p", Buffer.concat([Buffer.of(1), prime])],
    ["a negative value", Buffer.concat([Buffer.of(0x80), b._public!.subarray(1)])],
    ["nothing", Buffer.alloc(0)],
  ];
  for (const [what, other] of weak) {
    const result = a.computeSecret(other);
    assert(result instanceof Error && /out of range/.test(result.message), what);
  }
});

Deno.test("ecdh-sha2-nistp521 comes to one secret, and takes points of its curve alone", async () => {
  await loadNistp521();
  for (let round = 0; round < 20; round++) {
    const [a, b] = [beginNistp521Exchange(), beginNistp521Exchange()];
    assert.deepEqual(a.computeSecret(b.publicValue), b.computeSecret(a.publicValue));
  }
  const { publicValue } = beginNistp521Exchange();
  const off = Buffer.from(publicValue);
  off[off.length - 1]! ^= 1;
  const bad: Record<string, Uint8Array> = {
    "off the curve": off,
    "compressed": Buffer.concat([
      Buffer.of(2 + (publicValue.at(-1)! & 1)),
      publicValue.subarray(1, 67),
    ]),
    "at infinity": Buffer.of(0),
    "zeros": Buffer.concat([Buffer.of(4), Buffer.alloc(132)]),
    "too short": publicValue.subarray(0, -1),
    "too long": Buffer.concat([publicValue, Buffer.of(0)]),
    "nothing": Buffer.alloc(0),
  };
  for (const [what, value] of Object.entries(bad)) {
    assert.throws(() => beginNistp521Exchange().computeSecret(value), what);
  }
});
