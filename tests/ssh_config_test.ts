import assert from "node:assert/strict";
import { userInfo } from "node:os";
import { join } from "node:path";
import { resolveHostConfig } from "../lib/host_config_resolver.ts";
import { pathsMatching } from "../lib/ssh_config_include.ts";
import { parseConfigLine } from "../lib/ssh_config_line.ts";
import { matchesPattern } from "../lib/pattern.ts";
import { run, runChecked, text } from "./support/run.ts";
import {
  assertBothRefuse,
  assertRefused,
  assertSameAsSsh,
  type ConfigCase,
  resolveCase,
  sshG,
  withFolder,
  writeCase,
} from "./support/ssh_g.ts";

const me = userInfo().username;

/** Cases that differ in the file alone. */
const configs = (...texts: string[]): ConfigCase[] => texts.map((config) => ({ config }));

async function assertAllSame(cases: readonly ConfigCase[]): Promise<void> {
  for (const ofCase of cases) await assertSameAsSsh(ofCase);
}

async function assertAllRefused(cases: readonly ConfigCase[]): Promise<void> {
  for (const ofCase of cases) {
    const message = await assertBothRefuse(ofCase);
    assert.match(message, /^(@\/|-o: |There is no|Bad owner)/, message);
  }
}

Deno.test("spaces, =, quotes, escapes, comments and letter case read as ssh reads them", () =>
  assertAllSame(configs(
    "",
    "\n  \n# comment\n   # Port 1\n\t#\n#Port 2\n",
    "Port 2200",
    "  \t Port\t \t2200  \t",
    "PORT 2200\nuSeR x",
    "Port=2200\nUser =x\nHostName= y\nHostKeyAlias = z",
    "Port   =   2200",
    "HostName==y",
    "Host==\n Port 7",
    "Port 2200 # comment\nUser x #\nHostName y #z # a",
    "User a#b",
    'User "a b"\nHostName "y" # c',
    "User 'a b'",
    `User "it's"`,
    `User 'say "hi"'`,
    'User "say \\"hi\\""',
    "User a\\ b",
    'User "a\\ b"',
    "User a\\\\b",
    "User dom\\ain",
    "User x\\",
    'User a"b c"d',
    'User "#x"',
    '"Port" 2200',
    "Port 2200\r\nUser x\r\n\r\n",
    "Port 2200\f\n",
    "Port 2200\nUser x\f  \r",
    "ProxyCommand nc  %h   %p",
    'ProxyCommand sh -c "nc \\"$1\\" %p" -- %h # not a comment',
    "ProxyCommand = = nc x",
    "ProxyCommand=nc x=y",
    `ProxyCommand sh -c 'printf "'`,
    "ProxyCommand 'a  b'\\",
    "UserKnownHostsFile /a '/b c' \"/d e\" /f\\ g # /h",
    "User ü\nHostName ö",
  )));

Deno.test("a line that ssh refuses is refused, also in a block for another host", async () => {
  const lines = [
    "Port",
    "Port  ",
    "Port =",
    "Port #1",
    "Port 1 2",
    'Port ""',
    'User "x',
    "User 'x",
    'User "x" y',
    "User ''",
    'Port"1"',
    "Nonsense 1",
    "Port 0",
    "Port 65536",
    "Port -1",
    "Port abc",
    "Port 1x",
    "ConnectTimeout x",
    "ConnectTimeout 1y",
    "ConnectTimeout -1",
    "ConnectTimeout 99999999999",
    "ServerAliveCountMax -1",
    "ServerAliveCountMax 1s",
    "NumberOfPasswordPrompts 2147483648",
    "BatchMode maybe",
    "BatchMode ask",
    "StrictHostKeyChecking maybe",
    "AddressFamily inet4",
    "PubkeyAuthentication maybe",
    "UserKnownHostsFile /a none",
    "UserKnownHostsFile none /a",
    'GlobalKnownHostsFile ""',
    "Ciphers ''",
    'Ciphers "a b"',
    "IdentityFile a b",
    "CertificateFile",
    "ProxyCommand",
    'ProxyCommand sh -c "x',
    "ForwardX11 maybe",
    "ForwardX11Timeout x",
    "Compression maybe",
    "RequestTTY maybe",
    "ControlMaster maybe",
    "Tunnel maybe",
    "SessionType maybe",
    "UpdateHostKeys maybe",
    "VerifyHostKeyDNS maybe",
    "CanonicalizeHostname maybe",
    "\ufeffPort 1",
    "\x0bPort 1",
    "Port\u00a01",
    "Port \u00a01",
  ];
  await assertAllRefused(lines.map((line) => ({ config: line })));
  await assertAllRefused(lines.map((line) => ({ config: `Host other\n  ${line}` })));
});

