import assert from "node:assert/strict";
import config from "../deno.json" with { type: "json" };
import { errorFormat, type Options, parseArguments } from "../lib/cli.ts";
import type { Destination } from "../lib/destination.ts";
import { UsageError } from "../lib/errors.ts";

const secret = "hunter2";
const key = ["--rsa-key", "id"];
const pinned = "SHA256:0eQZpIxc8Tw4QAvZyQIdWgOTYk+JPVJUyPnBPIUIzUM";

const defaults: Options = {
  destinations: [{ host: "prod", port: undefined, username: undefined }],
  command: undefined,
  isLazy: false,
  credential: { kind: "key", type: "rsa", file: "id" },
  identityFiles: [],
  jumpHosts: undefined,
  configFile: undefined,
  configOverrides: [],
  printsConfig: false,
  localHost: "127.0.0.1",
  localPort: undefined,
  localHostKey: undefined,
  knownHostsFiles: [],
  acceptNew: false,
  fingerprint: undefined,
  localAuth: "same-user",
  authorizedKeysFile: undefined,
  confirms: false,
  auditFile: undefined,
  name: undefined,
  as: undefined,
  sshConfig: "written",
  usesLane: true,
  reconnects: true,
  reconnectMaxDelayMs: 30_000,
  resumeForMs: undefined,
  showsAway: true,
  keepaliveIntervalMs: undefined,
  keepaliveCount: undefined,
  openTimeoutMs: 30_000,
  maxSessions: undefined,
  keepsWarm: true,
  maxChannels: 960,
  overflow: 0,
  paces: true,
  idleExitMs: undefined,
  maxLifeMs: undefined,
  readyFile: undefined,
  notifies: false,
  verbosity: "normal",
  logFormat: "text",
  showsStatus: true,
  metrics: undefined,
};

function optionsOf(args: string[]): Options {
  const command = parseArguments(args);
  assert.equal(command.kind, "run");
  assert(command.kind === "run");
  return command.options;
}

function textOf(args: string[]): string {
  const command = parseArguments(args);
  assert(command.kind === "print", `${args} is printed`);
  return command.text;
}

function errorOf(args: string[]): UsageError {
  try {
    parseArguments(args);
  } catch (error) {
    assert(error instanceof UsageError, `${args} throws a usage error, not ${error}`);
    return error;
  }
  throw new assert.AssertionError({ message: `${JSON.stringify(args)} is accepted` });
}

Deno.test("a host suffices, and what is not said is left to ssh's configuration", () => {
  assert.deepEqual(optionsOf(["prod"]), { ...defaults, credential: undefined });
  assert.deepEqual(optionsOf(["prod", ...key]), defaults);
});

