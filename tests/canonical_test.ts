import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { UpstreamLostError } from "../lib/errors.ts";
import { type HostConfigOptions, resolveHostConfig } from "../lib/host_config_resolver.ts";
import type { NameLookup } from "../lib/ssh_config_canonical.ts";
import { run, text } from "./support/run.ts";
import { shimProgram } from "./support/shim.ts";
import {
  assertBothRefuse,
  assertSameAsSsh,
  assertShownAlike,
  withFolder,
  writeCase,
} from "./support/ssh_g.ts";

const nameServer = fileURLToPath(new URL("./support/name_server.ts", import.meta.url));

/** A system that knows a few names, and remembers what it was asked for. */
function makeNames(): NameLookup & { asked: string[] } {
  const aliases: Record<string, string> = {
    "cn.corp.example.": "db.Cloud.example",
    "other.corp.example.": "elsewhere.example",
    "web.corp.example.": "web.corp.example",
    short: "s.cloud.example",
    "evil.corp.example.": "$(touch x).cloud.example",
    "option.corp.example.": "-oProxyCommand=x.cloud.example",
  };
  const asked: string[] = [];
  return {
    asked,
    exists(name, family) {
      asked.push(family === undefined ? name : `${name}/${family}`);
      return Promise.resolve(/\.corp\.example\.$/.test(name) && !name.startsWith("no"));
    },
    aliasOf(name) {
      asked.push(`${name}?`);
      return Promise.resolve(aliases[name]);
    },
  };
}

const resolve = (alias: string, overrides: string[], names: HostConfigOptions["names"]) =>
  resolveHostConfig({ alias }, { configFile: "none", overrides, names });

const corp = ["CanonicalizeHostname=yes", "CanonicalDomains=lab.example corp.example"];
const permitted = "CanonicalizePermittedCNAMEs=nothing:* *.corp.example:*.cloud.example";

interface NameCase {
  host: string;
  options: string[];
  becomes: string;
  asks?: string[];
}

const nameCases: NameCase[] = [
  {
    host: "Web",
    options: corp,
    becomes: "web.corp.example",
    asks: ["web.lab.example.", "web.corp.example."],
  },
  { host: "nope", options: corp, becomes: "nope" },
  { host: "web", options: corp.slice(1), becomes: "web", asks: [] },
  { host: "web", options: corp.slice(0, 1), becomes: "web", asks: [] },
  { host: "web", options: [corp[0]!, "CanonicalDomains=none"], becomes: "web", asks: [] },
  { host: "web.corp.example.", options: corp, becomes: "web.corp.example" },
  { host: "a.b", options: corp, becomes: "a.b.corp.example" },
  { host: "a.b.c", options: corp, becomes: "a.b.c", asks: [] },
  { host: "a.b.c", options: [...corp, "CanonicalizeMaxDots=2"], becomes: "a.b.c.corp.example" },
  { host: "web", options: [...corp, "CanonicalizeMaxDots=0"], becomes: "web.corp.example" },
  { host: "127.1", options: corp, becomes: "127.0.0.1", asks: [] },
  { host: "fe80::1%lo", options: corp, becomes: "fe80::1%lo", asks: [] },
  { host: "1.2.3.4.5", options: corp, becomes: "1.2.3.4.5", asks: [] },
  {
    host: "web",
    options: [...corp, "AddressFamily=inet6"],
    becomes: "web.corp.example",
    asks: ["web.lab.example./6", "web.corp.example./6"],
  },
  // What a proxy is to look up stays as it is.
  { host: "web", options: [...corp, "ProxyJump=hop"], becomes: "web", asks: [] },
  { host: "web", options: [...corp, "ProxyCommand=nc %h %p"], becomes: "web", asks: [] },
  { host: "web", options: [...corp, "ProxyCommand=none"], becomes: "web.corp.example" },
  { host: "web", options: [...corp, "ProxyJump=none"], becomes: "web.corp.example" },
  {
    host: "web",
    options: ["CanonicalizeHostname=always", "CanonicalDomains=corp.example", "ProxyJump=hop"],
    becomes: "web.corp.example",
  },
  // Aliases.
  { host: "cn", options: corp, becomes: "cn.corp.example" },
  { host: "cn", options: [...corp, permitted], becomes: "db.cloud.example" },
  { host: "cn.corp.example.", options: [...corp, permitted], becomes: "db.cloud.example" },
  // A shell would understand these.
  { host: "evil", options: [...corp, permitted], becomes: "evil.corp.example" },
  { host: "option", options: [...corp, permitted], becomes: "option.corp.example" },
  { host: "other", options: [...corp, permitted], becomes: "other.corp.example" },
  { host: "web", options: [...corp, permitted], becomes: "web.corp.example" },
  {
    host: "short",
    options: ["CanonicalizeHostname=yes", "CanonicalizePermittedCNAMEs=*"],
    becomes: "s.cloud.example",
    asks: ["short?"],
  },
  { host: "short", options: ["CanonicalizePermittedCNAMEs=*"], becomes: "short", asks: [] },
  {
    host: "cn",
    options: [...corp, "CanonicalizePermittedCNAMEs=none"],
    becomes: "cn.corp.example",
  },
];