Deno.test("a refusal names the file, the line, the keyword and what to do", async () => {
  const messageOf = (config: string) => assertBothRefuse({ config });
  assert.equal(
    await messageOf("# one\n\nPort abc"),
    "@/config line 3: port takes a number from 1 to 65535.",
  );
  assert.equal(
    await messageOf("Host other\n Prot 22"),
    "@/config line 2: Bad configuration option: prot. Correct it, or name it in IgnoreUnknown before.",
  );
  assert.equal(
    await messageOf("User 'x"),
    "@/config line 1: A quotation mark is not closed. Close it.",
  );
});

Deno.test("a control character in a line is refused, and in a comment is not", async () => {
  await assertRefused({ config: "User a\x01b" });
  await assertRefused({ config: "User a\rHostName b" });
  await assertSameAsSsh({ config: "# a\x01b\rPort 1\n" });
});

Deno.test("the first value of a keyword wins, and files of identities add up", () =>
  assertAllSame([
    ...configs(
      "Port 1\nPort 2\nUser a\nUser b",
      "Host b*\n Port 1\nHost box\n Port 2\n User x\nHost *\n User y\n HostName z",
      "IdentityFile /a\nHost box\n IdentityFile /b\nHost other\n IdentityFile /c",
      "IdentityFile /a\nIdentityFile /b\nIdentityFile /a\nCertificateFile /c\nCertificateFile /c",
      "IdentityFile none",
      "IdentityFile NONE\nIdentityFile /a",
      "CertificateFile /a\nCertificateFile /b",
      "IdentityFile2 /a",
      "UserKnownHostsFile /a /b\nUserKnownHostsFile /c",
      "UserKnownHostsFile none\nGlobalKnownHostsFile NONE",
      "ConnectTimeout none\nConnectTimeout 5",
      "ServerAliveInterval none",
      "HostKeyAlias One\nHostKeyAlias two",
    ),
    { config: "Port 1", overrides: ["Port=2", "port 3"] },
    {
      config: "User a\nIdentityFile /a",
      overrides: ["User=b", "identityfile=/b", " HostName = h"],
    },
    { config: "User a", destination: "b@box" },
    { config: "User a", destination: "b@c@box" },
    { config: "StrictHostKeyChecking ask", overrides: ["StrictHostKeyChecking=no"] },
  ]));