const understood: [string[], Partial<Options> & Partial<Destination>][] = [
  [["ubuntu@prod:2200"], { username: "ubuntu", host: "prod:2200" }],
  [["ubuntu@prod"], { username: "ubuntu" }],
  [["a@b@prod"], { username: "a@b" }],
  [["10.0.0.1"], { host: "10.0.0.1" }],
  [["bücher.example"], { host: "bücher.example" }],
  [["::1"], { host: "::1" }],
  [["ubuntu@::1"], { host: "::1", username: "ubuntu" }],
  [["2001:db8::2:22"], { host: "2001:db8::2:22" }],
  [["a:b@c@prod"], { username: "a:b@c" }],
  [["ubuntu@[fe80::1%eth0]:1"], { host: "[fe80::1%eth0]:1", username: "ubuntu" }],
  [["ssh://prod"], {}],
  [["ssh://a%40b:c+d;fingerprint=x@prod.:2200/"], { username: "a@b:c d", port: 2200 }],
  [["--host", "prod"], {}],
  [["--host=::1"], { host: "::1" }],
  [["--host", "[::1]", "--port", "2200"], { host: "[::1]", port: 2200 }],
  [["--", "prod"], {}],
  [["prod", "--port", "1"], { port: 1 }],
  [["prod", "--port=65535"], { port: 65535 }],
  [["prod", "-p", "2200"], { port: 2200 }],
  [["prod", "-p2200"], { port: 2200 }],
  [["ssh://prod:2200", "--port", "2200"], { port: 2200 }],
  [["prod", "--username", "CORP\\jo doe"], { username: "CORP\\jo doe" }],
  [["prod", "--username", "a:b"], { username: "a:b" }],
  [["ubuntu@prod", "--username", "ubuntu"], { username: "ubuntu" }],
  [["prod", "-l", "a:b@c"], { username: "a:b@c" }],
  [["prod", "-la"], { username: "a" }],
  [["prod", "--local-port", "0"], { localPort: 0 }],
  [["prod", "--local-port", "65535"], { localPort: 65535 }],
  [["prod", "--local-rsa-key", "f"], { localHostKey: { type: "rsa", file: "f" } }],
  [["prod", "--local-ed25519-key", "f"], { localHostKey: { type: "ed25519", file: "f" } }],
  [["prod", "--known-hosts", "a", "--known-hosts=b"], { knownHostsFiles: ["a", "b"] }],
  [["prod", "--accept-new"], { acceptNew: true }],
  [["prod", "--fingerprint", pinned], { fingerprint: pinned }],
  [["prod", `--fingerprint=${pinned}=`], { fingerprint: `${pinned}=` }],
  [["prod", "-J", "a,b@c:22"], { jumpHosts: "a,b@c:22" }],
  [["prod", "--jump", "none"], { jumpHosts: "none" }],
  [["prod", "-F", "none"], { configFile: "none" }],
  [["prod", "--config=./f"], { configFile: "./f" }],
  [["prod", "-o", "Port=1", "-o", "User a"], { configOverrides: ["Port=1", "User a"] }],
  [["prod", "-i", "a", "--identity", "b", "-i", "a"], { identityFiles: ["a", "b", "a"] }],
  [["prod", "-oPort=1", "-oUser a"], { configOverrides: ["Port=1", "User a"] }],
  [["prod", "-vp2200", "-ia", "-Ffile"], {
    verbosity: "verbose",
    port: 2200,
    identityFiles: ["a"],
    configFile: "file",
  }],
  [["prod", "-vJ", "-pi"], { verbosity: "verbose", jumpHosts: "-pi" }],
  [["prod", "--print-config"], { printsConfig: true }],
  [["prod", "-G"], { printsConfig: true }],
  [["prod", "--no-reconnect"], { reconnects: false }],
  [["prod", "--reconnect-max-delay", "1"], { reconnectMaxDelayMs: 1000 }],
  [["prod", "--keepalive-interval", "86400"], { keepaliveIntervalMs: 86_400_000 }],
  [["prod", "--keepalive-interval", "0"], { keepaliveIntervalMs: 0 }],
  [["prod", "--keepalive-count", "1000"], { keepaliveCount: 1000 }],
  [["prod", "--open-timeout=2"], { openTimeoutMs: 2000 }],
  [["prod", "--max-sessions", "10"], { maxSessions: 10 }],
  [["prod", "--no-warm"], { keepsWarm: false }],
  [["prod", "--max-channels", "4000"], { maxChannels: 4000 }],
  [["prod", "--overflow", "3"], { overflow: 3 }],
  [["prod", "--no-pacing"], { paces: false }],
  [["prod", "--confirm"], { confirms: true }],
  [["prod", "--audit", "file"], { auditFile: "file" }],
  [["prod", "--metrics", "127.0.0.1:9222"], { metrics: { hostname: "127.0.0.1", port: 9222 } }],
  [["prod", "--metrics", "127.1.2.3:0"], { metrics: { hostname: "127.1.2.3", port: 0 } }],
  [["prod", "--metrics=[::1]:9222"], { metrics: { hostname: "::1", port: 9222 } }],
  [["prod", "--idle-exit", "90"], { idleExitMs: 90_000 }],
  [["prod", "--idle-exit", "30m"], { idleExitMs: 1_800_000 }],
  [["prod", "--max-life=1d12H"], { maxLifeMs: 129_600_000 }],
  [["prod", "--ready-file", "file", "--notify"], { readyFile: "file", notifies: true }],
  [["prod", "--local-auth", "none"], { localAuth: "none" }],
  [["prod", "--local-auth", "same-user"], {}],
  [["prod", "--local-auth", "publickey"], { localAuth: "publickey" }],
  [["prod", "--authorized-keys", "f"], { localAuth: "publickey", authorizedKeysFile: "f" }],
  [
    ["prod", "--local-auth", "publickey", "--authorized-keys", "f"],
    { localAuth: "publickey", authorizedKeysFile: "f" },
  ],
  [["prod", "--local-host", "::1"], { localHost: "::1" }],
  [["prod", "--local-host", "127.0.0.2"], { localHost: "127.0.0.2" }],
  [
    ["prod", "--local-host", "0.0.0.0", "--local-auth", "publickey"],
    { localHost: "0.0.0.0", localAuth: "publickey" },
  ],
  [
    ["prod", "--local-host", "2001:db8::1", "--authorized-keys", "f"],
    { localHost: "2001:db8::1", localAuth: "publickey", authorizedKeysFile: "f" },
  ],
  [["prod", "-v"], { verbosity: "verbose" }],
  [["prod", "--verbose"], { verbosity: "verbose" }],
  [["prod", "-vvv", "-v"], { verbosity: "verbose" }],
  [["prod", "-q"], { verbosity: "quiet", showsStatus: false }],
  [["prod", "--quiet"], { verbosity: "quiet", showsStatus: false }],
  [["prod", "--log-format", "json"], { logFormat: "json", showsStatus: false }],
  [["prod", "--no-status-line"], { showsStatus: false }],
  [["prod", "--log-format", "text"], {}],
];

