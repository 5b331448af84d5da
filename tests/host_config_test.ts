import assert from "node:assert/strict";
import { userInfo } from "node:os";
import { join } from "node:path";
import { UsageError } from "../lib/errors.ts";
import { printHostConfig } from "../lib/host_config.ts";
import { type HostConfigOptions, resolveHostConfig } from "../lib/host_config_resolver.ts";
import { expandProxyCommand, isSafeHost, isSafeUser } from "../lib/ssh_config_proxy.ts";
import { run, text } from "./support/run.ts";
import {
  assertBothRefuse,
  assertRefused,
  assertSameAsSsh,
  type ConfigCase,
  resolveCase,
  withFolder,
  writeCase,
} from "./support/ssh_g.ts";

const isSame = (config: string, more: Omit<ConfigCase, "config"> = {}) =>
  assertSameAsSsh({ config, ...more });

/** What sshshim makes of a text for `-F`. */
function resolve(config: string, more: Omit<ConfigCase, "config"> = {}) {
  return withFolder(async (folder) => {
    const ofCase = { config, ...more };
    return await resolveCase(await writeCase(folder, ofCase), ofCase);
  });
}

function resolveWithout(options: HostConfigOptions = {}, alias = "Box") {
  return resolveHostConfig({ alias }, { configFile: "none", ...options });
}

Deno.test("without a configuration everything is as by default in ssh", async () => {
  await isSame("");
  const config = await resolveWithout({
    home: "/h",
    localUser: "me",
    systemConfig: "/etc/ssh/ssh_config",
  });
  const defaults = {
    alias: "Box",
    hostName: "box",
    port: 22,
    user: "me",
    canonicalizeHostname: "no",
    canonicalizeFallbackLocal: true,
    canonicalizeMaxDots: 1,
    canonicalDomains: [],
    canonicalizePermittedCnames: [],
    addressFamily: "any",
    connectionAttempts: 1,
    serverAliveCountMax: 3,
    requiredRsaSize: 1024,
    revokedHostKeys: [],
    userKnownHostsFiles: ["/h/.ssh/known_hosts", "/h/.ssh/known_hosts2"],
    globalKnownHostsFiles: ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"],
    strictHostKeyChecking: "ask",
    hashKnownHosts: false,
    checkHostIp: false,
    updateHostKeys: "yes",
    identityFiles: ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"]
      .map((name) => `/h/.ssh/${name}`),
    identityFilesAreDefaults: true,
    identitiesOnly: false,
    identityAgent: { kind: "default" },
    certificateFiles: [],
    pubkeyAuthentication: "yes",
    passwordAuthentication: true,
    kbdInteractiveAuthentication: true,
    numberOfPasswordPrompts: 3,
    batchMode: false,
    notes: [],
  };
  const { asWritten: _shown, ...others } = config;
  const given = Object.fromEntries(
    Object.entries(others).filter(([, value]) => value !== undefined),
  );
  assert.deepEqual(given, defaults);
});

