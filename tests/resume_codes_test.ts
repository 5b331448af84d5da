/** `--resume` where a real sshd wants a code by PAM that is good once, of a person at a terminal. */

import assert from "node:assert/strict";
import { canHaveAccounts, startAccountSshd } from "./support/account_sshd.ts";
import { clientEnvironment, makeTarget, type Target } from "./support/both.ts";
import { type FaultyPath, startPathTo, untilLogged } from "./support/faulty.ts";
import { loginEnvironment, serverArguments, shimCommand } from "./support/login.ts";
import { waitForFile } from "./support/processes.ts";
import { Terminal } from "./support/pty.ts";
import type { RunningProcess } from "./support/run.ts";
import { type Banner, lendHostKey } from "./support/shim.ts";
import { bannerLine } from "./support/shim_process.ts";
import type { Transcript } from "./support/transcript.ts";

/** RFC 4226, appendix D: what its secret gives, one after the other. */
const secret = "3132333435363738393031323334353637383930";
const codes = ["755224", "287082", "359152", "969429", "338314"] as const;

const question = /One-time password \(OATH\)[^\r\n]*: /g;

interface Ground extends FaultyPath {
  /** All that the person sees, the log among it. */
  readonly screen: Transcript;
  /** Ends with the shim. */
  readonly exit: Promise<number>;
  type(text: string): Promise<void>;
  /** The person wants it tried now. */
  retry(): Promise<void>;
  /** Waits for the question with this number, counted from 1, and answers it. */
  answer(code: string, options: { question: number }): Promise<void>;
  /** The way through the shim, which listens by then. */
  listening(): Promise<Target>;
}