Deno.test("values of every kind come out as ssh shows them", () =>
  assertAllSame(configs(
    ..."yes no true false YES False off ask accept-new ACCEPT-NEW".split(" ")
      .map((value) => `StrictHostKeyChecking ${value}`),
    ..."yes no TRUE false unbound host-bound".split(" ")
      .map((value) => `PubkeyAuthentication ${value}`),
    ..."any inet INET6".split(" ").map((value) => `AddressFamily ${value}`),
    ..."0 5 90 1m 1H 1h30m 1h30 2d 1W1D 30s none 1m1m +5".split(" ")
      .map((value) => `ConnectTimeout ${value}`),
    ..."IdentitiesOnly HashKnownHosts PasswordAuthentication KbdInteractiveAuthentication"
      .split(" ").flatMap((name) => [`${name} yes`, `${name} no`, `${name} True`]),
    "BatchMode yes\nServerAliveInterval 7",
    "ChallengeResponseAuthentication no",
    "SkeyAuthentication no\nDSAAuthentication no",
    "ConnectionAttempts 3\nNumberOfPasswordPrompts 0\nServerAliveCountMax 1\nRequiredRSASize 3072",
    "ServerAliveInterval 1m\nServerAliveCountMax +4",
    "Port ssh",
    "Port +22",
    "Port 0022",
    "BindAddress 127.0.0.1\nPreferredAuthentications publickey,password",
    "HostKeyAlgorithms ssh-ed25519,rsa-sha2-512\nCiphers aes256-ctr\nMACs hmac-sha2-256",
    "KexAlgorithms curve25519-sha256\nPubkeyAcceptedKeyTypes ssh-ed25519",
    "HostKeyAlgorithms +ssh-rsa\nCiphers -aes*\nMACs ^hmac-sha1\nKexAlgorithms +diffie-hellman-group1-sha1",
    "Protocol 2\nCipher 3des\nUsePrivilegedPort yes\nCompressionLevel 3\nRSAAuthentication yes",
    "SendEnv LANG LC_*\nForwardAgent yes\nLocalForward 8080 localhost:80\nRemoteForward 1 localhost:2",
    "DynamicForward 1080\nControlMaster auto\nControlPath /x\nControlPersist 10m\nLogLevel DEBUG",
    "EscapeChar none\nVisualHostKey yes\nAddKeysToAgent confirm 5m\nUpdateHostKeys ask",
    "TCPKeepAlive no\nIPQoS lowdelay throughput\nRekeyLimit 1G 1h\nGSSAPIAuthentication yes",
    "VerifyHostKeyDNS yes\nCASignatureAlgorithms ssh-ed25519\nFingerprintHash md5\nTunnel yes",
    "LocalCommand echo 'it''s'\nPermitLocalCommand yes\nRequestTTY force\nCompression yes",
    "CanonicalizeHostname no\nRevokedHostKeys none\nKnownHostsCommand none\nProxyUseFdpass no",
    "CheckHostIP no\nCanonicalDomains example.com\nNoHostAuthenticationForLocalhost yes",
  )));

Deno.test("Host takes patterns, negation, and letters as they are", () =>
  assertAllSame([
    "*",
    "box",
    "Box",
    "b?x",
    "b*x",
    "bo",
    "box?",
    "?",
    "*o*",
    "**box**",
    "other box",
    "* !box",
    "!box *",
    "!other *",
    "!other",
    "!b*",
    "!!box",
    "a,box",
    '"box"',
    "'b'ox",
    "other # box",
    "other #",
    "#box",
    "= box",
    "bo[x]",
  ].flatMap((patterns) => [
    { config: `Host ${patterns}\n Port 7\n` },
    { config: `Host ${patterns}\n Port 7\n`, destination: "x@BOX" },
    { config: `HostName box\nHost ${patterns}\n Port 7\n`, destination: "other" },
  ])));

Deno.test("Match takes its criteria, negation and lists as ssh takes them", () =>
  assertAllSame([
    "all",
    "ALL",
    "!all",
    "host box",
    "host real",
    "host *.example.com",
    "host REAL.example.COM",
    "host a,real.*,b",
    "host a,!real*,*",
    "!host real.*",
    "!host other",
    "Host=real.example.com",
    "host = real.example.com",
    "originalhost box",
    "originalhost BOX",
    "originalhost real.*",
    "originalhost b?x user me",
    "originalhost b?x user other",
    "user me",
    "user ME",
    "user m*,!x*",
    "!user me",
    "user=me host=real*",
    `localuser ${me}`,
    `!localuser ${me},x`,
    'user "me" # user other',
    "user me # comment",
    'exec "true"',
    'exec "exit 3"',
    "exec true",
    "!exec false",
    'exec "test %h = real.example.com"',
    `exec "test %n%p%r%u = box22me${me}"`,
    'exec "test -n %L -a -n %l -a %i = $(id -u) -a %d = $(eval echo ~%u) -a %k = real.example.com"',
    'exec "test %% = %%"',
    'user other exec "touch @/ran"',
    "canonical",
    "final",
    "!canonical",
    "host real* all",
    "canonical all",
    "final all",
    "final !host other user me",
  ].flatMap((criteria) => [
    {
      config: `HostName real.example.com\nUser me\nMatch ${criteria}\n  HostKeyAlias hit\n` +
        `Match user late\n Port 5\n`,
    },
    { config: `Match ${criteria}\n  Port 7\nHost real.example.com\n HostKeyAlias second` },
  ])));