Deno.test("every setting arrives with its type", async () => {
  const config = await resolve(
    `HostName real
    Port 7
    User me
    CanonicalizeHostname false
    CanonicalizeFallbackLocal no
    CanonicalizeMaxDots 2
    CanonicalDomains A.Example. b
    CanonicalizePermittedCNAMEs A:b *
    AddressFamily inet6
    BindAddress ::1
    BindInterface lo
    ConnectTimeout 1m30
    ConnectionAttempts 4
    ServerAliveInterval 5
    ServerAliveCountMax 6
    CASignatureAlgorithms +ssh-rsa
    Ciphers +aes128-cbc
    HostKeyAlgorithms ssh-ed25519
    KexAlgorithms -diffie*
    MACs ^hmac-sha2-256
    PubkeyAcceptedAlgorithms ssh-ed25519
    RequiredRSASize 3072
    KnownHostsCommand /bin/x "a b" %H
    RevokedHostKeys /r1 %h
    UserKnownHostsFile /u1 /u2
    GlobalKnownHostsFile /g
    HostKeyAlias Other
    StrictHostKeyChecking off
    HashKnownHosts yes
    CheckHostIP yes
    UpdateHostKeys ask
    IdentityFile /i1
    IdentityFile /i2
    IdentitiesOnly yes
    CertificateFile /c
    PubkeyAuthentication host-bound
    PasswordAuthentication no
    KbdInteractiveAuthentication no
    PreferredAuthentications gssapi-with-mic,publickey
    NumberOfPasswordPrompts 1
    BatchMode yes`,
  );
  const { notes: _notes, asWritten: _shown, ...values } = config;
  assert.deepEqual(values, {
    alias: "box",
    hostName: "real",
    port: 7,
    user: "me",
    canonicalizeHostname: "no",
    canonicalizeFallbackLocal: false,
    canonicalizeMaxDots: 2,
    canonicalDomains: ["a.example", "b"],
    canonicalizePermittedCnames: ["a:b", "*:*"],
    addressFamily: "inet6",
    bindAddress: "::1",
    bindInterface: "lo",
    connectTimeoutSeconds: 90,
    connectionAttempts: 4,
    serverAliveIntervalSeconds: 5,
    serverAliveCountMax: 6,
    proxyJump: undefined,
    proxyCommand: undefined,
    ciphers: "+aes128-cbc",
    hostKeyAlgorithms: "ssh-ed25519",
    kexAlgorithms: "-diffie*",
    macs: "^hmac-sha2-256",
    pubkeyAcceptedAlgorithms: "ssh-ed25519",
    caSignatureAlgorithms: "+ssh-rsa",
    knownHostsCommand: '/bin/x "a b" %H',
    revokedHostKeys: ["/r1", "real"],
    requiredRsaSize: 3072,
    userKnownHostsFiles: ["/u1", "/u2"],
    globalKnownHostsFiles: ["/g"],
    hostKeyAlias: "other",
    strictHostKeyChecking: "no",
    hashKnownHosts: true,
    checkHostIp: true,
    updateHostKeys: "ask",
    identityFiles: ["/i1", "/i2"],
    identityFilesAreDefaults: false,
    identitiesOnly: true,
    identityAgent: { kind: "default" },
    certificateFiles: ["/c"],
    pubkeyAuthentication: "host-bound",
    passwordAuthentication: false,
    kbdInteractiveAuthentication: false,
    preferredAuthentications: ["gssapi-with-mic", "publickey"],
    numberOfPasswordPrompts: 1,
    batchMode: true,
  });
});

Deno.test("what was typed wins over -o, and -o over the files", async () => {
  await withFolder(async (folder) => {
    const configFile = await writeCase(folder, { config: "User file\nPort 1\nHostName file" });
    const config = await resolveHostConfig({ alias: "box", user: "typed", port: 3 }, {
      configFile,
      overrides: ["User=option", "Port=2", "HostName=option", "HostName=second"],
    });
    assert.deepEqual([config.user, config.port, config.hostName], ["typed", 3, "option"]);
  });
});

Deno.test("names are lowered and addresses get their usual form", async () => {
  for (
    const destination of [
      ..."BOX.Example.COM 127.1 1 0x7f.1 0177.0.0.1 1.2.3.4 1.2.3.4. 1.2.3.256 4294967295 08.1"
        .split(
          " ",
        ),
      ..."::0001 ::FFFF:1.2.3.4 ::ffff:102:304 2001:DB8:0:0:1:0:0:1 ::1.2.3.4 1:2:3:4:5:6:7::"
        .split(
          " ",
        ),
      ..."fe80::1 FE80::1%lo ::g 1:2 0.0.0.0 a.1 1.a dead.beef 0xg".split(" "),
    ]
  ) {
    await isSame("", { destination });
    await isSame("HostName %h", { destination });
  }
  await isSame("HostName %h.Example.%%", { destination: "Box" });
  await assertBothRefuse({ config: "HostName %n" });
  await assertBothRefuse({ config: "HostName x%" });
});