/** A person who starts the shim, as somebody who is asked for codes. */
async function startGround(
  { methods = "keyboard-interactive", graceSeconds = 120 } = {},
): Promise<Ground> {
  await using resources = new AsyncDisposableStack();
  const sshd = resources.use(
    await startAccountSshd({
      password: "not asked for",
      config: [
        ...["UsePAM yes", "KbdInteractiveAuthentication yes"],
        ...[`AuthenticationMethods ${methods}`, `LoginGraceTime ${graceSeconds}`],
      ],
      // The next code counts, and one that was mistyped or not asked for is no reason to start anew.
      auth: "pam_oath.so usersfile=/etc/users.oath window=3 digits=6",
      files: { "users.oath": `HOTP root - ${secret}\n` },
    }),
  );
  const path = resources.use(await startPathTo(sshd));
  const { folder, keyFile } = sshd;
  await lendHostKey(folder);
  const key = methods.includes("publickey") ? ["-i", keyFile] : [];
  const args = [...serverArguments(path.upstream), ...key, "--log-format", "json", "--resume"];
  const pidFile = `${folder}/pid`;
  const command = ["sh", "-c", 'echo $$ > "$0"; exec "$@"', pidFile, ...shimCommand(args)];
  const terminal = resources.use(
    new Terminal(command, { environment: loginEnvironment(folder) }),
  );
  const { screen, exit } = terminal;
  const owned = resources.move();
  return {
    ...{ ...path, screen, exit },
    type: (text) => terminal.type(text),
    retry: async () => Deno.kill(Number(await waitForFile(pidFile)), "SIGUSR2"),
    answer: async (code, { question: number }) => {
      await screen.waitFor(new RegExp(`(?:${question.source}[^]*){${number}}`));
      await terminal.type(`${code}\r`);
    },
    listening: async () => {
      const banner: Banner = JSON.parse((await screen.waitFor(bannerLine))[0]);
      const knownHostsFile = `${folder}/known_hosts_of_shim`;
      await Deno.writeTextFile(knownHostsFile, `${banner.knownHostsLine}\n`);
      const { localAddress: host, localPort: port } = banner;
      return makeTarget({
        ...{ mode: "shim", host, port, knownHostsFile, username: "anybody", keyFile: "/dev/null" },
        ...{ folder, environment: clientEnvironment(folder) },
      });
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function countQuestions({ text }: Transcript): number {
  return text.match(question)?.length ?? 0;
}

const asleep = /It is tried again when something is wanted/;
const back = /the connection is back/;
const ignore = !await canHaveAccounts();

/** A session that runs while the network is lost, up to where the shim waits for a wish. */
async function startAway(ground: Ground, command: string): Promise<RunningProcess> {
  await using resources = new AsyncDisposableStack();
  const client = resources.use((await ground.listening()).startSsh(command));
  await client.stdout.waitFor(/ready/);
  ground.proxy.cutAll("rst");
  await untilLogged(ground.screen, asleep);
  resources.move();
  return client;
}

for (const methods of ["keyboard-interactive", "publickey,keyboard-interactive"]) {
  Deno.test(`with ${methods} a code is asked for twice at the start, and once for a return`, {
    ignore,
  }, async () => {
    await using ground = await startGround({ methods });
    const { screen, sshd } = ground;
    await ground.answer(codes[0], { question: 1 });
    await screen.waitFor(/You are logged in\. --resume needs a second login[^]*OATH/);
    await ground.answer(codes[1], { question: 2 });
    await using client = await startAway(ground, "echo ready; read line; echo got $line; exit 7");
    assert.equal(countQuestions(screen), 2);

    await client.write("words\n");
    await screen.waitFor(/The network was lost at \S+, and what runs is kept[^]*OATH/);
    await ground.answer("000000", { question: 3 });
    await ground.answer(codes[2], { question: 4 });
    await untilLogged(screen, back);
    assert.equal((await client.drained()).code, 7);
    assert.match(client.stdout.text, /got words/);
    assert.equal(countQuestions(screen), 4);
    const accepted = sshd.log.text.match(/^Accepted keyboard-interactive\/pam/gm);
    const failed = sshd.log.text.match(/^Failed keyboard-interactive\/pam/gm);
    // Only the wrong code was wrong: none was sent twice.
    assert.deepEqual([accepted?.length, failed?.length], [3, 1]);
    assert.doesNotMatch(screen.text, new RegExp(codes.join("|")));
  });
}

Deno.test("a question that nobody answers comes again when something is wanted", {
  ignore,
}, async () => {
  await using ground = await startGround({ graceSeconds: 3 });
  const { screen } = ground;
  await ground.answer(codes[0], { question: 1 });
  await ground.answer(codes[1], { question: 2 });
  await using client = await startAway(ground, "echo ready; read line; read line; exit 6");
  await client.write("unanswered\n");
  await untilLogged(screen, /Nobody has answered \S+ in time\. It is tried again when something/);
  assert.equal(countQuestions(screen), 3);
  await client.write("answered\n");
  await ground.answer(codes[2], { question: 4 });
  assert.equal((await client.drained()).code, 6);
  assert.equal(countQuestions(screen), 4);
});

Deno.test(
  "wrong codes for a return are the end of it until a person wants it, and Ctrl-C ends all",
  {
    ignore,
  },
  async () => {
    await using ground = await startGround();
    const { screen } = ground;
    await ground.answer(codes[0], { question: 1 });
    await ground.answer(codes[1], { question: 2 });
    await using client = await startAway(ground, "echo ready; read line");
    await client.write("words\n");
    for (const number of [3, 4, 5]) await ground.answer("000000", { question: number });
    await untilLogged(screen, /refused authentication\. .*Not tried again; send SIGUSR2/);
    await client.write("more\n");
    await ground.retry();
    await screen.waitFor(new RegExp(`(?:${question.source}[^]*){6}`));
    await ground.type("\x03");
    assert.equal(await ground.exit, 0);
    assert.equal((await client.drained()).code, 255);
    assert.match(screen.text, /could not be told of the end/);
  },
);

Deno.test("a second login that is answered wrongly is made once more without --resume", {
  ignore,
}, async () => {
  await using ground = await startGround();
  const { screen } = ground;
  await ground.answer(codes[0], { question: 1 });
  for (const number of [2, 3, 4]) await ground.answer("000000", { question: number });
  await untilLogged(screen, /has refused the second login.*the next one is tried with it again/);
  await screen.waitFor(/--resume has failed; this login is for a connection without it\.[^]*OATH/);
  await ground.answer(codes[1], { question: 5 });
  const target = await ground.listening();
  assert.equal((await target.ssh("exit 3")).code, 3);
});
