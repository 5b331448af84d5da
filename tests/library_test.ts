/** sshshim within a program: `startShim`, and what it leaves alone. */

import assert from "node:assert/strict";
import { fileURLToPath, pathToFileURL } from "node:url";
import {
  AuthenticationError,
  EndpointError,
  HostKeyError,
  NobodyToAskError,
  type Prompter,
  type RunningShim,
  type ShimOptions,
  startShim,
  UpstreamLostError,
  type UpstreamState,
  UsageError,
} from "../main.ts";
import { canHaveHome, makeHome } from "./support/account_home.ts";
import { clientEnvironment } from "./support/both.ts";
import { within } from "./support/deadline.ts";
import { type PasswordServer, startPasswordServer } from "./support/password_server.ts";
import "./support/loaded_libc.ts";
import { freePort, isListening } from "./support/ports.ts";
import { startProxy } from "./support/proxy.ts";
import { type CommandResult, run, runChecked, RunningProcess, text } from "./support/run.ts";
import { section } from "./support/several.ts";
import { fromSource, lendHostKey, mainModule } from "./support/shim.ts";
import { type Sshd, startSshd } from "./support/sshd.ts";
import { Transcript } from "./support/transcript.ts";

/** A folder, and an environment of this process in which nothing leads to the user's own. */
interface Place extends AsyncDisposable {
  readonly folder: string;
}

async function makePlace(): Promise<Place> {
  const folder = await Deno.makeTempDir({ prefix: "library-" });
  await lendHostKey(folder);
  const names = ["XDG_STATE_HOME", "SSH_AUTH_SOCK"];
  const before = names.map((name) => [name, Deno.env.get(name)] as const);
  for (const name of names) Deno.env.delete(name);
  Deno.env.set("XDG_STATE_HOME", `${folder}/state`);
  return {
    folder,
    async [Symbol.asyncDispose]() {
      for (const [name, value] of before) {
        if (value === undefined) Deno.env.delete(name);
        else Deno.env.set(name, value);
      }
      await Deno.remove(folder, { recursive: true });
    },
  };
}

/** The options for a server of the test's, or for a proxy in front of it. */
async function optionsFor(
  { folder }: Place,
  { host, port: ownPort, username, keyFile, hostKeys }: Sshd,
  port = ownPort,
): Promise<ShimOptions> {
  const knownHosts = `${folder}/known_hosts_${port}`;
  await Deno.writeTextFile(
    knownHosts,
    hostKeys.map((key) => `[${host}]:${port} ${key}\n`).join(""),
  );
  return {
    destination: `${username}@${host}:${port}`,
    config: "none",
    identity: [keyFile],
    knownHosts: [knownHosts],
  };
}

function passwordOptions({ folder }: Place, server: PasswordServer, isKnown = true): ShimOptions {
  return {
    destination: `somebody@${server.host}`,
    port: server.port,
    config: "none",
    knownHosts: [isKnown ? server.knownHostsFile : `${folder}/unknown_hosts`],
  };
}

/** Runs ssh with the lines of a shim and nothing else. */
async function ssh(
  { folder }: Place,
  { sshConfig, host, address }: RunningShim,
  command: string,
): Promise<CommandResult> {
  const file = `${folder}/config_${address.port}`;
  await Deno.writeTextFile(file, sshConfig);
  return await run(["ssh", "-F", file, "-o", "BatchMode=yes", host, command], {
    environment: clientEnvironment(folder),
  });
}

/** The states, one a line, as they are told. */
function recordStates(): { onState: (state: UpstreamState) => void; states: Transcript } {
  const states = new Transcript();
  const onState = (state: UpstreamState) =>
    states.append("reason" in state ? `${state.kind}: ${state.reason}\n` : `${state.kind}\n`);
  return { onState, states };
}