Deno.test("a Match line that ssh refuses is refused", async () => {
  await assertAllRefused([
    "all user me",
    "host box user me all",
    "user",
    "user me host",
    "nonsense",
    "nonsense x",
    'host ""',
    "user # me",
    'exec "%Z"',
    'exec "kill -9 $$"',
    "#",
    "tagged",
    "localnetwork",
    "localnetwork x",
    "localnetwork ,127.0.0.1",
    "localnetwork !127.0.0.1",
    "localnetwork 127.0.0.1/8",
    "localnetwork 127.0.0.0/33",
    "localnetwork 127.0.0.0/",
    "localnetwork 7f.0.0.1",
    "sessiontype ''",
    "command",
  ].map((criteria) => ({ config: `Match ${criteria}\n Port 1` })));
  await assertAllRefused([{ config: 'Match exec "true"', environment: { SHELL: "/nonexistent" } }]);
});

Deno.test("an empty SHELL means the usual one", () =>
  withFolder(async (folder) => {
    const ofCase = { config: 'Match exec "true"\n Port 7', environment: { SHELL: "" } };
    assert.equal((await resolveCase(await writeCase(folder, ofCase), ofCase)).port, 7);
  }));

Deno.test("Match tagged compares with Tag", async () => {
  const port = async (config: string) =>
    await withFolder(async (folder) => {
      const ofCase = { config };
      return (await resolveCase(await writeCase(folder, ofCase), ofCase)).port;
    });
  assert.equal(await port("Host box\n Tag work\nMatch tagged w*,x\n Port 7"), 7);
  assert.equal(await port("Host box\n Tag home\nMatch tagged w*,x\n Port 7"), 22);
  assert.equal(await port("Match tagged *\n Port 7"), 22);
  assert.equal(await port("Match tagged ''\n Port 7"), 7);
  assert.equal(await port("Tag a\nMatch !tagged=b\n Port 7"), 7);
});

// OpenSSH before 9.4 has no localnetwork, and before 10 neither command nor sessiontype.
const newCriteria: [string, boolean][] = [
  ["localnetwork 127.0.0.0/8", true],
  ["localnetwork 127.1", true],
  ["localnetwork=127.0.0.1", true],
  ["localnetwork 0.0.0.0/0,::1", true],
  ["localnetwork 192.0.2.255,127.0.0.1/032", true],
  ["localnetwork 192.0.2.255,2001:db8:ffff::/48", false],
  ["localnetwork ::ffff:127.0.0.1", false],
  ["!localnetwork 127.0.0.0/8", false],
  ["!localnetwork 192.0.2.255/32", true],
  ["command ''", true],
  ["command=", true],
  ["command *", false],
  ["!command rsync*", true],
  ["sessiontype none", true],
  ["sessiontype n*,shell", true],
  ["sessiontype shell,exec", false],
  ["!sessiontype none", false],
];