Deno.test("tokens, ~ and variables in paths come out as with ssh", async () => {
  const me = userInfo().username;
  const paths = [
    "~/a",
    "~",
    `~${me}/x`,
    "~nobody/x",
    "/a~b",
    "a/~/b",
    "/%%/%d/%h/%i/%k/%l/%L/%n/%p/%r/%u/%C",
    "${ONE}",
    "${ONE}/x${TWO}${ONE}",
    "/$ONE/$",
    "~/${ONE}/%h",
    "/${ONE}%%h",
  ];
  const environment = { ONE: "/one", TWO: "%h~${ONE}" };
  for (const path of paths) {
    const base = "HostName Real.Example.com\nPort 7\nUser me\n";
    for (const more of ["", "HostKeyAlias Alias\n", "ProxyJump b\n"]) {
      // With a jump host, newer versions have another %C.
      const shown = more.includes("Jump") ? path.replace("%C", "") : path;
      await isSame(`${base}${more}UserKnownHostsFile ${shown} /second`, { environment });
      await isSame(`${base}${more}GlobalKnownHostsFile ${shown}`, { environment });
      await isSame(`${base}${more}IdentityFile ${shown}\nCertificateFile ${shown}`, {
        environment,
      });
    }
    if (!path.startsWith("$")) {
      await isSame(`${base}IdentityAgent ${path}`, { environment });
    }
  }
  for (const path of ["%Z", "/x%", "${NOPE}", "${", "${}", "/a${ONE", "~nobody-at-all/x"]) {
    await assertBothRefuse({ config: `UserKnownHostsFile ${path}`, environment });
    // ssh refuses these when it connects.
    await assertRefused({ config: `IdentityFile ${path}`, environment });
    await assertRefused({ config: `CertificateFile ${path}`, environment });
  }
});

Deno.test("the files of identities and certificates are those that ssh tries", () =>
  withFolder(async (folder) => {
    const ofCase: ConfigCase = {
      config: "HostName Real\nUser me\nProxyCommand false\nIdentityAgent none\n" +
        "IdentityFile ~/%h-%n-%r\nIdentityFile none\nIdentityFile ${ONE}/%p\nIdentityFile rel\n" +
        "IdentityFile %d/%u\nIdentityFile ~/%h-%n-%r\n",
      environment: { ONE: "/one" },
    };
    const path = await writeCase(folder, ofCase);
    const config = await resolveCase(path, ofCase);
    const { stderr } = await run(["ssh", "-v", "-F", path, "box"], {
      environment: { ...Deno.env.toObject(), ...ofCase.environment },
    });
    const tried = [...text(stderr).matchAll(/^debug1: identity file (.*) type -?\d+\r?$/gm)]
      .map(([, file]) => file).filter((file) => !file!.endsWith("-cert"));
    assert.equal(tried.length, 4, text(stderr));
    assert.deepEqual(config.identityFiles, tried);
  }));

Deno.test("the agent is where IdentityAgent says", async () => {
  const agentOf = async (value: string) => (await resolve(`IdentityAgent ${value}`)).identityAgent;
  assert.deepEqual(await agentOf("none"), { kind: "none" });
  assert.deepEqual(await agentOf("SSH_AUTH_SOCK"), { kind: "variable", name: "SSH_AUTH_SOCK" });
  assert.deepEqual(await agentOf("$MY_AGENT"), { kind: "variable", name: "MY_AGENT" });
  assert.deepEqual(await agentOf("/run/%h"), { kind: "socket", path: "/run/box" });
  for (const value of ["none", "SSH_AUTH_SOCK", "$MY_AGENT", "/run/%h"]) {
    await isSame(`IdentityAgent ${value}`);
  }
  for (const value of ["$a-b", "$", "${NOPE}"]) {
    await assertBothRefuse({ config: `IdentityAgent ${value}` });
  }
});

Deno.test("User may have tokens but its own, and its result is checked", async () => {
  const options = { localUser: "me", env: { ONE: "one" } };
  const userOf = async (value: string, more: HostConfigOptions = {}) =>
    (await resolveWithout({ ...options, ...more, overrides: [`User=${value}`] })).user;
  assert.equal(await userOf("%u-%n-%h-%p-${ONE}%%"), "me-Box-box-22-one%");
  assert.equal(await userOf("dom\\\\me"), "dom\\me");
  // A name that needs no expansion is taken as it is.
  assert.equal(await userOf("'a;b'"), "a;b");
  await assert.rejects(userOf("%r"), /%r cannot be used here/);
  await assert.rejects(userOf("%C"), /%C cannot be used here/);
  await assert.rejects(userOf("${ONE}", { env: { ONE: "$(x)" } }), /mean something to a shell/);
  const typed = await resolveHostConfig({ alias: "box", user: "%h" }, { configFile: "none" });
  assert.equal(typed.user, "%h");
});

