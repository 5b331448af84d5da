/** A command for whose length the endpoint is there. */

import assert from "node:assert/strict";
import { loginEnvironment, shimCommand } from "./support/login.ts";
import { freePort } from "./support/ports.ts";
import { isRunning, killDescendantsOf } from "./support/processes.ts";
import { Terminal } from "./support/pty.ts";
import { type CommandResult, run, runChecked, text } from "./support/run.ts";
import { type Hosts, logins, startHosts, startShims } from "./support/several.ts";

/** Runs the shim with a command, to its end and without a terminal. */
function runCommand(
  hosts: Hosts,
  args: string[],
  environment: Record<string, string> = {},
): Promise<CommandResult> {
  return run(["setsid", "--wait", ...shimCommand(["-F", hosts.config, ...args])], {
    environment: loginEnvironment(hosts.folder, environment),
    folder: hosts.folder,
  });
}

function sh(script: string): string[] {
  return ["--", "sh", "-c", script];
}

Deno.test("rsync, git and ssh find the host by its name, with nothing set up", async (t) => {
  await using hosts = await startHosts(["prod"]);
  const { folder } = hosts;
  const home = `${folder}/there`;
  await Deno.mkdir(`${folder}/files`);
  await Deno.writeTextFile(`${folder}/files/one`, "content\n");
  await runChecked(["git", "init", "-q", "--bare", `${home}/project.git`]);

  await t.step("rsync", async () => {
    const result = await runCommand(hosts, [
      ...["prod", "--", "rsync", "-a", "files/", `prod.shim:${home}/files/`],
    ]);
    assert.deepEqual([result.code, text(result.stdout), text(result.stderr)], [0, "", ""]);
    assert.equal(await Deno.readTextFile(`${home}/files/one`), "content\n");
  });
  await t.step("git", async () => {
    const result = await runCommand(hosts, [
      ...["prod", "--", "git", "clone", "-q", `prod.shim:${home}/project.git`, "clone"],
    ]);
    assert.equal(result.code, 0, text(result.stderr));
    assert.match(await Deno.readTextFile(`${folder}/clone/.git/HEAD`), /^ref/);
  });
  await t.step("ssh, which still knows the user's own hosts", async () => {
    const result = await runCommand(hosts, [
      "prod",
      ...sh(
        'ssh -F "$SSHSHIM_SSH_CONFIG" prod.shim "echo \\$SERVER" && ' +
          'ssh -F "$SSHSHIM_SSH_CONFIG" -TG prod | grep -x "port .*"',
      ),
    ]);
    assert.equal(text(result.stdout), `prod\nport ${hosts.servers.prod!.port}\n`);
    assert.equal(text(result.stderr), "");
  });
  await t.step("any client, at the port of the environment", async () => {
    const result = await runCommand(hosts, [
      "prod",
      ...sh(
        "ssh -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -q " +
          '-p "$SSHSHIM_PORT" "$SSHSHIM_HOST" "echo \\$SERVER"',
      ),
    ]);
    assert.equal(text(result.stdout), "prod\n", text(result.stderr));
  });
  await t.step("below a folder whose name needs quotes", async () => {
    const TMPDIR = `${folder}/it's a folder`;
    await Deno.mkdir(TMPDIR);
    const result = await runCommand(hosts, [
      "prod",
      ...sh(
        `rsync -a files/ prod.shim:${home}/quoted/ && git ls-remote prod.shim:${home}/project.git`,
      ),
    ], { TMPDIR });
    assert.equal(result.code, 0, text(result.stderr));
    assert.equal(await Deno.readTextFile(`${home}/quoted/one`), "content\n");
    assert.deepEqual(Array.from(Deno.readDirSync(TMPDIR)), []);
  });
});

