import assert from "node:assert/strict";
import { parseArguments } from "../lib/cli.ts";
import { UsageError } from "../lib/errors.ts";
import { type HostConfig, printHostConfig } from "../lib/host_config.ts";
import { readUpstreamConfig } from "../lib/hosts.ts";
import { run, text } from "./support/run.ts";
import { assertShownAlike, withFolder, writeCase } from "./support/ssh_g.ts";

/** What the program makes of its arguments. */
function configOf(...args: string[]): Promise<HostConfig> {
  const command = parseArguments(args);
  assert(command.kind === "run");
  return readUpstreamConfig(command.options, command.options.destinations[0]!);
}

const config = `Host 10.0.0.1:36830
  HostName 10.0.0.1
  Port 36830
Host "work/db" [box]:7 Team:db
  User worker
  HostName db.example
Include @/more
Match exec "touch @/ran" host none
  Include @/nested
Host *
  User fallback
`;
const files = { more: "Host included:1\n HostName x.example", nested: "Host nested:1\n Port 2" };

/** The destination, and other arguments that ssh has too. */
const known: [string, ...string[]][] = [
  ["10.0.0.1:36830"],
  ["me@10.0.0.1:36830"],
  ["10.0.0.1:36830", "-p", "7"],
  ["work/db"],
  ["[box]:7"],
  ["me@Team:db"],
  ["included:1"],
  ["ssh://box"],
  ["ssh://Box.example:2201/"],
  ["ssh://10.0.0.1:36830"],
  ["ssh://a%40b%3Ac+d;x=y@box:ssh"],
  ["ssh://box.:"],
  ["corp:me@box"],
  ["me@corp@box"],
  ["box", "-l", "a:b@c"],
  ["box", "-la@b", "-p2201"],
  ["box", "-oPort=2201", "-oUser=me"],
  ["::1"],
  ["me@::1"],
];

Deno.test("a destination leads where it leads with ssh", () =>
  withFolder(async (folder) => {
    const path = await writeCase(folder, { config, files });
    for (const args of known) {
      const result = await run(["ssh", "-G", "-F", path, ...args.slice(1), args[0]]);
      assert.equal(result.code, 0, text(result.stderr));
      const actual = printHostConfig(await configOf("-F", path, ...args));
      assertShownAlike(actual, text(result.stdout), args.join(" "));
    }
  }));

const divided: [string, host: string, port: number][] = [
  ["box:2200", "box", 2200],
  ["10.0.0.1:22", "10.0.0.1", 22],
  ["box:65535", "box", 65535],
  ["[::1]", "::1", 22],
  ["[::1]:2200", "::1", 2200],
  ["me@[fe80::1%eth0]:1", "fe80::1%eth0", 1],
  ["2001:db8::2:22", "2001:db8::2:22", 22],
];

Deno.test("HOST:PORT that is no name of the configuration is divided", () =>
  withFolder(async (folder) => {
    const path = await writeCase(folder, { config: "Host *:2200 !10.0.0.1:22\n User me" });
    for (const [typed, hostName, port] of divided) {
      for (const form of [[typed], ["--host", typed.replace("me@", "")]]) {
        const { alias, ...read } = await configOf("-F", path, ...form);
        assert.deepEqual([alias, read.hostName, read.port], [hostName, hostName, port], typed);
      }
    }
    assert.equal((await configOf("-F", path, "box:22", "-p22")).port, 22);
  }));

const refused: [string, RegExp][] = [
  [":22", /host is empty/],
  ["[]:22", /host is empty/],
  ["-h:22", /cannot start with -/],
  ["ubuntu@prod", /neither a name nor an address/],
  ["a/b", /neither a name nor an address/],
  ["[a:b]", /neither a name nor an address/],
  ["[::1", /\[::1\]:22/],
  ["[::1]22", /\[::1\]:22/],
  ["1:2:3", /\[::1\]:22/],
  ["http://prod", /written as .* or ssh:/],
  ["prod:", /PORT .* from 1 to 65535/],
  ["prod:0", /PORT .* from 1 to 65535/],
  ["prod:65536", /PORT .* from 1 to 65535/],
  ["prod:ssh", /PORT .* from 1 to 65535/],
  ["[::1]:-1", /PORT .* from 1 to 65535/],
  ["prod:23", /port is given twice/],
];

Deno.test("a host that is neither a name nor HOST:PORT is refused", async () => {
  for (const [typed, expected] of refused) {
    await assert.rejects(
      async () => await configOf("-F", "none", `--host=${typed}`, "-p22"),
      (error) => {
        assert(error instanceof UsageError, String(error));
        assert.match(error.message, expected, typed);
        return true;
      },
    );
  }
});

Deno.test("whether a name stands in the files is found out without running a command", () =>
  withFolder(async (folder) => {
    const nested = `Match exec "echo >>@/ran"\n Include @/nested`;
    const path = await writeCase(folder, { config: nested, files });
    assert.equal((await configOf("-F", path, "nested:1")).port, 2);
    assert.equal(await Deno.readTextFile(`${folder}/ran`), "\n");
  }));
