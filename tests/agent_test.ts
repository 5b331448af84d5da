/** Agent forwarding: whose agent a session on the remote host reaches. */

import assert from "node:assert/strict";
import { type Agent, startAgent } from "./support/agent.ts";
import { shimTarget } from "./support/behind.ts";
import { startGround, type Target } from "./support/both.ts";
import { RunningProcess, text } from "./support/run.ts";
import { startService } from "./support/services.ts";

Deno.test("agent forwarding through the shim is that of a direct connection", async (t) => {
  await using ground = await startGround();

  await ground.step(
    t,
    "-A shows the agent in the remote session, and lets it sign",
    async (target) => {
      await using agent = await startAgent(target.folder, "own");
      const result = await target.ssh(`ssh-add -l && ssh-add -T ${agent.publicKeyFile}`, {
        options: agentOptions({ forwarded: true }),
        environment: environmentOf(target, agent.socket),
      });
      const { code, stdout, stderr } = result;
      return { code, isListed: text(stdout).trim() === agent.listing, stderr };
    },
    {
      noLane: "there the agent is sshshim's own",
      expect: ({ code, isListed, stderr }) =>
        assert.deepEqual({ code, isListed, stderr: text(stderr) }, {
          code: 0,
          isListed: true,
          stderr: "",
        }),
    },
  );

  // A server keeps the socket for as long as the connection lasts: here, another one than before.
  await using fresh = await startGround();
  await fresh.step(t, "without -A the remote session has no agent", async (target) => {
    await using agent = await startAgent(target.folder, "own");
    return await target.ssh('echo "[$SSH_AUTH_SOCK]"; ssh-add -l', {
      options: agentOptions({ forwarded: false }),
      environment: environmentOf(target, agent.socket),
    });
  }, {
    expect: (result) => {
      assert.deepEqual([result.code, text(result.stdout)], [2, "[]\n"]);
      assert.match(
        text(result.stderr),
        /^Could not open a connection to your authentication agent/,
      );
    },
  });
});

Deno.test("of several clients behind one connection, only one that asked lends its agent", async (t) => {
  await using ground = await startGround();
  const { folder } = ground.sshd;
  await using agents = new AsyncDisposableStack();
  const [one, two] = [
    agents.use(await startAgent(folder, "one")),
    agents.use(await startAgent(folder, "two")),
  ];
  const target = shimTarget(ground);
  await using clients = new AsyncDisposableStack();
  const enter = async (agent?: Agent) =>
    clients.use(
      await AgentSession.start(target, { forwarded: agent !== undefined, socket: agent?.socket }),
    );

  const first = await enter(one);
  await t.step("the first client with -A reaches its agent", async () => {
    assert.deepEqual(await first.listAgent(), { listing: one.listing, code: 0 });
  });

  await t.step("a client without -A is never asked for its agent", async () => {
    await using agent = startService(async () => {}, { path: `${folder}/watched.agent` });
    await using client = await AgentSession.start(target, {
      forwarded: false,
      socket: `${folder}/watched.agent`,
    });
    // ssh itself looks at the agent when it starts.
    const before = agent.connectionCount;
    await client.listAgent();
    await first.listAgent();
    assert.equal(agent.connectionCount, before);
    // ssh warns when a server opens an agent channel that it did not ask for.
    assert.deepEqual(await client.finish(), { code: 0, stderr: "" });
  });

  const second = await enter(two);
  await t.step("a second client with -A reaches its own agent", async () => {
    assert.deepEqual(await second.listAgent(), { listing: two.listing, code: 0 });
  });

  await t.step(
    "when the second client has left, the first one's agent is there again",
    async () => {
      assert.deepEqual(await second.finish(), { code: 0, stderr: "" });
      assert.deepEqual(await first.listAgent(), { listing: one.listing, code: 0 });
    },
  );

  const third = await enter(two);
  await t.step("when the first client has left, another one's agent still works", async () => {
    assert.deepEqual(await first.finish(), { code: 0, stderr: "" });
    assert.deepEqual(await third.listAgent(), { listing: two.listing, code: 0 });
    assert.deepEqual(await third.finish(), { code: 0, stderr: "" });
  });

  await t.step("when all clients with -A have left, nobody has an agent", async () => {
    const last = await enter();
    const { listing, code } = await last.listAgent();
    // ssh-add says so, unless the connection is closed while it still writes.
    assert.ok(code !== 0, `It listed ${listing}`);
    assert.doesNotMatch(listing, /SHA256/);
    assert.deepEqual(await last.finish(), { code: 0, stderr: "" });
  });

  await t.step("a client that comes with -A after that reaches its agent", async () => {
    const next = await enter(one);
    assert.deepEqual(await next.listAgent(), { listing: one.listing, code: 0 });
    assert.deepEqual(await next.finish(), { code: 0, stderr: "" });
  });
});

/** A session in which the remote host's view of the agent can be asked for again and again. */
class AgentSession implements AsyncDisposable {
  readonly #client: RunningProcess;

  private constructor(client: RunningProcess) {
    this.#client = client;
  }

  static async start(
    target: Target,
    options: { forwarded: boolean; socket?: string },
  ): Promise<AgentSession> {
    const script = "echo ready; while read -r _; do ssh-add -l 2>&1; echo exit $?; done; true";
    const client = new RunningProcess(target.sshCommand(script, agentOptions(options)), {
      environment: environmentOf(target, options.socket),
    });
    await client.stdout.waitFor(/ready\n/);
    return new AgentSession(client);
  }

  /** Runs `ssh-add -l` on the remote host. */
  async listAgent(): Promise<{ listing: string; code: number }> {
    const { stdout } = this.#client;
    const from = stdout.text.length;
    await this.#client.write("\n");
    const [, listing = "", code] = await stdout.waitFor(/^([^]*?)exit (\d+)\n/, { from });
    return { listing: listing.trim(), code: Number(code) };
  }

  async finish(): Promise<{ code: number; stderr: string }> {
    await this.#client.closeStdin();
    const { code } = await this.#client.drained();
    return { code, stderr: this.#client.stderr.text };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
  }
}

function agentOptions({ forwarded }: { forwarded: boolean }): string[] {
  return [forwarded ? "-A" : "-a", "-o", "IdentityAgent=SSH_AUTH_SOCK"];
}

function environmentOf(target: Target, socket: string | undefined): Record<string, string> {
  return { ...target.environment, ...(socket === undefined ? {} : { SSH_AUTH_SOCK: socket }) };
}