Deno.test("each option sets its field, whether it stands before or after the others", () => {
  for (const [args, expected] of understood) {
    const { host = "prod", port, username, ...others } = expected;
    const options = { ...defaults, destinations: [{ host, port, username }], ...others };
    assert.deepEqual(optionsOf([...key, ...args]), options, JSON.stringify(args));
    if (!args.includes("--")) {
      assert.deepEqual(optionsOf([...args, ...key]), options, JSON.stringify(args));
    }
  }
});

Deno.test("several hosts can be given, to each of which the options apply", () => {
  const options = optionsOf(["a", "root@b", ...key, "ssh://c:22", "-p", "22", "--lazy"]);
  assert.deepEqual(options, {
    ...defaults,
    destinations: [
      { host: "a", port: 22, username: undefined },
      { host: "b", port: 22, username: "root" },
      { host: "c", port: 22, username: undefined },
    ],
    isLazy: true,
    localPort: 0,
  });
  assert.equal(optionsOf(["a", "b", "--local-port", "0"]).localPort, 0);
});

const commands: [args: string[], hosts: string[], command: string[] | undefined][] = [
  [["prod", "--", "ls", "-l", "--bogus"], ["prod"], ["ls", "-l", "--bogus"]],
  [["prod", "--"], ["prod"], []],
  [["prod", "db", "-p22", "--", "a", "--", "b"], ["prod", "db"], ["a", "--", "b"]],
  [["--", "prod"], ["prod"], undefined],
  [["--", "prod", "--", "--help"], ["prod"], ["--help"]],
  [["-p", "22", "--", "a", "b", "--"], ["a", "b"], []],
  [["--host", "prod", "--", "ls"], ["prod"], ["ls"]],
  [["--host=prod", "--", "ls"], ["prod"], ["ls"]],
  [["-l", "root", "--", "prod", "--", "-p0"], ["prod"], ["-p0"]],
  [["--password", "--", "prod", "--", ""], ["prod"], [""]],
];