Deno.test("the exit status is the command's", async (t) => {
  await using hosts = await startHosts(["prod"]);
  const { folder } = hosts;
  await Deno.writeTextFile(`${folder}/text`, "no program\n");
  const cases: [what: string, args: string[], status: number, message: RegExp][] = [
    ["0", sh("exit 0"), 0, /^$/],
    ["another", sh("exit 37"), 37, /^$/],
    ["of a command that a signal ended", sh("kill -KILL $$"), 137, /^$/],
    [
      "of a command that is not found",
      ["--", "no-such-command"],
      127,
      /no-such-command is not found/,
    ],
    [
      "of a file that is no program",
      ["--", "./text"],
      126,
      /\.\/text cannot be run: it is no program/,
    ],
  ];
  for (const [what, args, status, message] of cases) {
    await t.step(what, async () => {
      const result = await runCommand(hosts, ["prod", ...args]);
      assert.equal(result.code, status, text(result.stderr));
      assert.match(text(result.stderr), message);
      assert.equal(text(result.stdout), "");
    });
  }
  await t.step("or tells why the command was not begun", async () => {
    const config = await Deno.readTextFile(hosts.config);
    const gone = `Host gone\n  HostName 127.0.0.1\n  Port ${freePort()}\n`;
    await Deno.writeTextFile(hosts.config, config + gone);
    for (const names of [["gone"], ["prod", "gone"]]) {
      const result = await runCommand(hosts, [...names, ...sh("touch begun")]);
      assert.equal(result.code, 5);
      assert.match(text(result.stderr), /the connection was refused/);
      await assert.rejects(Deno.stat(`${folder}/begun`), Deno.errors.NotFound);
    }
  });
});

Deno.test("standard input, output and error are the command's", async () => {
  await using hosts = await startHosts(["prod"]);
  await using shim = startShims(hosts, ["prod", ...sh("cat; echo error >&2")]);
  await shim.write("from standard input\n");
  await shim.closeStdin();
  assert.equal((await shim.drained()).code, 0);
  assert.equal(shim.stdout.text, "from standard input\n");
  assert.equal(shim.stderr.text, "error\n");
});

Deno.test("signals are passed on, and the command decides when it ends", async (t) => {
  await using hosts = await startHosts(["prod"]);
  for (
    const [signal, number] of [["SIGTERM", 15], ["SIGHUP", 1], ["SIGINT", 2], [
      "SIGQUIT",
      3,
    ]] as const
  ) {
    await t.step(`${signal} ends it`, async () => {
      await using shim = startShims(hosts, ["prod", ...sh("echo $$; exec sleep 60")]);
      const [pid] = await shim.stdout.waitFor(/^\d+$(?=\n)/m);
      shim.kill(signal);
      assert.equal((await shim.drained()).code, 128 + number);
      assert(!await isRunning(Number(pid)));
    });
  }
  await t.step("it may go on, and use the endpoint", async () => {
    await using shim = startShims(hosts, [
      "prod",
      ...sh(
        'trap "echo caught; ssh -F $SSHSHIM_SSH_CONFIG prod.shim echo there; exit 9" TERM; ' +
          "echo ready; while :; do sleep 0.1; done",
      ),
    ]);
    await shim.stdout.waitFor(/ready/);
    shim.kill("SIGTERM");
    shim.kill("SIGTERM");
    assert.equal((await shim.drained()).code, 9);
    assert.match(shim.stdout.text, /^ready\ncaught\n(caught\n)?there\n/);
  });
});

Deno.test("a command outlives a reconnection", async () => {
  await using hosts = await startHosts(["prod"]);
  const sshd = hosts.servers.prod!;
  const lost = `${hosts.folder}/lost`;
  await using shim = startShims(hosts, [
    "prod",
    ...sh(
      'to() { ssh -F "$SSHSHIM_SSH_CONFIG" prod.shim "$@"; }; ' +
        `to echo first; while [ ! -e ${lost} ]; do sleep 0.05; done; to echo second; exit 4`,
    ),
  ]);
  await shim.stdout.waitFor(/first/);
  await killDescendantsOf(sshd.pid);
  await shim.stderr.waitFor(/connection lost/);
  await Deno.writeTextFile(lost, "");
  assert.equal((await shim.drained()).code, 4, shim.stderr.text);
  assert.equal(shim.stdout.text, "first\nsecond\n");
  assert.equal(logins(sshd), 2);
});

Deno.test("with several hosts each has its name, and the variables are the first one's", async () => {
  await using hosts = await startHosts(["prod", "db"]);
  const result = await runCommand(hosts, [
    "prod",
    "db",
    ...sh(
      'for name in prod db; do ssh -F "$SSHSHIM_SSH_CONFIG" $name.shim "echo \\$SERVER"; done; ' +
        'ssh -F "$SSHSHIM_SSH_CONFIG" -TG prod.shim | grep -qx "port $SSHSHIM_PORT" && echo first',
    ),
  ]);
  assert.deepEqual(
    [text(result.stdout), result.code],
    ["prod\ndb\nfirst\n", 0],
    text(result.stderr),
  );
});