Deno.test("a host or user that is typed with characters of a shell is refused", async () => {
  for (const alias of ["-x", "a b", "a;b", "$(x)", "a\nb", "`a`", "a'b", 'a"b', "a|b", "", "{a}"]) {
    assert(!isSafeHost(alias), alias);
    await assert.rejects(resolveWithout({}, alias), UsageError);
  }
  for (const user of ["-x", "a;b", "$(x)", "a\nb", "`a`", "a -b", "a\\", "a|b", ""]) {
    assert(!isSafeUser(user), user);
    const destination = { alias: "box", user };
    await assert.rejects(
      resolveHostConfig(destination, { configFile: "none" }),
      /^UsageError: The user's name .* Check what you typed\.$/,
    );
  }
  for (const user of ["a b", "dom\\me", "a@b", "$x", "ü"]) assert(isSafeUser(user), user);
  for (const host of ["::1", "fe80::1%eth0", "a_b", "ü.example"]) assert(isSafeHost(host), host);
});

Deno.test("ProxyJump and ProxyCommand: the first one wins, and none is about itself", async () => {
  for (
    const config of [
      "ProxyJump b\nProxyCommand nc %h",
      "ProxyCommand nc %h\nProxyJump b",
      "ProxyCommand none\nProxyJump b",
      "ProxyCommand None\nProxyCommand nc",
      "ProxyJump none\nProxyCommand nc",
      "ProxyJump NONE\nProxyJump b\nProxyCommand nc",
      "ProxyJump none",
      "ProxyJump none # but why",
      "Host other\n ProxyJump c\nHost *\n ProxyJump b",
      "Host box\n ProxyJump none\nHost *\n ProxyJump b",
      "ProxyCommand nc %h\nMatch all\n ProxyCommand other",
    ]
  ) {
    await isSame(config);
  }
  await isSame("ProxyCommand nc", { overrides: ["ProxyJump=b"] });
  await isSame("ProxyJump b", { overrides: ["ProxyCommand=none"] });
});

Deno.test("jump hosts are read from every form that ssh takes", async () => {
  const hopsOf = async (value: string) => {
    await isSame(`ProxyJump ${value}`);
    const { proxyJump } = await resolve(`ProxyJump ${value}`);
    return proxyJump?.map(({ user, host, port }) => `${user ?? ""} ${host} ${port ?? ""}`.trim());
  };
  assert.deepEqual(await hopsOf("b"), ["b"]);
  assert.deepEqual(await hopsOf("me@b:7"), ["me b 7"]);
  assert.deepEqual(await hopsOf("a@d@b:7"), ["a@d b 7"]);
  assert.deepEqual(await hopsOf("a,me@b,c:7"), ["a", "me b", "c 7"]);
  assert.deepEqual(await hopsOf("[::1]:7"), ["::1 7"]);
  assert.deepEqual(await hopsOf("me@[::1],10.0.0.1"), ["me ::1", "10.0.0.1"]);
  assert.deepEqual(await hopsOf("b:"), ["b"]);
  assert.deepEqual(await hopsOf("b # comment"), ["b"]);
  assert.deepEqual(await hopsOf("b#comment"), ["b"]);
  assert.deepEqual(await hopsOf("ssh://b"), ["b"]);
  assert.deepEqual(await hopsOf("ssh://me@b:7/"), ["me b 7"]);
  assert.deepEqual(await hopsOf("ssh://m%40e;x=y@b:7,c"), ["m@e b 7", "c"]);
  assert.deepEqual(await hopsOf("c,ssh://b:7"), ["c", "b 7"]);
  // ssh hands quotes to a shell, which takes them away.
  assert.deepEqual((await resolve("ProxyJump 'b'")).proxyJump, [{ host: "b", user: undefined }]);
  for (
    const value of [
      "::1",
      "@b",
      "a,,b",
      ",b",
      "b,",
      "b:0",
      "b:x",
      "b:65536",
      "b/7",
      "[::1",
      "ssh://",
      "ssh://b/path",
      "ssh://@b",
      "ssh://[::1]:7",
      "ssh://b..c",
      "ssh://m%4@b",
      "box",
      "me@box",
    ]
  ) {
    await assertBothRefuse({ config: `ProxyJump ${value}`, destination: "me@box" });
  }
  await isSame("ProxyJump other@box", { destination: "me@box" });
  await isSame("ProxyJump box:23", { destination: "me@box" });
});