Deno.test("what follows -- after a host is the command, whatever it looks like", () => {
  for (const [args, hosts, command] of commands) {
    const options = optionsOf(args);
    assert.deepEqual(options.destinations.map(({ host }) => host), hosts, JSON.stringify(args));
    assert.deepEqual(options.command, command, JSON.stringify(args));
  }
});

Deno.test("beside a command the port is a free one, and only what is wrong is told", () => {
  const { localPort, verbosity } = optionsOf(["prod", "--", "ls"]);
  assert.deepEqual({ localPort, verbosity }, { localPort: 0, verbosity: "quiet" });
  assert.equal(optionsOf(["prod", "-v", "--", "ls", "-q"]).verbosity, "verbose");
  assert.equal(optionsOf(["prod", "--local-port", "2300", "--", "ls"]).localPort, 2300);
});

const credentials: [string[], Options["credential"]][] = [
  [["--password", secret], { kind: "password", password: secret }],
  [["--password= a b "], { kind: "password", password: " a b " }],
  [["--password", "--help"], { kind: "password", password: "--help" }],
  [["--password", "-p22"], { kind: "password", password: "-p22" }],
  [[], undefined],
  [["--password-file", "my file"], { kind: "password-file", file: "my file" }],
  [["--password-file=-"], { kind: "password-file", file: "-" }],
  [["--rsa-key", "my id"], { kind: "key", type: "rsa", file: "my id" }],
  [["--ed25519-key=./-id"], { kind: "key", type: "ed25519", file: "./-id" }],
];

Deno.test("the credential is a password as it was typed, a file with one, or a key file", () => {
  for (const [args, expected] of credentials) {
    assert.deepEqual(optionsOf(["prod", ...args]).credential, expected);
  }
});

