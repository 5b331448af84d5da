/**
 * Nothing that a server says counts before its key is accepted and both directions are encrypted,
 * whoever it is and wherever it stands.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { Connector, type Host } from "../lib/connector.ts";
import { HostKeyError, UpstreamLostError } from "../lib/errors.ts";
import type { HostTrust } from "../lib/handshake.ts";
import { resolveHostConfig } from "../lib/host_config_resolver.ts";
import { fingerprint } from "../lib/public_key.ts";
import { Overflow } from "../lib/overflow.ts";
import { generateKey } from "../lib/local_host_key.ts";
import { Relay } from "../lib/relay.ts";
import { buildMessage } from "../lib/ssh_data.ts";
import { KnownHostsTrust, PinnedTrust } from "../lib/trust.ts";
import { Upstream } from "../lib/upstream.ts";
import { MessageType } from "../lib/wire.ts";
import { startFaultyGround, untilLogged } from "./support/faulty.ts";
import { type Impostor, startImpostor } from "./support/impostor.ts";
import { ManualClock, MemoryPeer, usualPacketBytes, usualWindowBytes } from "./support/memory.ts";
import { text } from "./support/run.ts";
import { Attempt, settled } from "./support/scripted_connector.ts";

const password = "open-sesame";
const longMs = 600_000;

const successful = "a success, and what a command would have printed";

/** What comes behind NEWKEYS, in the same segment. */
const early: Record<string, Uint8Array[]> = {
  [successful]: [
    buildMessage(52),
    buildMessage(91, 0, 0, 2 ** 20, 2 ** 15),
    buildMessage(94, 0, "from the impostor"),
    buildMessage(98, 0, "exit-status", false, 0),
    buildMessage(97, 0),
  ],
  "a failure that names password": [
    buildMessage(6, "ssh-userauth"),
    buildMessage(51, "password", false),
  ],
  "data": [buildMessage(94, 0, "from the impostor")],
  "a global request": [buildMessage(80, "keepalive@openssh.com", true)],
  "a disconnect": [buildMessage(1, 14, "no more methods", "")],
};

/** What is known of the host, and whether its key is accepted. */
interface Belief {
  isAccepted: boolean;
  trust(impostor: Impostor, folder: string): Promise<HostTrust>;
}

const beliefs: Record<string, Belief> = {
  "another key is known": believing({ known: "another" }),
  "nothing is known, and a person is being asked": believing({ checking: "ask" }),
  "accept-new": believing({ checking: "accept-new", isAccepted: true }),
  "nothing is checked, and another key is known": believing({
    known: "another",
    checking: "no",
    isAccepted: true,
  }),
  "another fingerprint is expected": {
    isAccepted: false,
    trust: () =>
      Promise.resolve(new PinnedTrust("127.0.0.1", fingerprint(generateKey().publicKey))),
  },
  "the key is revoked": believing({ known: "revoked" }),
  "it is the host's own key": believing({ known: "own", isAccepted: true }),
};

function believing(
  { known, checking = "ask", isAccepted = false }: {
    known?: "another" | "revoked" | "own";
    checking?: "ask" | "accept-new" | "no";
    isAccepted?: boolean;
  },
): Belief {
  return {
    isAccepted,
    async trust(impostor, folder) {
      const file = `${folder}/known_hosts`;
      const key = known === "another" ? generateKey().publicKey : impostor.publicKey;
      const marker = known === "revoked" ? "@revoked " : "";
      const line = `${marker}[127.0.0.1]:${impostor.port} ssh-ed25519 ${
        Buffer.from(key).toString("base64")
      }\n`;
      await Deno.writeTextFile(file, known === undefined ? "" : line);
      return await KnownHostsTrust.load({
        isJump: false,
        config: {
          alias: "127.0.0.1",
          hostName: "127.0.0.1",
          port: impostor.port,
          user: "jane",
          asWritten: {},
          userKnownHostsFiles: [file],
          globalKnownHostsFiles: [],
          strictHostKeyChecking: checking,
          hashKnownHosts: false,
          updateHostKeys: "no",
          requiredRsaSize: 1024,
          checkHostIp: false,
        },
        // A person who never answers.
        askLater: () => Promise.resolve(undefined),
        ask: (_question, signal) =>
          new Promise((_resolve, reject) =>
            signal.addEventListener("abort", () => reject(signal.reason))
          ),
      }, new AbortController().signal);
    },
  };
}

/** A host as the connector has it, whose user would give the password at once. */
async function hostAt(
  impostor: Impostor,
  { belief, folder }: { belief: Belief; folder: string },
): Promise<Host> {
  const config = await resolveHostConfig(
    { alias: "127.0.0.1", user: "jane", port: impostor.port },
    { configFile: "none", overrides: [] },
  );
  return {
    config,
    credentials: {
      forAttempt: () => ({
        bindsToHost: true,
        async *keys() {},
        password: () => Promise.resolve(password),
        answer: () => Promise.resolve([password]),
        numberOfPasswordPrompts: 3,
        newPassword: () => Promise.resolve(undefined),
        close() {},
      }),
    },
    loadTrust: () => belief.trust(impostor, folder),
  };
}

