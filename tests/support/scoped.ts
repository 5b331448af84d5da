/** Keys that are for some things only, on a real sshd and on the shim in front of it alike. */

import { type Comparison, makeTarget, startComparison, type Target } from "./both.ts";
import { makeKey, type Sshd, startSshd } from "./sshd.ts";

/** A server and a shim that take the same further key. */
export interface ScopedGround extends Comparison {
  readonly sshd: Sshd;
  /** The file with the further key's private half. */
  readonly keyFile: string;
  /** The further key counts with these options from now on, on both. */
  allow(options: string): Promise<void>;
  /** A target whose only key is the further one. */
  scoped(target: Target): Target;
  /** The shim's file of authorized keys gets this content. */
  write(content: string): Promise<void>;
  /** The further key's public half, as a line. */
  readonly publicKey: string;
}

/** Starts them; the server takes any variable from clients and lends displays. */
export async function startScopedGround(): Promise<ScopedGround> {
  await using resources = new AsyncDisposableStack();
  const sshd = resources.use(
    await startSshd({
      config: ["PermitUserEnvironment yes", "AcceptEnv *", "X11Forwarding yes"],
    }),
  );
  const file = `${sshd.folder}/authorized_keys`;
  const own = await Deno.readTextFile(file);
  const shimFile = `${sshd.folder}/scoped_keys`;
  await Deno.writeTextFile(shimFile, "", { mode: 0o600 });
  const keyFile = `${sshd.folder}/scoped`;
  await makeKey(keyFile, "ed25519");
  const publicKey = (await Deno.readTextFile(`${keyFile}.pub`)).trim();
  const comparison = resources.use(
    await startComparison(sshd, { arguments: ["--authorized-keys", shimFile] }),
  );
  const owned = resources.move();
  return {
    ...comparison,
    sshd,
    keyFile,
    publicKey,
    write: (content) => Deno.writeTextFile(shimFile, content),
    async allow(options) {
      const line = `${options} ${publicKey}\n`.trimStart();
      await Deno.writeTextFile(file, own + line);
      await Deno.writeTextFile(shimFile, line);
    },
    scoped: (target) => makeTarget({ ...target, keyFile }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