const refused: [string[], RegExp][] = [
  [[], /host is missing/],
  [[...key], /host is missing/],
  [["--", ...key.slice(2)], /host is missing/],
  [["", ...key], /host is empty/],
  [["ubuntu@", ...key], /host is empty/],
  [["--host", "", ...key], /host is empty/],
  [[...key, "--", "-oProxyCommand"], /cannot start with -/],
  [["ubuntu@-h", ...key], /cannot start with -/],
  [["--host", "-h", ...key], /cannot start with -/],
  [["a b", ...key], /white space/],
  [["a\n", ...key], /white space/],
  [["a\x1b[2J", ...key], /control characters/],
  [["a\x9b2J", ...key], /control characters/],
  [["a\u00a0b", ...key], /white space/],
  [["ssh://prod/path", ...key], /URL is not ssh:/],
  [["ssh://[::1]:22", ...key], /URL is not ssh:/],
  [["ssh://prod:0", ...key], /URL is not ssh:/],
  [["ssh://a%zz@prod", ...key], /URL is not ssh:/],
  [["ssh://;x@prod", ...key], /URL is not ssh:/],
  [["ssh://a@b@prod", ...key], /URL is not ssh:/],
  [["ssh://-prod", ...key], /URL is not ssh:/],
  [["ssh://a..b", ...key], /URL is not ssh:/],
  [["ssh://%0a@prod", ...key], /USER/],
  [["@prod", ...key], /USER/],
  [["-@prod", ...key], /USER/],
  [["u\x07@prod", ...key], /USER/],
  [["prod", "", ...key], /host is empty/],
  [["prod", "--password", "two", secret], /--password is for one host, and several are given/],
  [["a", "b", "--password-file", "f"], /--password-file is for one host/],
  [["a", "b", "--fingerprint", pinned], /--fingerprint is for one host/],
  [["a", "b", "--local-port", "2222"], /--local-port is for one host/],
  [["a", "b", "-G"], /--print-config is for one host/],
  [["prod", "--password-file", "-", "--", "cat"], /--password-file - and a command exclude/],
  [["prod", "--idle-exit", "1h", "--", "ls"], /--idle-exit and a command exclude each other/],
  [["prod", "--host", "prod", ...key], /host is given twice/],
  [["prod", "--host", "other", ...key], /host is given twice/],
  [["ssh://prod:22", "--port", "23", ...key], /port is given twice/],
  [["a@prod", "--username", "b", ...key], /user name is given twice/],
  [["--host", "a", "--host", "b", ...key], /--host is given twice/],
  [["prod", "--port", "1", "--port", "1", ...key], /--port is given twice/],
  [["prod", "--username", ""], /--username takes a user name/],
  [["prod", "--username", "-x"], /--username takes a user name/],
  [["prod", "--username", "a\nb"], /--username takes a user name/],
  [["prod", "--port"], /--port takes a number from 1 to 65535/],
  [["prod", "--port", "0"], /--port takes a number from 1 to 65535/],
  [["prod", "--port", "65536"], /--port takes a number from 1 to 65535/],
  [["prod", "--port", "22x"], /--port takes a number from 1 to 65535/],
  [["prod", "--port", "1e3"], /--port takes a number from 1 to 65535/],
  [["prod", ...key, "--local-port", "-1"], /--local-port takes a number from 0 to 65535/],
  [["prod", ...key, "--local-port", "65536"], /--local-port takes a number from 0 to 65535/],
  [["prod", ...key, "--local-port"], /--local-port takes a number from 0 to 65535/],
  [["prod", ...key, "--password-file", "f"], /Only one of --password-file, --rsa-key can/],
  [
    ["prod", "--password", secret, "--password-file", "f"],
    /Only one of --password, --password-file can/,
  ],
  [["prod", "--password-file"], /--password-file takes the name of a file, or -/],
  [["prod", "--password-file", ""], /--password-file takes the name of a file, or -/],
  [["prod", "--password-file", "--verbose"], /--password-file takes the name of a file, or -/],
  [["prod", "--password-file", "-", "--password-file", "-"], /--password-file is given twice/],
  [["prod", "-i"], /--identity takes the name of a file/],
  [["prod", "-i", "-v"], /--identity takes the name of a file/],
  [["prod", "--identity="], /--identity takes the name of a file/],
  [["prod", "-J"], /--jump takes hosts with commas between, or none/],
  [["prod", "-J", ""], /--jump takes hosts with commas between, or none/],
  [["prod", "-J", "a", "--jump", "b"], /--jump is given twice/],
  [["prod", "-F"], /--config takes the name of a file/],
  [["prod", "-F", "a", "-F", "b"], /--config is given twice/],
  [["prod", "-o"], /-o takes KEY=VALUE/],
  [["prod", "-o", ""], /-o takes KEY=VALUE/],
  [["prod", "--print-config=yes"], /--print-config takes no value/],
  [["prod", "--fingerprint"], /--fingerprint takes a fingerprint as ssh shows it, SHA256:…/],
  [["prod", "--fingerprint", pinned.slice(0, -1)], /--fingerprint takes a fingerprint/],
  [["prod", "--fingerprint", `${pinned}==`], /--fingerprint takes a fingerprint/],
  [["prod", "--fingerprint", pinned.slice("SHA256:".length)], /--fingerprint takes a fingerprint/],
  [["prod", "--fingerprint", "MD5:00:11"], /--fingerprint takes a fingerprint/],
  [["prod", "--fingerprint", pinned, "--fingerprint", pinned], /--fingerprint is given twice/],
  [["prod", "--no-reconnect=1"], /--no-reconnect takes no value/],
  [["prod", "--reconnect-max-delay", "0"], /--reconnect-max-delay takes a number of seconds/],
  [["prod", "--reconnect-max-delay", "1.5"], /--reconnect-max-delay takes a number of seconds/],
  [["prod", "--keepalive-interval", "86401"], /--keepalive-interval takes a number of seconds/],
  [["prod", "--keepalive-count", "0"], /--keepalive-count takes a number from 1 to 1000/],
  [["prod", "--open-timeout", "-1"], /--open-timeout takes a number of seconds/],
  [["prod", "--max-sessions", "0"], /--max-sessions takes a number from 1 to 1000/],
  [["prod", "--max-sessions", "5", "--max-sessions", "5"], /--max-sessions is given twice/],
  [["prod", "--max-channels", "31"], /--max-channels takes a number from 32 to 20000/],
  [["prod", "--overflow", "101"], /--overflow takes a number from 0 to 100/],
  [["prod", "--idle-exit", "0"], /--idle-exit takes a time such as 90, 30m or 1d12h/],
  [["prod", "--idle-exit", "5x"], /--idle-exit takes a time such as 90, 30m or 1d12h/],
  [["prod", "--max-life", "m5"], /--max-life takes a time such as 90, 30m or 1d12h/],
  [["prod", "--max-life", "9999999999"], /--max-life takes a time such as 90, 30m or 1d12h/],
  [["prod", ...key, "--password", secret], /Only one of --password, --rsa-key can/],
  [["prod", ...key, "--ed25519-key", "f"], /Only one of --rsa-key, --ed25519-key can/],
  [
    ["prod", `--password=${secret}`, ...key, "--ed25519-key", "f"],
    /Only one of --password, --rsa-key, --ed25519-key can/,
  ],
  [["prod", "--password"], /--password takes a password that is not empty/],
  [["prod", "--password", ""], /--password takes a password that is not empty/],
  [["prod", "--password", secret, "--password", secret], /--password is given twice/],
  [["prod", `--password=${secret}`, `--password=${secret}`], /--password is given twice/],
  [["prod", "--rsa-key"], /--rsa-key takes the name of a file/],
  [["prod", "--rsa-key", ""], /--rsa-key takes the name of a file/],
  [["prod", "--ed25519-key", "--verbose"], /--ed25519-key takes the name of a file/],
  [["prod", "--rsa-key", "a\0b"], /--rsa-key takes the name of a file/],
  [["prod", ...key, "--known-hosts", ""], /--known-hosts takes the name of a file/],
  [
    ["prod", ...key, "--local-rsa-key", "a", "--local-ed25519-key", "b"],
    /--local-rsa-key and --local-ed25519-key exclude each other/,
  ],
  [["prod", ...key, "--local-rsa-key", "a", "--local-rsa-key", "b"], /is given twice/],
  [["prod", ...key, "--local-auth", "nobody"], /--local-auth takes same-user, publickey or none/],
  [
    ["prod", "--metrics", "0.0.0.0:9222"],
    /--metrics takes 127\.0\.0\.1 or \[::1\] .*other machines/,
  ],
  [["prod", "--metrics", "[::]:9222"], /--metrics takes 127\.0\.0\.1 or/],
  [["prod", "--metrics", "127.1:9222"], /--metrics takes 127\.0\.0\.1 or/],
  [["prod", "--metrics", "127.0.0.1.example:1"], /--metrics takes 127\.0\.0\.1 or/],
  [["prod", "--metrics", "localhost:9222"], /--metrics takes 127\.0\.0\.1 or/],
  [["prod", "--metrics", "127.0.0.1:65536"], /--metrics takes a port from 0 to 65535/],
  [["prod", "--metrics", "9222"], /--metrics takes a loopback address and a port/],
  [["prod", "--metrics", "::1:9222"], /--metrics takes a loopback address and a port/],
  [["prod", "--local-host", "0.0.0.0"], /--local-host with another address .*publickey/],
  [["prod", "--local-host", "::", "--local-auth", "none"], /needs --local-auth publickey/],
  [["prod", "--local-host", "::ffff:127.0.0.1"], /needs --local-auth publickey/],
  [["prod", "--local-host", "localhost"], /--local-host takes an IPv4 or IPv6 address/],
  [["prod", "--local-host", "127.1"], /--local-host takes an IPv4 or IPv6 address/],
  [["prod", "--local-auth", "same-user", "--authorized-keys", "f"], /goes with .* publickey/],
  [["prod", "--local-auth", "none", "--authorized-keys", "f"], /nobody is asked for a key/],
  [["prod", ...key, "--log-format", "xml"], /--log-format takes text or json/],
  [["prod", ...key, "-v", "-q"], /--verbose and --quiet exclude each other/],
  [["prod", ...key, "-qv"], /--verbose and --quiet exclude each other/],
  [["prod", ...key, "-q", "-q"], /--quiet is given twice/],
  [["prod", ...key, "--accept-new", "--accept-new"], /--accept-new is given twice/],
  [["prod", ...key, `--quiet=${secret}`], /--quiet takes no value/],
  [["prod", ...key, "--bogus"], /There is no option --bogus\.\n/],
  [["prod", "--passwrd", secret], /no option --passwrd\. Did you mean --password\?/],
  [["prod", `--passwrd=${secret}`], /no option --passwrd\. Did you mean --password\?/],
  [["prod", "--rsakey", "f"], /Did you mean --rsa-key\?/],
  [["prod", "--ed25519-kee", "f"], /Did you mean --ed25519-key/],
  [["prod", ...key, "--versoin"], /Did you mean --version/],
  [["prod", ...key, "-x", "22"], /There is no option -x\.\n/],
  [["prod", `-x${secret}`], /There is no option -x\.\n/],
  [["prod", `-p${secret}`], /--port takes a number from 1 to 65535/],
  [["prod", `-vx${secret}`], /There is no option -x\.\n/],
  [["prod", ...key, "--=x"], /cannot start with -/],
  [["prod", ...key, `--version=${secret}`], /--version is not understood in this place/],
  [["--", "prod", ...key], /cannot start with -/],
  [["--completion"], /shell/],
  [["--completion", secret], /shell .*"bash", "fish", "nu", "pwsh", "zsh"/],
];