Deno.test("tokens in jump hosts are replaced, and the result is checked", async () => {
  const { proxyJump } = await resolve("HostName real\nPort 7\nProxyJump %r@gate.%h,%n-%p%%", {
    destination: "me@Box",
  });
  assert.deepEqual(proxyJump, [{ user: "me", host: "gate.real" }, {
    user: undefined,
    host: "Box-7%",
  }]);
  for (const value of ["$B", "`b`", "a;b@c", "-b", "a\\\\@c", "%Z"]) {
    assert.match(
      await assertRefused({ config: `ProxyJump ${value}` }),
      /^@\/config line 1: .*(characters that none can have\. Correct it\.|%Z)/,
    );
  }
});

Deno.test("a ProxyCommand runs with the words that ssh gives it", () =>
  withFolder(async (folder) => {
    const ofCase: ConfigCase = {
      config: "HostName Real.example\nPort 7\nHostKeyAlias Al\n" +
        `ProxyCommand printf '[%%s]' %h "%n" %p '%r' %k "a  b" $X %%h | cat >"$OUT" # end`,
      destination: "me@Box",
    };
    const path = await writeCase(folder, ofCase);
    const out = join(folder, "out");
    const environment = { ...Deno.env.toObject(), OUT: out, X: "1 2" };
    await run(["ssh", "-F", path, "me@Box"], { environment });
    const expected = await Deno.readTextFile(out);
    assert.match(expected, /^\[real\.example\]\[Box\]\[7\]\[me\]\[al\]/);
    await Deno.remove(out);
    const command = expandProxyCommand(await resolveCase(path, ofCase))!;
    await run(["/bin/sh", "-c", `exec ${command}`], { environment });
    assert.equal(await Deno.readTextFile(out), expected);
  }));

Deno.test("a ProxyCommand is not run with names that a shell would understand", async () => {
  const connection = { alias: "box", hostName: "box", port: 22, user: "me", proxyCommand: "nc %h" };
  assert.equal(expandProxyCommand(connection), "nc box");
  assert.equal(expandProxyCommand({ ...connection, proxyCommand: undefined }), undefined);
  for (const name of ["$(x)", "a;b", "a\nb", "-o", "a b", "`x`", "a|b", "a>b", "a&b", "\x1b[0m"]) {
    const message = new RegExp('^ProxyCommand for ".*" is not run: .*mean something to a shell');
    for (const field of ["alias", "hostName", "hostKeyAlias"]) {
      const changed = { ...connection, [field]: name };
      assert.throws(() => expandProxyCommand(changed), { name: "UsageError", message });
    }
    if (name === "$(x)" || name === "a b" || name === "a>b") continue;
    assert.throws(() => expandProxyCommand({ ...connection, user: name }), { message });
  }
  assert.throws(() => expandProxyCommand({ ...connection, user: "$(x)" }), UsageError);
  assert.throws(() => expandProxyCommand({ ...connection, proxyCommand: "nc %Z" }), /%Z cannot/);
  await assertRefused({ config: "ProxyCommand -" });
});

Deno.test("what is passed over is noted with its place", async () => {
  const { notes } = await resolve(
    "ForwardAgent yes\nHost other\n ControlMaster auto\nHost box\n\n GSSAPIAuthentication yes\n" +
      "UseKeychain yes\nForwardAgent no\nVerifyHostKeyDNS yes\nInclude @/nothing",
  );
  const shown = notes.map(({ line, text }) => `${line} ${text.replace(/\/.*\//, "@/")}`);
  assert.deepEqual(shown, [
    "10 Include finds no file @/nothing",
    "1 ForwardAgent is ignored: the client at the local port has its own",
    "6 GSSAPIAuthentication is ignored: sshshim does not have this way to log in",
    "7 UseKeychain is ignored: sshshim does not do this",
    "9 VerifyHostKeyDNS is ignored: host keys are checked against known_hosts alone, which is stricter",
  ]);
  assert(notes.every(({ file }) => file.endsWith("/config")));
});

