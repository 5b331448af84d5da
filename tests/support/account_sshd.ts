/**
 * OpenSSH's server with the passwords of accounts, by PAM and without: in a mount namespace of its
 * own, where /etc is a copy in which this account has a password of the test's.
 */

import { run, runChecked } from "./run.ts";
import { startSecondSshd } from "./second_sshd.ts";
import { type Sshd, startSshd } from "./sshd.ts";

/** Whether this process may make such a namespace: on Linux, as root. */
export async function canHaveAccounts(): Promise<boolean> {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return false;
  return (await run(["unshare", "-m", "mount", "--bind", "/etc", "/etc"])).code === 0;
}

/** What a test may ask of the server. */
export interface AccountOptions {
  password: string;
  /** Whether the password has to be changed at the next login. */
  isExpired?: boolean;
  /** Lines for sshd_config, such as `UsePAM yes`. */
  config: string[];
  /** What PAM wants of whoever logs in, in place of that password. */
  auth?: string;
  /** Further files in the server's /etc, by name. */
  files?: Record<string, string>;
}

/** Starts the server. Leaving the scope of the result ends it. */
export async function startAccountSshd(
  { password, isExpired, config, auth = "pam_unix.so nodelay", files = {} }: AccountOptions,
): Promise<Sshd> {
  await using resources = new AsyncDisposableStack();
  const sshd = resources.use(await startSshd({ config }));
  const { folder, username } = sshd;
  await runChecked(["cp", "-a", "/etc", `${folder}/etc`]);
  const hash = (await runChecked(["openssl", "passwd", "-6", "-stdin"], { stdin: password }))
    .trim();
  const changedDay = isExpired ? 0 : 20_000;
  await Deno.writeTextFile(
    `${folder}/etc/shadow`,
    `${username}:${hash}:${changedDay}:0:99999:7:::\n`,
    { mode: 0o640 },
  );
  await Deno.writeTextFile(
    `${folder}/etc/pam.d/sshd`,
    [
      `auth required ${auth}`,
      "account required pam_unix.so",
      "password required pam_unix.so sha512",
      "session required pam_permit.so",
      "",
    ].join("\n"),
  );
  for (const [name, content] of Object.entries(files)) {
    await Deno.writeTextFile(`${folder}/etc/${name}`, content, { mode: 0o600 });
  }
  const script = 'mount --bind "$0" /etc && exec /usr/sbin/sshd "$@"';
  const second = resources.use(
    await startSecondSshd(sshd, {
      command: ["unshare", "-m", "sh", "-c", script, `${folder}/etc`],
    }),
  );
  const owned = resources.move();
  return { ...second, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