Deno.test("a wrong command line is a usage error that tells what is wrong", () => {
  for (const [args, expected] of refused) {
    assert.match(errorOf(args).message, expected, JSON.stringify(args));
  }
});

Deno.test("a usage error has two lines, the second points to the help", () => {
  for (const [args] of refused) {
    const lines = errorOf(args).message.split("\n");
    assert.equal(lines.length, 2, JSON.stringify(lines));
    assert.equal(lines[1], "Try 'sshshim --help'.");
  }
});

Deno.test("no usage error shows the password, wherever it was typed", () => {
  const words = [
    ...[
      "prod",
      "a@prod:22",
      secret,
      secret,
      `u:${secret}@prod`,
      `${secret}:${secret}`,
      `/${secret}`,
    ],
    ...["--password", "--passwrd", "--port", "--username", "--rsa-key", "--local-auth", "--"],
    ...["--log-format", "--completion", "-p", "-v", "--host", "--known-hosts", "--accept-new"],
    ...["--password-file", "-o", "-J", "-F", "-i", "--fingerprint", "--print-config"],
    ...["--no-reconnect", "--open-timeout", "--max-sessions", "--max-channels"],
  ];
  const seed = Math.floor(Math.random() * 2 ** 31);
  const next = randomNumbers(seed);
  for (let round = 0; round < 500; round++) {
    const args = Array.from({ length: 1 + next() % 5 }, () => {
      const word = words[next() % words.length] ?? "";
      return word.startsWith("-") && next() % 3 === 0 ? `${word}=${secret}` : word;
    });
    try {
      parseArguments(args);
    } catch (error) {
      const told = `seed ${seed}, ${JSON.stringify(args)}: ${error}`;
      assert(error instanceof UsageError, told);
      assert(!`${error.message}${error.stack}`.includes(secret), told);
    }
  }
});