Deno.test("a short name gets the first domain that has it, and an alias gives way if it may", async () => {
  for (const { host, options, becomes, asks } of nameCases) {
    const names = makeNames();
    const { hostName, alias } = await resolve(host, options, names);
    assert.deepEqual([hostName, alias], [becomes, host], options.join(" "));
    if (asks !== undefined) assert.deepEqual(names.asked, asks, `${host} ${options}`);
  }
});

Deno.test("without CanonicalizeFallbackLocal a name that no domain has is an error", async () => {
  const strict = [...corp, "CanonicalizeFallbackLocal=no"];
  await assert.rejects(resolve("nope", strict, makeNames()), (error) => {
    assert(error instanceof UpstreamLostError);
    assert.match(error.message, /"nope" is in none of the domains .* Check its name/);
    return true;
  });
  assert.equal((await resolve("web", strict, makeNames())).hostName, "web.corp.example");
  // It has enough dots of its own.
  assert.equal((await resolve("no.b.c", strict, makeNames())).hostName, "no.b.c");
});

Deno.test("the values of the keywords are those that ssh takes", async () => {
  for (
    const line of [
      "CanonicalDomains A.Example. b_c-d.1",
      "CanonicalDomains NONE\nCanonicalDomains a",
      "CanonicalizePermittedCNAMEs none\nCanonicalizePermittedCNAMEs *",
      "CanonicalizeMaxDots 0\nCanonicalizeFallbackLocal no",
      // An address is read a second time, too.
      "CanonicalizeHostname yes\nMatch canonical\n Port 7",
      "CanonicalizeHostname always\nHostName 127.1\nHost 127.0.0.1\n Port 7",
      "CanonicalizeHostname no\nMatch canonical\n Port 7",
    ]
  ) await assertSameAsSsh({ config: line, destination: "127.0.0.9" });
  for (
    const line of [
      "CanonicalDomains none a",
      "CanonicalDomains a none",
      "CanonicalDomains -a",
      "CanonicalDomains a..b",
      "CanonicalDomains 'a b'",
      "CanonicalDomains ''",
      "CanonicalizePermittedCNAMEs a",
      "CanonicalizePermittedCNAMEs a:",
      "CanonicalizePermittedCNAMEs none *",
      "CanonicalizePermittedCNAMEs a:b none",
      "CanonicalizeHostname maybe",
      "CanonicalizeMaxDots many",
    ]
  ) await assertBothRefuse({ config: line });
});

const zone = {
  "web.corp.example": "192.0.2.7",
  "db.cloud.example": "192.0.2.8",
  "cn.corp.example": "middle.lab.example",
  "middle.lab.example": "db.cloud.example",
  "other.corp.example": "elsewhere.example",
  "elsewhere.example": "192.0.2.9",
};

const lookups = `CanonicalizeHostname yes
CanonicalDomains lab.example corp.example
CanonicalizePermittedCNAMEs *.corp.example:*.cloud.example local.lab.example:*
Host web
  User short
Host *.corp.example
  User long
  Port 7
Match canonical host *.cloud.example
  User cloud
Match originalhost proxied
  ProxyJump hop
`;

/** A place with names of its own; who is root there is nobody special outside. */
const apart = ["unshare", "--map-root-user", "--mount", "--net", "sh", "-ec"];
const canBeApart = await run([...apart, "ip link set lo up; test -e /etc/resolv.conf"]).then(
  ({ code }) => code === 0,
  () => false,
);

Deno.test({
  name: "what DNS and the hosts file make of a host is what they make of it with ssh",
  // Which name server the system asks is written in its own files: here others are put over them.
  ignore: !canBeApart,
  async fn() {
    await withFolder(async (folder) => {
      const path = await writeCase(folder, {
        config: lookups,
        files: {
          // A name with a dot at its end is found as it is.
          hosts: "127.0.0.1 localhost\n192.0.2.5 canonical.example local.lab.example.\n",
          resolv: "nameserver 127.0.0.1\n",
        },
      });
      const script = `ip link set lo up
mount --bind ${folder}/hosts "$(readlink -f /etc/hosts)"
mount --bind ${folder}/resolv "$(readlink -f /etc/resolv.conf)"
exec "$@"`;
      const server = [Deno.execPath(), "run", "-A", nameServer, JSON.stringify(zone)];
      const runApart = (command: string[]) =>
        run([...apart, script, "sh", ...server, ...command], { timeoutMs: 60_000 });
      const hosts = {
        web: "web.corp.example",
        cn: "db.cloud.example",
        other: "other.corp.example",
        local: "canonical.example",
        "web.corp.example": "web.corp.example",
        "cn.corp.example.": "db.cloud.example",
        "127.1": "127.0.0.1",
      };
      for (const [host, hostName] of Object.entries(hosts)) {
        const rest = ["-G", "-F", path, host];
        const expected = await runApart(["ssh", ...rest]);
        const actual = await runApart([...shimProgram, ...rest]);
        assert.equal(expected.code + actual.code, 0, text(expected.stderr) + text(actual.stderr));
        assertShownAlike(text(actual.stdout), text(expected.stdout), host);
        assert.match(text(actual.stdout), new RegExp(`^hostname ${hostName}$`, "m"));
      }
      const proxied = await runApart([...shimProgram, "-G", "-F", path, "proxied"]);
      assert.match(text(proxied.stdout), /^hostname proxied$/m);
    });
  },
});