/** Where a connection to the impostor comes about; returns how it ended. */
const places: Record<string, (hosts: Host[]) => Promise<Error>> = {
  "the first start": async (hosts) => {
    using world = new World(hosts);
    return await failureOf(world.upstream.start());
  },
  "a reconnection": async (hosts) => {
    using world = new World(hosts);
    const first = world.connector.letFirstSucceed();
    await world.upstream.start();
    const client = new MemoryPeer("client");
    client.receiver = world.relay.addClient(client);
    first.lose();
    client.say(MessageType.channelOpen, "session", 0, usualWindowBytes, usualPacketBytes);
    const failure = await world.connector.nextFailure();
    await settled();
    // Stopped, the waiting open is refused with the reason; waiting, it waits.
    if (failure instanceof HostKeyError) {
      assert.match(client.expect(MessageType.channelOpenFailure).description, /Host key of/);
    }
    client.expectNothing();
    return failure;
  },
  "a jump host": async ([host]) => {
    using world = new World([host!, host!]);
    return await failureOf(world.upstream.start());
  },
  "a further connection": async (hosts) => {
    using world = new World(hosts);
    const overflow = new Overflow({
      connector: world.connector,
      relay: world.relay,
      maximum: 1,
      keepalive: { intervalMs: longMs, count: 3 },
      schedule: () => () => {},
    });
    try {
      const failure = world.connector.nextFailure();
      await overflow.grow();
      return await failure;
    } finally {
      overflow.close();
    }
  },
};

for (const [where, connect] of Object.entries(places)) {
  for (const [what, belief] of Object.entries(beliefs)) {
    Deno.test(`at ${where}, where ${what}, early messages lead to nothing`, async (t) => {
      for (const [name, messages] of Object.entries(early)) {
        await t.step(name, async () => {
          await using impostor = startImpostor({ early: messages });
          const folder = await Deno.makeTempDir({ prefix: "early-" });
          const failure = await connect([await hostAt(impostor, { belief, folder })]);
          await Deno.remove(folder, { recursive: true });
          if (belief.isAccepted) {
            assert(failure instanceof UpstreamLostError, `${failure}`);
            assert.match(failure.message, /broke the protocol|no more methods/);
          } else {
            assert(failure instanceof HostKeyError, `${failure}`);
          }
          assert.equal(impostor.connectionCount, 1);
          // KEXINIT and its own key at most, and the last words.
          const sent = impostor.clearMessages();
          assert.deepEqual(sent.filter((type) => ![20, 30, 1].includes(type)), [], `${sent}`);
          assert(!Buffer.from(impostor.received()).includes(password));
        });
      }
    });
  }
}

Deno.test("whoever takes the address of a host that was lost has its commands print nothing", async () => {
  await using ground = await startFaultyGround();
  const { proxy, shim, target } = ground;
  await proxy.refuse();
  await using impostor = startImpostor({ early: early[successful]!, port: proxy.port });
  proxy.cutAll("rst");
  const { code, stdout, stderr } = await target.ssh("cat deploy.sh");
  assert.equal(code, 255);
  assert.equal(text(stdout), "");
  assert.match(text(stderr), /Host key of .* changed/);
  await untilLogged(shim.log, /Not tried again; send SIGUSR2/);
  assert(impostor.connectionCount > 0);
});

/** Upstream with the program's own connector, and a relay whose clients get nothing. */
class World implements Disposable {
  readonly connector: FirstThenReal;
  readonly relay: Relay;
  readonly upstream: Upstream;
  readonly #clock = new ManualClock();

  constructor(hosts: Host[]) {
    this.connector = new FirstThenReal(new Connector(hosts, () => {}));
    this.relay = new Relay({
      schedule: (delayMs, action) => this.#clock.schedule(delayMs, action),
      onWanted: () => {},
      onCrowded: () => {},
      report: () => {},
    });
    let delays = 0;
    this.upstream = new Upstream({
      connector: this.connector,
      relay: this.relay,
      reconnects: true,
      maximumDelayMs: longMs,
      keepalive: { intervalMs: longMs, count: 3 },
      // The first attempt after a loss comes at once, and no other does.
      backoff: { next: () => delays++ === 0 ? 0 : longMs, reset: () => {} },
    });
  }

  [Symbol.dispose](): void {
    this.upstream.close();
  }
}

/** The real connector, whose first connection may be the test's. */
class FirstThenReal {
  readonly name = "jane@127.0.0.1";
  readonly #real: Connector;
  readonly #failure = Promise.withResolvers<Error>();
  #first: ((attempt: Attempt) => void) | undefined;

  constructor(real: Connector) {
    this.#real = real;
  }

  /** The first attempt succeeds; the connection is lost when `lose` is called. */
  letFirstSucceed(): { lose(): void } {
    let first: Attempt | undefined;
    this.#first = (attempt) => {
      first = attempt;
      attempt.succeed();
    };
    return { lose: () => first!.lose() };
  }

  /** Resolves with what the first attempt that fails failed by. */
  nextFailure(): Promise<Error> {
    return this.#failure.promise;
  }

  async connect(handlers: Attempt["handlers"]): Promise<void> {
    const first = this.#first;
    this.#first = undefined;
    if (first) {
      const attempt = new Attempt(handlers);
      first(attempt);
      return await attempt.outcome;
    }
    try {
      await this.#real.connect({
        ...handlers,
        onReady: () => assert.fail("the connection is believed"),
      });
    } catch (error) {
      this.#failure.resolve(error as Error);
      throw error;
    }
  }
}

async function failureOf(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error("the connection is believed");
}