/** Marsaglia's xorshift, so that a failure can be repeated from its seed. */
function randomNumbers(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

Deno.test("--log-format json is seen wherever the error stands", () => {
  const format = (...args: string[]) => errorFormat(args);
  assert.equal(format("--bogus", "--log-format", "json"), "json");
  assert.equal(format("--log-format=json", "--bogus"), "json");
  assert.equal(format("--bogus", "--log-format", "text"), "text");
  assert.equal(format("--bogus", "--", "--log-format", "json"), "text");
  assert.equal(format("--log-format"), "text");
});

Deno.test("the help has every option, every exit status, and fits 80 columns", () => {
  const help = textOf(["--help"]);
  assert.equal(textOf(["-h"]), help);
  assert.equal(textOf(["prod", "--bogus", "--help"]), help);
  assert.match(help, /^Usage: sshshim \[OPTION\.\.\.\] \[USER@\]HOST\[:PORT\]\.\.\. /);
  const options = [
    ...["--host", "-p, --port", "-l, --username", "--password", "--rsa-key", "--ed25519-key"],
    ...["--known-hosts", "--accept-new", "--local-port", "--local-rsa-key", "--local-ed25519-key"],
    ...[
      "--local-auth",
      "-v, --verbose",
      "-q, --quiet",
      "--log-format",
      "-h, --help",
      "-V, --version",
    ],
    ...["--completion", "[USER@]HOST[:PORT]", "--password-file", "-i, --identity", "-o"],
    ...["-J, --jump", "-F, --config", "-G, --print-config", "--fingerprint", "--no-reconnect"],
    ...["--reconnect-max-delay", "--keepalive-interval", "--keepalive-count", "--open-timeout"],
    ...["--max-sessions", "--no-warm", "--max-channels", "--overflow", "--confirm", "--audit"],
    ...["--metrics", "--idle-exit", "--max-life", "--ready-file", "--notify"],
  ];
  for (const option of options) assert(help.includes(`\n  ${option} `), option);
  assert.doesNotMatch(help, /^ *ARG/m);
  const statuses = help.slice(help.indexOf("\nExit status:\n"));
  for (let status = 0; status <= 6; status++) assert(statuses.includes(`\n  ${status}  `));
  for (const line of help.split("\n")) {
    assert(line.length <= 80, line);
    assert.equal(line, line.trimEnd());
  }
  assert(help.endsWith("\n") && !help.endsWith("\n\n"));
});

Deno.test("the examples of the help are command lines that work", () => {
  const examples = [...textOf(["--help"]).matchAll(/^ {2}sshshim (.*)$/gm)];
  assert.equal(examples.length, 4);
  for (const [, example] of examples) assert(optionsOf(example?.split(" ") ?? []));
});

Deno.test("the version is the one of deno.json", () => {
  assert.equal(textOf(["--version"]), `sshshim ${config.version}\n`);
  assert.equal(textOf(["-V"]), `sshshim ${config.version}\n`);
});

Deno.test("there is a completion script for each of five shells", () => {
  const scripts = ["bash", "fish", "nu", "pwsh", "zsh"].map((shell) => {
    const script = textOf(["--completion", shell]);
    assert.match(script, /sshshim/, shell);
    assert(script.length > 500, shell);
    return script;
  });
  assert.equal(new Set(scripts).size, 5);
});

Deno.test("completion knows options, their choices, and where a file name belongs", () => {
  const suggestions = (...args: string[]) =>
    textOf(["--completion", "bash", ...args]).split("\n").filter((line) => line !== "");
  assert.deepEqual(suggestions("prod", "--ed"), ["--ed25519-key"]);
  assert.deepEqual(suggestions("prod", "--local-auth", ""), ["same-user", "publickey", "none"]);
  assert.match(suggestions("prod", "--rsa-key", "id").join(), /^__FILE__:file:/);
  assert.match(suggestions("prod", "-i", "id").join(), /^__FILE__:file:/);
  assert.deepEqual(suggestions("prod", "--print-c"), ["--print-config"]);
  assert.deepEqual(suggestions("prod", "--password", ""), []);
});