Deno.test("what would divert a connection is refused", async () => {
  const refused: [name: string, value: string][] = [
    ["RefuseConnection", "'not today'"],
  ];
  for (const [name, value] of refused) {
    const config = `Host box\n ${name} ${value}`;
    const message = await assertRefused({ config });
    assert.match(message, new RegExp(`^@/config line 2: ${name} cannot be followed: `));
    // Other hosts are not concerned.
    await resolve(config, { destination: "other" });
  }
});

Deno.test("what concerns another way to the host than the configured one counts for nothing", async () => {
  const ways = { direct: "", jump: "ProxyJump hop", command: "ProxyCommand nc %h %p" };
  const concerned: [string, keyof typeof ways, RegExp][] = [
    ["ProxyUseFdpass yes", "command", /nc %h %p without -F, and add -o ProxyUseFdpass=no\.$/],
  ];
  for (const [setting, way, help] of concerned) {
    for (const [name, other] of Object.entries(ways)) {
      const config = `${setting}\n${other}`;
      if (name === way) assert.match(await assertRefused({ config }), help);
      else await isSame(config);
    }
  }
});

Deno.test("a configuration without a way to log in that sshshim has is refused", async () => {
  for (
    const config of [
      "PreferredAuthentications gssapi-with-mic,hostbased",
      "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPubkeyAuthentication no",
      "PreferredAuthentications password\nPasswordAuthentication no",
    ]
  ) {
    assert.match(await assertRefused({ config }), /leaves no way to log in that sshshim has/);
  }
  await isSame("PreferredAuthentications gssapi-with-mic,password\nPubkeyAuthentication no");
  await assertBothRefuse({ config: "ConnectionAttempts 0" });
});

Deno.test("the files that distributions ship are followed", async () => {
  await isSame(
    "Include @/system.d/*.conf\nHost *\n    SendEnv LANG LC_*\n    HashKnownHosts yes\n" +
      "    GSSAPIAuthentication yes\n",
  );
  // Fedora includes its policies, with key sizes and algorithms for everybody.
  await isSame(
    "Match final all\n\tInclude @/policy\n\n\tForwardX11Trusted yes\nSendEnv XMODIFIERS",
    {
      files: {
        policy: "Ciphers aes256-gcm@openssh.com,chacha20-poly1305@openssh.com\n" +
          "MACs hmac-sha2-256-etm@openssh.com\nGSSAPIKeyExchange no\n" +
          "KexAlgorithms curve25519-sha256\nPubkeyAcceptedAlgorithms ssh-ed25519,rsa-sha2-256\n" +
          "CASignatureAlgorithms ssh-ed25519,rsa-sha2-256\nRequiredRSASize 2048\n",
      },
    },
  );
});

Deno.test("the configuration is shown with one keyword a line, as it was understood", async () => {
  const config = await resolve(
    "HostName Real\nUser me\nPort 7\nIdentityFile ~/k-%h\nIdentityFile none\nProxyJump a,ssh://u@b\n" +
      "StrictHostKeyChecking off\nUserKnownHostsFile none\nCiphers +x\nIdentityAgent none\n" +
      "GlobalKnownHostsFile ~/g\nConnectTimeout 1m",
  );
  assert.equal(
    printHostConfig(config),
    `host box
user me
hostname real
port 7
addressfamily any
batchmode no
canonicalizefallbacklocal yes
canonicalizehostname false
checkhostip no
hashknownhosts no
identitiesonly no
kbdinteractiveauthentication yes
passwordauthentication yes
pubkeyauthentication true
stricthostkeychecking false
updatehostkeys false
canonicalizemaxdots 1
connectionattempts 1
numberofpasswordprompts 3
serveralivecountmax 3
serveraliveinterval 0
requiredrsasize 1024
ciphers +x
identityagent none
identityfile ~/k-%h
identityfile none
canonicaldomains none
globalknownhostsfile ~/g
userknownhostsfile none
connecttimeout 60
canonicalizePermittedcnames none
proxyjump a,u@b
`,
  );
  assert.deepEqual(config.identityFiles, [join(userInfo().homedir, "k-real")]);
});
