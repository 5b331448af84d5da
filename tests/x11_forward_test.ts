/** X11 forwarding: each client's programs on the remote host reach that client's display. */

import assert from "node:assert/strict";
import { laneTarget, shimTarget } from "./support/behind.ts";
import { startGround, type Target } from "./support/both.ts";
import { waitForFile } from "./support/processes.ts";
import { runChecked, RunningProcess, text } from "./support/run.ts";
import type { SshdOptions } from "./support/sshd.ts";
import { type Display, startDisplay, xClient } from "./support/x11.ts";
import { trustX11 } from "../lib/ssh_arguments.ts";
import { parseDisplay } from "../lib/x11_display.ts";

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
      // With two displays at a time the relay itself looks at the cookies, and tells neither.
      inTurn: words === `cookie=${wrongCookie}`,
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

Deno.test("clients with displays of their own do not see each other's programs", async (t) => {
  await using authority = await remoteAuthority();
  await using ground = await startGround({ sshd: authority });
  const target = shimTarget(ground);
  await using one = await startDisplay(target.folder, "one");
  await using two = await startDisplay(target.folder, "two");
  await using three = await startDisplay(target.folder, "three");
  await using first = await startSession(target, one);
  await using second = await startSession(target, two);
  await using third = await startSession(laneTarget(ground), three);
  const all = [[first, "one"], [second, "two"], [third, "three"]] as const;

  await t.step("each one's programs reach its own display, one after the other", async () => {
    for (const words of ["", "byte-order=B", "piece=1"]) {
      for (const [session, name] of [...all, ...all]) {
        assert.equal(await visit(session, { words }), `${name}\n`);
      }
    }
  });

  await t.step("each one's programs reach its own display, all together", async () => {
    const answers = await Promise.all(all.map(([it]) => visit(it, { count: 5 })));
    assert.deepEqual(answers, all.map(([, name]) => `${name}\n`.repeat(5)));
  });

  await t.step("a program without the cookie of any of them reaches no display", async () => {
    const displays = [one, two, three];
    const count = () => displays.reduce((sum, { visits }) => sum + visits.length, 0);
    const before = count();
    for (const words of [`cookie=${wrongCookie}`, "cookie=00", "cookie="]) {
      assert.equal(await visit(first, { words }), "no answer\n");
    }
    assert.equal(count(), before);
  });

  await t.step("a client without a display is asked for none", async () => {
    const bystander = await target.ssh("sleep 1; echo done");
    assert.deepEqual([text(bystander.stdout), text(bystander.stderr)], ["done\n", ""]);
  });

  await t.step("when one has left, the other's programs still reach its display", async () => {
    await first.closeStdin();
    assert.equal((await first.drained()).code, 0);
    assert.equal(await visit(second, {}), "two\n");
    assert.equal(await visit(third, {}), "three\n");
  });

  for (const session of [second, third]) {
    await session.closeStdin();
    assert.equal((await session.drained()).code, 0);
  }
  assert.deepEqual(all.map(([{ stderr }]) => stderr.text), ["", "", ""]);
  assert.ok([one, two, three].every(({ visits }) => visits.every((isRight) => isRight)));
  const { log } = ground.shim;
  assert.equal(log.text.match(/connected to the control socket/g)?.length, 1);
});

Deno.test("a program that a session leaves behind keeps the display, and the client does not wait", async () => {
  await using authority = await remoteAuthority();
  await using ground = await startGround({ sshd: authority });
  const target = laneTarget(ground);
  const released = Promise.withResolvers<void>();
  const seen = `${target.folder}/seen`;
  await using display = await startDisplay(target.folder, "display", async () => {
    await Deno.writeTextFile(seen, "");
    await released.promise;
  });
  const answer = `${target.folder}/answer`;
  const program = `${xClient()} < /dev/null > ${answer} 2>&1 &`;
  const command = `${program} while [ ! -e ${seen} ]; do sleep 0.05; done`;
  const { code, stderr } = await target.ssh(command, clientOptions(target, display));
  assert.deepEqual([code, text(stderr)], [0, ""]);
  released.resolve();
  assert.equal(await waitForFile(answer), "display");
  await ground.shim.log.waitFor(/client 1 left/);
});

Deno.test("untrusted programs are forwarded by the port, where the display has no cookie for them", async () => {
  await using authority = await remoteAuthority();
  await using ground = await startGround({ sshd: authority });
  const target = laneTarget(ground);
  await using display = await startDisplay(target.folder, "display");
  const { options, environment } = clientOptions(target, display);
  const untrusted = ["-X", "-o", "ForwardX11Trusted=no", ...options.slice(1)];
  const { code, stderr } = await target.ssh("true", { options: untrusted, environment });
  assert.equal(code, 0);
  assert.match(text(stderr), /the display gives no cookie for untrusted programs/);
  assert.match(text(stderr), /untrusted X11 forwarding setup failed/);
  assert.match(ground.shim.log.text, /connected from port/);
});

Deno.test("a client whose display is none goes on at the port, where ssh says so", async () => {
  await using ground = await startGround();
  const target = laneTarget(ground);
  const { code, stdout, stderr } = await target.ssh('echo "[$DISPLAY]"', {
    options: ["-Y"],
    environment: { ...target.environment, DISPLAY: "host;id:0" },
  });
  assert.deepEqual([code, text(stdout)], [0, "[]\n"]);
  assert.match(text(stderr), /there is no display here/);
  assert.match(text(stderr), /DISPLAY "host;id:0" invalid/);
});

Deno.test("DISPLAY is read as ssh reads it", () => {
  const unix = (number: number) =>
    ["", "\0"].map((start) => ({
      transport: "unix" as const,
      path: `${start}/tmp/.X11-unix/X${number}`,
    }));
  for (
    const [value, expected] of [
      [":0", { authorityName: ":0", screen: 0, addresses: unix(0) }],
      ["unix:12.3", { authorityName: "unix:12.3", screen: 3, addresses: unix(12) }],
      ["localhost:10.0", {
        authorityName: "unix:10.0",
        screen: 0,
        addresses: [{ hostname: "localhost", port: 6010 }],
      }],
      ["h-1.example:1", {
        authorityName: "h-1.example:1",
        screen: 0,
        addresses: [{ hostname: "h-1.example", port: 6001 }],
      }],
      ["", undefined],
      ["h", undefined],
      ["-f:0", undefined],
      ["h;id:0", undefined],
      ["h:60000", undefined],
      ["/private/tmp/com.apple.launchd.k9/org.xquartz:0", undefined],
      [":x", undefined],
    ] as const
  ) {
    assert.deepEqual(parseDisplay(value), expected, value);
  }
});

Deno.test("ssh's arguments tell whether X11 programs are trusted", () => {
  for (
    const [words, expected] of [
      ["ssh host", undefined],
      ["ssh -X host", undefined],
      ["ssh -Y host", true],
      ["ssh -tY host", true],
      ["ssh -o ForwardX11Trusted=no -Y host", true],
      ["ssh -oForwardX11Trusted=yes host", true],
      ["ssh -oforwardx11trusted=no -oForwardX11Trusted=yes host", false],
      ["ssh host echo -Y", undefined],
    ] as const
  ) {
    assert.equal(trustX11(words.split(" ")), expected, words);
  }
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