/** Answers in order, and keeps the questions. */
function script(...answers: (string | undefined)[]): {
  prompter: Prompter;
  questions: { question: string; echo: boolean }[];
} {
  const questions: { question: string; echo: boolean }[] = [];
  return {
    questions,
    prompter: {
      ask(question, { echo }) {
        questions.push({ question, echo });
        return Promise.resolve(answers.shift());
      },
    },
  };
}

Deno.test("ssh reaches the host by the lines that a shim gives, until it is stopped", async () => {
  await using place = await makePlace();
  await using sshd = await startSshd();
  const shim = await startShim(await optionsFor(place, sshd));
  const { code, stdout, stderr } = await ssh(place, shim, "echo here; exit 7");
  assert.deepEqual([text(stdout), code], ["here\n", 7], text(stderr));
  assert.deepEqual(shim.state, { kind: "ready" });
  assert.deepEqual([shim.address.hostname, shim.host], ["127.0.0.1", "127.0.0.1.shim"]);
  assert.equal(shim.environment.SSHSHIM_PORT, String(shim.address.port));
  for (const key of shim.hostKeys) assert.match(key, /^[\w-]+ AAAA\S+$/);
  const viaFile = ["ssh", "-F", shim.sshConfigFile, shim.host, "echo again"];
  assert.equal(
    await runChecked(viaFile, { environment: clientEnvironment(place.folder) }),
    "again\n",
  );

  await Promise.all([shim.stop(), shim.stop()]);
  assert.equal(await shim.whenEnded, undefined);
  assert.deepEqual(shim.state, { kind: "closed" });
  assert.equal(await isListening(shim.address.port), false);
  await assert.rejects(Deno.stat(shim.sshConfigFile), Deno.errors.NotFound);
});

Deno.test("the states tell of a connection that is lost and comes back", async () => {
  await using place = await makePlace();
  await using sshd = await startSshd();
  await using proxy = await startProxy({ target: { hostname: sshd.host, port: sshd.port } });
  const { onState, states } = recordStates();
  const options = await optionsFor(place, sshd, proxy.port);
  {
    await using shim = await startShim({ ...options, onState });
    proxy.cutAll("rst");
    await states.waitFor(/^waiting: UpstreamLostError: .*\nconnecting\nready\n/m);
    assert.equal(text((await ssh(place, shim, "echo back")).stdout), "back\n");
  }
  await states.waitFor(/closed/);
  const kinds = states.lines.map((line) => line.replace(/:.*/, ""));
  assert.deepEqual(kinds, ["connecting", "ready", "waiting", "connecting", "ready", "closed"]);
});

Deno.test("a loss is the end where the connection is not to come back", async () => {
  await using place = await makePlace();
  await using sshd = await startSshd();
  await using proxy = await startProxy({ target: { hostname: sshd.host, port: sshd.port } });
  const options = await optionsFor(place, sshd, proxy.port);
  await using shim = await startShim({ ...options, reconnect: false });
  proxy.cutAll("rst");
  const reason = await within(shim.whenEnded, "It goes on");
  assert(reason instanceof UpstreamLostError);
  assert.equal(await isListening(shim.address.port), false);
  await assert.rejects(Deno.stat(shim.sshConfigFile), Deno.errors.NotFound);
});

Deno.test("a lazy shim logs in when the first client comes", async () => {
  await using place = await makePlace();
  await using sshd = await startSshd();
  const { onState, states } = recordStates();
  await using shim = await startShim({ ...await optionsFor(place, sshd), lazy: true, onState });
  assert.equal(shim.state.kind, "asleep");
  assert.equal(text((await ssh(place, shim, "echo first")).stdout), "first\n");
  assert.match(states.text, /^asleep: .*\nconnecting\nready\n$/);
});