/** Starts the shim where a person types. */
function atTerminal(hosts: Hosts, args: string[], environment = {}): Terminal {
  return new Terminal(shimCommand(["-F", hosts.config, ...args]), {
    environment: loginEnvironment(hosts.folder, { PS1: "$ ", ...environment }),
  });
}

Deno.test("the terminal is the command's, with its keys", async (t) => {
  await using hosts = await startHosts(["prod"]);
  await t.step("a session there has it, and its dimensions", async () => {
    await using terminal = atTerminal(hosts, [
      ...[
        "prod",
        "--",
        "sh",
        "-c",
        'exec ssh -tF "$SSHSHIM_SSH_CONFIG" prod.shim "echo ready; read a; stty size"',
      ],
    ]);
    await terminal.screen.waitFor(/ready/);
    await terminal.resize({ rows: 33, columns: 99 });
    await terminal.type("\r");
    await terminal.screen.waitFor(/33 99/);
    assert.equal(await terminal.exit, 0);
  });
  await t.step("Ctrl-C reaches the command once, and ends nothing else", async () => {
    await using terminal = atTerminal(hosts, [
      ...[
        "prod",
        ...sh(
          'trap "echo caught" INT; echo ready; for i in 1 2 3 4 5; do sleep 0.2; done; ssh -F "$SSHSHIM_SSH_CONFIG" prod.shim echo there; exit 5',
        ),
      ],
    ]);
    await terminal.screen.waitFor(/ready/);
    await terminal.type("\x03");
    await terminal.screen.waitFor(/there/);
    assert.equal(await terminal.exit, 5);
    assert.equal(terminal.screen.text.match(/caught/g)?.length, 1, terminal.screen.text);
  });
  await t.step("Ctrl-C ends a command that lets it", async () => {
    await using terminal = atTerminal(hosts, ["prod", ...sh("echo ready; exec sleep 60")]);
    await terminal.screen.waitFor(/ready/);
    await terminal.type("\x03");
    assert.equal(await terminal.exit, 130);
  });
  await t.step("Ctrl-Z stops it, and fg goes on", async () => {
    const command = shimCommand([
      "-F",
      hosts.config,
      "prod",
      "--",
      "sh",
      "-c",
      "echo ready; read word; echo got $word",
    ]);
    await using terminal = new Terminal(["bash", "--norc", "-i"], {
      environment: loginEnvironment(hosts.folder, { PS1: "bash\\$ ", HISTFILE: "" }),
    });
    await terminal.screen.waitFor(/bash[$#] /);
    const words = command.map((word) => `'${word}'`).join(" ");
    await terminal.type(`${words}; echo "status $?"\r`);
    await terminal.screen.waitFor(/ready\r?\n/);
    await terminal.type("\x1a");
    await terminal.screen.waitFor(/Stopped.*\r?\n/);
    const { length } = terminal.screen.text;
    await terminal.type("fg\r");
    // It names the command. What is typed before that has no line end for the command: the shell's
    // own editing takes Enter as it comes.
    await terminal.screen.waitFor(/echo got \$word/, { from: length });
    await terminal.type("again\r");
    await terminal.screen.waitFor(/got again/);
    await terminal.type("exit\r");
    await terminal.exit;
  });
  await t.step("without a command it is a shell, whose status counts", async () => {
    await using terminal = atTerminal(hosts, ["prod", "--"], { SHELL: "/bin/bash" });
    await terminal.type('ssh -F "$SSHSHIM_SSH_CONFIG" prod.shim "echo \\$SERVER is there"\r');
    await terminal.screen.waitFor(/^prod is there/m);
    await terminal.type("sleep 60\r");
    await terminal.screen.waitFor(/sleep 60/);
    const { length } = terminal.screen.text;
    await terminal.type("\x03");
    // Whatever is typed before bash asks again may go with the line that it drops.
    await terminal.screen.waitFor(/\^C[^]*\[\?2004h/, { from: length });
    await terminal.type("exit 6\r");
    assert.equal(await terminal.exit, 6);
  });
});
