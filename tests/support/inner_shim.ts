/** The shim inside the test's own process, for what only its parts tell; its clients are real. */

import { sameUserOnly } from "../../lib/access.ts";
import { slotRestMs } from "../../lib/channel_slots.ts";
import { parseArguments } from "../../lib/cli.ts";
import { NobodyToAskError } from "../../lib/errors.ts";
import { loadLocalHostKeys } from "../../lib/local_host_keys.ts";
import { publicKeyLine } from "../../lib/public_key.ts";
import type { Shim } from "../../lib/shim.ts";
import { Shims } from "../../lib/shims.ts";
import type { ShimStatus } from "../../lib/status.ts";
import { clientEnvironment, makeTarget, type Target } from "./both.ts";
import "./loaded_libc.ts";
import { waitUntil } from "./processes.ts";
import { runChecked } from "./run.ts";
import { upstreamArguments } from "./shim.ts";
import type { Upstream } from "./shim.ts";

/** A shim that serves. Leaving its scope ends it. */
export interface InnerShim extends AsyncDisposable {
  readonly shim: Shim;
  readonly shims: Shims;
  /** The way through it for ssh. */
  readonly target: Target;
  /** Waits for a status of which `condition` holds. */
  until(what: string, condition: (status: ShimStatus) => boolean): Promise<ShimStatus>;
}

/** Starts a shim in front of a server, at a free port. */
export async function startInnerShim(
  upstream: Upstream,
  args: string[] = [],
): Promise<InnerShim> {
  await using resources = new AsyncDisposableStack();
  resources.use(withoutRests());
  const folder = await Deno.makeTempDir({ prefix: "inner-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const keyFile = `${folder}/host_key`;
  await runChecked(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keyFile]);
  const command = parseArguments([
    ...upstreamArguments(upstream),
    ...["-F", "none", "--local-port", "0", "--no-ssh-config", "--local-ed25519-key", keyFile],
    ...args,
  ]);
  if (command.kind !== "run") throw new Error("these arguments start no shim");
  const { options } = command;
  const shims = await Shims.open(options, {
    prompter: { ask: () => Promise.reject(new NobodyToAskError("nobody is here")) },
    environmentPassword: undefined,
    hasControl: false,
    access: {
      kind: options.localAuth === "publickey" ? "keys" : "user",
      ...{ admit: sameUserOnly(), keys: noKeys },
    },
    life: { enter() {}, leave() {}, onStatus() {} },
  });
  resources.defer(() => shims.close());
  const { all } = await loadLocalHostKeys(options.localHostKey);
  const failed = Promise.withResolvers<void>();
  void shims.serve(all, { onListening() {}, onFailure: (_, error) => failed.reject(error) });
  await Promise.race([shims.whenListening, failed.promise]);
  const [{ shim }] = shims.hosts as [Shims["hosts"][number]];
  const { hostname, port } = shim.address;
  const knownHostsFile = `${folder}/known_hosts`;
  const [hostKey] = await all;
  await Deno.writeTextFile(
    knownHostsFile,
    `[${hostname}]:${port} ${publicKeyLine(hostKey!.publicKey)}\n`,
  );
  const target = makeTarget({
    ...{ mode: "shim", host: hostname, port, knownHostsFile, folder },
    ...{ username: "anybody", keyFile: upstream.keyFile },
    environment: clientEnvironment(folder),
  });
  const owned = resources.move();
  return {
    ...{ shim, shims, target },
    async until(what, condition) {
      let status = await shim.status({ findsPrograms: false });
      await waitUntil(what, async () => {
        status = await shim.status({ findsPrograms: false });
        return condition(status);
      });
      return status;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const noKeys = { gather: () => Promise.resolve({ judge: () => ({ kind: "unknown" as const }) }) };

/** The numbers of closed channels rest for a minute, which nobody waits for when the shim ends. */
function withoutRests(): Disposable {
  const { setTimeout } = globalThis;
  const rests = new Set<ReturnType<typeof setTimeout>>();
  globalThis.setTimeout = ((action: () => void, ms?: number) => {
    const timer = setTimeout(action, ms);
    if (ms === slotRestMs) rests.add(timer);
    return timer;
  }) as typeof setTimeout;
  return {
    [Symbol.dispose]() {
      globalThis.setTimeout = setTimeout;
      for (const timer of rests) clearTimeout(timer);
    },
  };
}