Deno.test("Match localnetwork, command and sessiontype are judged as for ssh -N", () =>
  withFolder(async (folder) => {
    for (const [criterion, expected] of newCriteria) {
      const ofCase = { config: `Match ${criterion}\n Port 7` };
      const path = await writeCase(folder, ofCase);
      assert.equal((await resolveCase(path, ofCase)).port, expected ? 7 : 22, criterion);
      const ssh = await run(["ssh", "-N", "-G", "-F", path, "box"]);
      if (ssh.code !== 0) continue;
      assert.equal(/^port 7$/m.test(text(ssh.stdout)), expected, criterion);
    }
    const message = await assertRefused({ config: "Match version OpenSSH_*\n Port 7" });
    assert.match(message, /version is not supported; use another criterion/);
  }));

Deno.test("Match !final does not ask for a second reading", async () => {
  // OpenSSH before 9.9 reads a second time here, too, so this is not compared.
  await withFolder(async (folder) => {
    const ofCase = { config: "HostName real\nMatch !final\n User a\nHost real\n Port 7" };
    const config = await resolveCase(await writeCase(folder, ofCase), ofCase);
    assert.deepEqual([config.user, config.port], ["a", 22]);
  });
});

Deno.test("Match exec runs in every file that is read, with the environment, and only if it counts", () =>
  withFolder(async (folder) => {
    const ran = join(folder, "ran");
    const ofCase: ConfigCase = {
      config: `Match user other exec "echo a >>@/ran"\n Port 1\n` +
        `Match exec "echo b$MARK >>@/ran"\n Port 7\nHost other\n Include @/inner`,
      files: { inner: `Match exec "echo c >>@/ran"\n Port 2` },
      environment: { MARK: "x" },
    };
    const path = await writeCase(folder, ofCase);
    const config = await resolveCase(path, ofCase);
    assert.equal(config.port, 7);
    assert.equal(await Deno.readTextFile(ran), "bx\n");
    // As for ssh, a file of the system may have it.
    const system = await resolveHostConfig({ alias: "box" }, {
      home: folder,
      systemConfig: join(folder, "inner"),
    });
    assert.equal(system.port, 2);
    assert.equal(await Deno.readTextFile(ran), "bx\nc\n");
  }));

Deno.test("a second reading sees the real name of the host and keeps what was set", () =>
  assertAllSame([
    ...configs(
      "HostName Real\nHost real\n Port 9\n HostName third\nMatch final\n User x",
      "Host box\n HostName real\n User a\nMatch final host real\n User b\n IdentityFile /b\nIdentityFile /c",
      "IdentityFile /a\nMatch final all\n IdentityFile /b",
      "Host real\n Port 9\nMatch final\n HostName real",
      'Match final originalhost box host box exec "test %h%n = boxbox"\n Port 9',
    ),
    { config: "Match final host real\n Port 9\nHost Box\n HostName REAL", destination: "Box" },
    {
      config:
        "Match host real exec false final\n User x\nHost *\n HostName real\nHost real\n Port 4",
    },
    {
      config: "Include @/more\nHostName real",
      files: { more: "Match final\n Port 9\nHost real\n User y" },
    },
    { config: "Host other\n Include @/more\n", files: { more: "Match final\n Port 9" } },
  ]));

