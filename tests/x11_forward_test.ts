/** X11 forwarding: each client's programs on the remote host reach that client's display. */

import assert from "node:assert/strict";
import { shimTarget } from "./support/behind.ts";
import { startGround, type Target } from "./support/both.ts";
import { runChecked, RunningProcess, text } from "./support/run.ts";
import type { SshdOptions } from "./support/sshd.ts";
import { type Display, startDisplay, xClient } from "./support/x11.ts";

/** ssh wants the whole path. */
const xauth = (await runChecked(["/bin/sh", "-c", "command -v xauth"])).trim();

const wrongCookie = "00".repeat(16);

/** sshd keeps its cookies in a file of the test's, not in the home of whoever runs the tests. */
async function remoteAuthority(): Promise<SshdOptions & AsyncDisposable> {
  const folder = await Deno.makeTempDir({ prefix: "x11-" });
  await Deno.writeTextFile(`${folder}/authority`, "", { mode: 0o600 });
  return {
    config: ["X11Forwarding yes", "X11UseLocalhost yes"],
    environment: { XAUTHORITY: `${folder}/authority` },
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

Deno.test("X11 forwarding through the shim is that of a direct connection", async (t) => {
  await using authority = await remoteAuthority();
  await using ground = await startGround({ sshd: authority });

  for (
    const [sentence, words] of [
      ["a program reaches the display", ""],
      ["a program of the other byte order reaches the display", "byte-order=B"],
      ["a program whose cookie comes byte by byte reaches the display", "piece=1"],
      ["a program with a wrong cookie is turned away", `cookie=${wrongCookie}`],
      ["a program that says nothing is turned away", "cookie="],
    ] as const
  ) {
    await ground.step(t, sentence, async (target) => {
      await using display = await startDisplay(target.folder, "display");
      const command = xClient(...words.split(" "));
      const { code, stdout, stderr } = await target.ssh(command, clientOptions(target, display));
      return { code, stdout, stderr, visits: display.visits };
    }, {
      noLane: "ssh goes on to the port, after a line on stderr",
      expect: ({ code, stdout, stderr, visits }) => {
        const isWelcome = !words.startsWith("cookie");
        assert.deepEqual([code, text(stdout)], [0, isWelcome ? "display\n" : "no answer\n"]);
        assert.deepEqual(visits, isWelcome ? [true] : []);
        if (isWelcome) assert.equal(text(stderr), "");
      },
    });
  }

  await ground.step(t, "without -X the remote session has no display", async (target) => {
    await using display = await startDisplay(target.folder, "display");
    return await target.ssh('echo "[$DISPLAY]"', {
      ...clientOptions(target, display),
      options: ["-x"],
    });
  }, { expect: (result) => assert.equal(text(result.stdout), "[]\n") });
});

Deno.test("two clients with displays of their own do not see each other's programs", async (t) => {
  await using authority = await remoteAuthority();
  await using ground = await startGround({ sshd: authority });
  const target = shimTarget(ground);
  await using one = await startDisplay(target.folder, "one");
  await using two = await startDisplay(target.folder, "two");
  await using first = await startSession(target, one);
  await using second = await startSession(target, two);

  await t.step("each one's programs reach its own display, one after the other", async () => {
    for (const words of ["", "byte-order=B", "piece=1"]) {
      for (const [session, name] of [[first, "one"], [second, "two"], [first, "one"]] as const) {
        assert.equal(await visit(session, { words }), `${name}\n`);
      }
    }
  });

  await t.step("each one's programs reach its own display, all together", async () => {
    const answers = await Promise.all([first, second].map((it) => visit(it, { count: 5 })));
    assert.deepEqual(answers, ["one\n".repeat(5), "two\n".repeat(5)]);
  });

  await t.step("a program without the cookie of either one reaches no display", async () => {
    const before = one.visits.length + two.visits.length;
    for (const words of [`cookie=${wrongCookie}`, "cookie=00", "cookie="]) {
      assert.equal(await visit(first, { words }), "no answer\n");
    }
    assert.equal(one.visits.length + two.visits.length, before);
  });

  await t.step("a client without a display is asked for none", async () => {
    const bystander = await target.ssh("sleep 1; echo done");
    assert.deepEqual([text(bystander.stdout), text(bystander.stderr)], ["done\n", ""]);
  });

  await t.step("when one has left, the other's programs still reach its display", async () => {
    await first.closeStdin();
    assert.equal((await first.drained()).code, 0);
    assert.equal(await visit(second, {}), "two\n");
  });

  await second.closeStdin();
  assert.equal((await second.drained()).code, 0);
  assert.deepEqual([first.stderr.text, second.stderr.text], ["", ""]);
  assert.ok([...one.visits, ...two.visits].every((isRight) => isRight));
});

/** A session that runs an X11 program for each line that it reads. */
async function startSession(target: Target, display: Display): Promise<RunningProcess> {
  const { options, environment } = clientOptions(target, display);
  const script = `echo ready; while read -r count words; do
    for _ in $(seq $count); do ${xClient("$words")} & done; wait; echo end
  done`;
  const client = new RunningProcess(target.sshCommand(script, options), { environment });
  await client.stdout.waitFor(/ready\n/);
  return client;
}

/** Runs X11 programs of a session at the same time, and resolves with all that they print. */
async function visit(
  session: RunningProcess,
  options: { count?: number; words?: string },
): Promise<string> {
  const { count = 1, words = "" } = options;
  const from = session.stdout.text.length;
  await session.write(`${count} ${words}\n`);
  const [, answer = ""] = await session.stdout.waitFor(/^([^]*)end\n/, { from });
  return answer;
}

function clientOptions(
  target: Target,
  { display, authority }: Display,
): { options: string[]; environment: Record<string, string> } {
  return {
    options: ["-Y", "-o", `XAuthLocation=${xauth}`],
    environment: { ...target.environment, DISPLAY: display, XAUTHORITY: authority },
  };
}