Deno.test("the prompter is asked for an unknown host key and for a password", async () => {
  await using place = await makePlace();
  await using server = await startPasswordServer("right", { methods: ["password"] });
  const { prompter, questions } = script("yes", "wrong", "right");
  await using shim = await startShim({ ...passwordOptions(place, server, false), prompter });
  assert.equal(shim.state.kind, "ready");
  assert.deepEqual(server.passwords, ["wrong", "right"]);
  assert.deepEqual(questions.map(({ echo }) => echo), [true, false, false]);
  assert.match(questions[0]!.question, /SHA256:[^]*trust this key/);
  assert.match(questions[1]!.question, /^somebody@127\.0\.0\.1's password: $/);
  assert.match(await Deno.readTextFile(`${place.folder}/unknown_hosts`), /ssh-ed25519 AAAA/);
});

Deno.test("a password that was given is sent, and nobody is asked", async () => {
  await using place = await makePlace();
  await using server = await startPasswordServer("right", { methods: ["password"] });
  await using shim = await startShim({ ...passwordOptions(place, server), password: "right" });
  assert.equal(shim.state.kind, "ready");
  assert.deepEqual(server.passwords, ["right"]);
});

Deno.test("retry lets a person answer after all", async () => {
  await using place = await makePlace();
  await using server = await startPasswordServer("right", { methods: ["password"] });
  const { prompter } = script(undefined, "right");
  const { onState, states } = recordStates();
  const options = { ...passwordOptions(place, server), lazy: true, prompter, onState };
  await using shim = await startShim(options);
  shim.retry();
  await states.waitFor(/^stopped: AuthenticationError: /m);
  shim.retry();
  await states.waitFor(/^ready$/m);
});

Deno.test("what goes wrong at the start is told by its class, and leaves nothing", async (t) => {
  await using place = await makePlace();
  await using sshd = await startSshd();
  await using server = await startPasswordServer("right", { methods: ["password"] });
  const fine = await optionsFor(place, sshd);
  const unknown = passwordOptions(place, server, false);
  const known = passwordOptions(place, server);
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const touched = `${place.folder}/touched`;
  const failures: [string, ShimOptions, new () => Error, RegExp][] = [
    ["an unknown host key, and no prompter", unknown, HostKeyError, /./],
    ["an unknown host key, refused", { ...unknown, ...script("no") }, HostKeyError, /./],
    ["nobody to ask", known, NobodyToAskError, /no prompter to ask "somebody@127.0.0.1's pass/],
    ["no answer", { ...known, ...script(undefined) }, AuthenticationError, /./],
    ["a wrong password", { ...known, password: "wrong" }, AuthenticationError, /./],
    ["nobody there", { ...fine, port: 1, destination: "127.0.0.1" }, UpstreamLostError, /./],
    ["a taken port", { ...fine, localPort: taken.addr.port }, EndpointError, / listens there/],
    [
      "an option out of range",
      { ...fine, localPort: 70000 },
      UsageError,
      /^--local-port takes .*$/,
    ],
    [
      "an unknown setting",
      { ...fine, settings: { Colour: "blue" } },
      UsageError,
      /Bad configuration option/,
    ],
    [
      "an option for a destination",
      { ...fine, destination: `-oProxyCommand=touch ${touched}` },
      UsageError,
      /^A host cannot start with -\.$/,
    ],
  ];
  for (const [what, options, type, message] of failures) {
    await t.step(what, async () => {
      const localPort = options.localPort ?? freePort();
      const error = await startShim({ localPort, ...options }).then(() => undefined, (it) => it);
      assert(error instanceof type, `${error}`);
      assert.match(error.message, message);
      if (options.localPort === undefined) assert.equal(await isListening(localPort), false);
    });
  }
  await assert.rejects(Deno.stat(touched), Deno.errors.NotFound);
  assert.equal(server.passwords.join(), "wrong");
});

Deno.test("a start that is given up ends, and takes its question back", async () => {
  await using place = await makePlace();
  await using server = await startPasswordServer("right", { methods: ["password"] });
  const givenUp = new AbortController();
  const reason = new Error("given up");
  let asked: AbortSignal | undefined;
  const start = startShim({
    ...passwordOptions(place, server),
    signal: givenUp.signal,
    prompter: {
      ask(_question, { signal }) {
        asked = signal;
        givenUp.abort(reason);
        return new Promise(() => {});
      },
    },
  });
  await assert.rejects(within(start, "It goes on"), reason);
  assert.equal(asked?.aborted, true);
});

Deno.test("two shims in one process do not concern each other", async () => {
  await using place = await makePlace();
  await using first = await startSshd({ environment: { SERVER: "first" } });
  await using second = await startSshd({ environment: { SERVER: "second" } });
  await using one = await startShim(await optionsFor(place, first));
  await using other = await startShim(await optionsFor(place, second));
  const asked = () =>
    Promise.all(
      [one, other].map(async (shim) => text((await ssh(place, shim, "echo $SERVER")).stdout)),
    );
  assert.deepEqual(await asked(), ["first\n", "second\n"]);
  await one.stop();
  assert.deepEqual(await asked(), ["", "second\n"]);
});

const page = new URL("../.github/LIBRARY.md", import.meta.url);

/** The examples of a text, in order, as modules that find the library here. */
function examplesOf(markdown: string): string[] {
  return Array.from(
    markdown.matchAll(/^(?: \* )?```ts\n([^]*?)^(?: \* )?```$/gm),
    ([, code]) =>
      code!.replaceAll(/^ \* ?/gm, "").replaceAll("@x/sshshim", pathToFileURL(mainModule).href),
  );
}

Deno.test({
  name: "the examples run, print nothing of their own, and end by themselves",
  // They read the account's own configuration, which needs a mount namespace of the test's.
  ignore: !await canHaveHome(),
  async fn(t) {
    await using sshd = await startSshd();
    await using home = await makeHome();
    await Deno.mkdir(`${home.path}/.ssh`, { mode: 0o700 });
    const config = section("prod", sshd);
    await Deno.writeTextFile(`${home.path}/.ssh/config`, config, { mode: 0o600 });
    const repository = `${sshd.folder}/project.git`;
    await runChecked(["git", "init", "-q", "--bare", repository]);
    const project = fileURLToPath(new URL("../deno.json", import.meta.url));
    const file = `${home.path}/example.ts`;
    const words = [...fromSource, "--config", project, file];
    const write = (code: string) =>
      Deno.writeTextFile(file, code.replaceAll("/srv/project.git", repository));
    const runModule = async (code: string) => {
      await write(code);
      const { code: status, stdout, stderr } = await home.run(words);
      assert.equal(status, 0, text(stderr));
      return [text(stdout), text(stderr)];
    };
    const [short, long, logging] = examplesOf(await Deno.readTextFile(page));
    const [inModule] = examplesOf(await Deno.readTextFile(mainModule));
    for (const [name, code] of Object.entries({ short: short!, "of main.ts": inModule! })) {
      await t.step(name, async () => {
        const [stdout, stderr] = await runModule(code);
        assert.match(stdout!, /^.* load average: .*\n$/);
        assert.equal(stderr, "");
      });
    }
    await t.step("with log lines", async () => {
      const [stdout] = await runModule(`${logging}\n${short}`);
      assert.match(stdout!, /sshshim·upstream.* connected to /);
    });
    await t.step("signals and rejections are the program's own", async () => {
      await write(`${short}\nawait new Promise(() => setInterval(() => {}, 1e6));`);
      await using waiting = new RunningProcess(home.command(words), {
        environment: home.environment,
      });
      await waiting.stdout.waitFor(/load average/);
      waiting.kill("SIGTERM");
      assert.equal((await waiting.drained()).signal, "SIGTERM");
      await write(`${short}\nvoid Promise.reject(new Error("mine"));`);
      const { code, stderr } = await home.run(words);
      assert.deepEqual([code, /Uncaught.* mine/.test(text(stderr))], [1, true]);
    });
    await t.step("with a prompter and states", async () => {
      assert.deepEqual(await runModule(long!), ["", ""]);
      await Deno.writeTextFile(sshd.knownHostsFile, "");
      const [stdout] = await runModule(long!.replace("prompt(question)", '"no"'));
      assert.match(stdout!, /^not trusted: .*\n$/);
    });
  },
});