Deno.test("Include takes its place, its block and its patterns as with ssh", () =>
  assertAllSame([
    { config: "Include @/a\nPort 2", files: { a: "Port 1\nUser x" } },
    { config: "Port 2\nInclude @/a", files: { a: "Port 1\nUser x" } },
    { config: "Include @/a @/b", files: { a: "Port 1", b: "Port 2\nUser x" } },
    { config: "Include \"@/a\" '@/b' # @/c", files: { a: "Port 1", b: "User x", c: "HostName y" } },
    { config: "Host other\n Include @/a\nUser y", files: { a: "Port 1\nHost box\n User x" } },
    { config: "Host box\n Include @/a\n User y", files: { a: "Host other\n User x\n Port 1" } },
    { config: "Host box\n Include @/a @/b\n", files: { a: "Host other\n Port 1", b: "Port 2" } },
    { config: `Match user ${me}\n Include @/a`, files: { a: "Port 1" } },
    { config: "Match user other\n Include @/a", files: { a: "Match all\n Port 1" } },
    { config: "Include @/*.conf", files: { "b.conf": "Port 1", "a.conf": "Port 2", c: "Port 3" } },
    { config: "Include @/?.conf", files: { "B.conf": "Port 1", "a.conf": "Port 2" } },
    { config: "Include @/[!a-c]x", files: { ax: "Port 1", dx: "Port 2" } },
    { config: "Include @/[a-c]x", files: { bx: "Port 1", dx: "Port 2" } },
    { config: "Include @/*hidden", files: { ".hidden": "Port 1" } },
    { config: "Include @/.h*", files: { ".hidden": "Port 1" } },
    { config: "Include @/a\\*", files: { "ab": "Port 1" } },
    { config: "Include @/nothing @/nothing/* nothing ~/nothing-here /nonexistent/*/x" },
    { config: "Include @/", files: {} },
    { config: "Include @/a", files: { a: "Include @/b", b: "Include @/c", c: "Port 1" } },
    { config: "Include = @/a", files: { a: "Port 1" } },
  ]));

Deno.test("Include reads its patterns byte by byte, as ssh's own glob does", () =>
  assertAllSame([
    { config: "Include @/[^b]x", files: { ax: "Port 1" } },
    { config: "Include @/[^b]x", files: { "^x": "Port 1", bx: "User x" } },
    { config: "Include @/[[:upper:]]x", files: { ax: "Port 1", Bx: "Port 2" } },
    { config: "Include @/[_[:digit:]-]x", files: { ax: "Port 1", "1x": "Port 2", "-x": "User x" } },
    { config: "Include @/[![:alpha:]]x", files: { ax: "Port 1", "1x": "Port 2" } },
    { config: "Include @/[[:space:]]x @/[[:punct:]]y", files: { " x": "Port 1", "]y": "User x" } },
    { config: "Include @/[a[:nonsense:]]x", files: { ax: "Port 1" } },
    { config: "Include @/?", files: { "é": "Port 1" } },
    { config: "Include @/??", files: { "é": "Port 1" } },
    { config: "Include @/*.c", files: { "\ufffd.c": "Port 1", "\u{1f600}.c": "Port 2" } },
    { config: "Include @/\\.h*", files: { ".hidden": "Port 1" } },
    { config: "Include @/[.]h*", files: { ".hidden": "Port 1" } },
    { config: "Include @/[a\\-c]x", files: { bx: "Port 1", "-x": "User x" } },
    { config: "Include @/[\\]]x", files: { "]x": "Port 1" } },
    { config: "Include @/{a,b} @/+(a)", files: { a: "Port 1", "{a,b}": "Port 2" } },
  ]));

Deno.test("an Include that ssh refuses is refused", async () => {
  const nested = (count: number) =>
    Object.fromEntries(
      Array.from({ length: count }, (_, index) => [
        `f${index}`,
        index === count - 1 ? "Port 7" : `Include @/f${index + 1}`,
      ]),
    );
  await assertAllRefused([
    { config: "Include" },
    { config: 'Include ""' },
    { config: "Include @/a", files: { a: "Port x" } },
    { config: "Host other\nInclude @/a", files: { a: "Nonsense 1" } },
    { config: "Include @/a", files: { a: "Include @/a" } },
    { config: "Include @/f0", files: nested(17) },
    { config: "", overrides: ["Include=/a"] },
    { config: "", overrides: ["Host=box"] },
    { config: "", overrides: ["Match=all"] },
    { config: "", overrides: ["Port"] },
    { config: "", overrides: ["Nonsense=1"] },
  ]);
  await assertSameAsSsh({ config: "Include @/f0", files: nested(16) });
});

Deno.test("an error in an included file names that file", async () => {
  const message = await assertBothRefuse({
    config: "Include @/a",
    files: { a: "\nInclude @/b", b: "\n\nPort x" },
  });
  assert.equal(message, "@/b line 3: port takes a number from 1 to 65535.");
});

Deno.test("a wrong -o is not repeated: it may be a secret", async () => {
  for (const override of ["hunter2", "hunter2=x", "Port=hunter2", "User='hunter2", "=hunter2"]) {
    const message = await assertRefused({ config: "", overrides: [override] });
    assert.match(message, /^-o: /);
    assert(!message.includes("hunter2"), message);
  }
});

Deno.test("IgnoreUnknown covers the lines after it that it names", async () => {
  await assertAllSame(configs(
    "IgnoreUnknown foo*,Bar\nFoo 1\nFooBar a b c\nBAR 1\nPort 7",
    "Host box\n IgnoreUnknown foo\nHost other\n foo 1",
    "IgnoreUnknown *\nanything goes",
  ));
  await assertAllRefused(configs(
    "Foo 1\nIgnoreUnknown foo",
    "Host other\n IgnoreUnknown foo\nHost *\n foo 1",
    "IgnoreUnknown foo\nIgnoreUnknown bar\nbar 1",
    "IgnoreUnknown foo\nfoo 'x",
    "IgnoreUnknown foo\nfoo",
  ));
});

Deno.test("a file that others can write is refused where ssh looks at that", () =>
  withFolder(async (folder) => {
    const inner = join(folder, "inner");
    const ofCase = { config: "Include @/inner", files: { inner: "Port 7" } };
    const path = await writeCase(folder, ofCase);
    const accepted = async () => {
      try {
        return (await resolveCase(path, ofCase)).port === 7;
      } catch (error) {
        assert.match(String(error), /Bad owner or permissions on .*inner: .*chmod go-w/);
        return false;
      }
    };
    for (const mode of [0o400, 0o600, 0o644, 0o602, 0o646, 0o666, 0o777]) {
      await Deno.chmod(inner, mode);
      assert.equal(await accepted(), await sshG(path, ofCase) !== null, mode.toString(8));
    }
    // Debian's ssh lets a group write that has no other members; upstream's does not.
    await Deno.chmod(inner, 0o660);
    assert.equal(await accepted(), false);
    // The file of -F is the user's own choice.
    await Deno.chmod(inner, 0o600);
    await Deno.chmod(path, 0o666);
    assert.equal(await accepted(), true);
    assert.notEqual(await sshG(path, ofCase), null);
    if (Deno.uid() === 0) {
      await Deno.chown(inner, 65534, 65534);
      assert.equal(await accepted(), false);
      assert.equal(await sshG(path, ofCase), null);
    }
  }));

Deno.test("the user's file comes before the system's, and both may be missing", () =>
  withFolder(async (home) => {
    const systemConfig = join(home, "etc", "ssh_config");
    const resolve = () => resolveHostConfig({ alias: "box" }, { home, systemConfig });
    assert.equal((await resolve()).port, 22);
    await Deno.mkdir(join(home, ".ssh"));
    await Deno.mkdir(join(home, "etc"));
    await Deno.writeTextFile(
      join(home, ".ssh", "config"),
      "Port 7\nInclude mine ~/.ssh/m*e\nHost other",
    );
    await Deno.writeTextFile(join(home, ".ssh", "mine"), "IdentityFile /mine");
    await Deno.writeTextFile(systemConfig, "Port 8\nUser system\nInclude theirs mine");
    await Deno.writeTextFile(join(home, "etc", "theirs"), "IdentityFile /theirs");
    const config = await resolve();
    assert.deepEqual([config.port, config.user], [7, "system"]);
    assert.deepEqual(config.identityFiles, ["/mine", "/theirs"]);

    const none = await resolveHostConfig({ alias: "box" }, {
      home,
      systemConfig,
      configFile: "None",
    });
    assert.deepEqual([none.port, none.identityFilesAreDefaults], [22, true]);
    const only = await resolveHostConfig({ alias: "box" }, {
      home,
      systemConfig,
      configFile: join(home, ".ssh", "mine"),
    });
    assert.deepEqual([only.port, only.identityFiles], [22, ["/mine"]]);

    await Deno.chmod(join(home, ".ssh", "config"), 0o666);
    await assert.rejects(resolve(), /Bad owner or permissions on .*\.ssh\/config/);
    await Deno.chmod(join(home, ".ssh", "config"), 0o600);
    await Deno.chmod(systemConfig, 0o666);
    await resolve();
    await Deno.writeTextFile(systemConfig, "Include ~/x");
    await assert.rejects(resolve(), /ssh_config line 1: include takes no ~/);
  }));

Deno.test("a key that the system's file names as well is there twice, as with ssh", () =>
  withFolder(async (home) => {
    const systemConfig = join(home, "ssh_config");
    await Deno.mkdir(join(home, ".ssh"));
    const twice = (keyword: string) => `${keyword} /a\n${keyword} /b\n${keyword} /a\n`;
    const files = twice("IdentityFile") + twice("CertificateFile");
    await Deno.writeTextFile(join(home, ".ssh", "config"), files);
    await Deno.writeTextFile(systemConfig, `${files}Match final\n${files}`);
    const config = await resolveHostConfig({ alias: "box" }, { home, systemConfig });
    assert.deepEqual(config.identityFiles, ["/a", "/b", "/a", "/b"]);
    assert.deepEqual(config.certificateFiles, ["/a", "/b", "/a", "/b"]);
  }));

Deno.test("a file for -F that is not there is refused", () =>
  withFolder(async (folder) => {
    const path = join(folder, "missing");
    assert.equal(await sshG(path, { config: "" }), null);
    await assert.rejects(
      resolveCase(path, { config: "" }),
      /There is no configuration file .*missing/,
    );
  }));

Deno.test("the words of a line keep what quotes and escapes protect", () => {
  const words = (text: string) => parseConfigLine(text, { file: "f", line: 1 })?.words;
  assert.deepEqual(words(`k a "b c" 'd "e' f\\ g \\"h \\\\ i\\j`), [
    "a",
    "b c",
    'd "e',
    "f g",
    '"h',
    "\\",
    "i\\j",
  ]);
  assert.deepEqual(words(`k "" a#b "#" # c`), ["", "a#b", "#"]);
  assert.deepEqual(words("Match !final host x"), ["!final", "host", "x"]);
  assert.equal(words("  # x"), undefined);
});

Deno.test("a pattern of many stars does not take for ever", () => {
  assert.equal(matchesPattern("a".repeat(200), "*a".repeat(50) + "b"), false);
  assert.equal(matchesPattern("abcabd", "*ab?"), true);
  assert.equal(matchesPattern("", "*"), true);
  assert.equal(matchesPattern("", "?"), false);
});

Deno.test("paths fit as in a shell", () =>
  withFolder(async (folder) => {
    await Deno.mkdir(join(folder, "d1"));
    await Deno.mkdir(join(folder, "d2"));
    for (const name of ["d1/x.a", "d2/x.b", "d2/.x", "a]", "a-", "a*", "ab", "a\u{1f600}"]) {
      await Deno.writeTextFile(join(folder, name), "");
    }
    for (
      const pattern
        of "d?/x.* d*/* d[12]/.x a[]-] a[]] a[!b] a\\* a[*] a? */ nothing* d1/x.a/* [ a["
          .split(" ")
    ) {
      const script = `cd "$1"; LC_ALL=C; for path in ${
        pattern === "[" || pattern === "a[" ? `'${pattern}'` : pattern
      }; do [ -e "$path" ] && echo "$path"; done; true`;
      const shell = await runChecked(["/bin/bash", "-c", script, "sh", folder]);
      const paths = pathsMatching(`${folder}/${pattern}`);
      const expected = shell.split("\n").filter((path) => path !== "").sort();
      assert.deepEqual(
        paths.map((path) => path.slice(folder.length + 1)).sort(),
        expected,
        pattern,
      );
    }
  }));
