/** OpenSSH with post-quantum key exchange: this machine's own, or one lent by Debian's backports. */

import { run, runChecked, text } from "./run.ts";

/** Programs that know mlkem768x25519-sha256. Leaving the scope removes those that were lent. */
export interface PostQuantumSsh extends AsyncDisposable {
  readonly ssh: string;
  readonly sshd: string;
  /** Lines for sshd_config that say where the server's own programs are. */
  readonly config: string[];
}

/**
 * Finds them. Those of the backports are unpacked into a temporary folder; nothing is installed.
 *
 * @returns `undefined` where there are none, and this is no Debian 12 on which we are root
 */
export async function findPostQuantumSsh(): Promise<PostQuantumSsh | undefined> {
  if (await knowsMlKem("ssh")) {
    return { ssh: "ssh", sshd: "/usr/sbin/sshd", config: [], async [Symbol.asyncDispose]() {} };
  }
  const release = await Deno.readTextFile("/etc/os-release").catch(() => "");
  if (Deno.uid() !== 0 || !/^ID=debian$/m.test(release) || !/^VERSION_ID="12"$/m.test(release)) {
    return undefined;
  }
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "backports-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  try {
    await unpack(folder);
  } catch (error) {
    console.warn(`Debian's backports cannot be had: ${(error as Error).message}`);
    return undefined;
  }
  const programs = `${folder}/root/usr`;
  if (!await knowsMlKem(`${programs}/bin/ssh`)) return undefined;
  const owned = resources.move();
  return {
    ssh: `${programs}/bin/ssh`,
    sshd: `${programs}/sbin/sshd`,
    config: [
      `SshdSessionPath ${programs}/lib/openssh/sshd-session`,
      `SshdAuthPath ${programs}/lib/openssh/sshd-auth`,
    ],
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function knowsMlKem(ssh: string): Promise<boolean> {
  return text((await run([ssh, "-Q", "kex"])).stdout).includes("mlkem768x25519-sha256");
}

/** Where this machine has its packages from. */
async function archive(): Promise<string> {
  const format = "$(RELEASE) $(REPO_URI)";
  const list = await runChecked(["apt-get", "indextargets", "--format", format]);
  const [, address] = /^bookworm (\S+)$/m.exec(list) ?? [];
  if (address === undefined) throw new Error("apt knows no archive of bookworm");
  return address;
}

/** Unpacks the packages into `root` of a folder, by lists and a cache of its own. */
async function unpack(folder: string): Promise<void> {
  await Deno.mkdir(`${folder}/lists/partial`, { recursive: true });
  await Deno.mkdir(`${folder}/cache/archives/partial`, { recursive: true });
  await Deno.writeTextFile(
    `${folder}/sources.list`,
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " +
      `${await archive()} bookworm-backports main\n`,
  );
  const apt = [
    "apt-get",
    "-q",
    ...[
      `Dir::Etc::SourceList=${folder}/sources.list`,
      "Dir::Etc::SourceParts=-",
      `Dir::State::Lists=${folder}/lists`,
      `Dir::Cache=${folder}/cache`,
      "Acquire::Languages=none",
      "Acquire::Retries=2",
      "APT::Sandbox::User=root",
    ].flatMap((option) => ["-o", option]),
  ];
  const options = { folder };
  await runChecked([...apt, "update"], options);
  await runChecked([...apt, "download", "openssh-client", "openssh-server"], options);
  for await (const { name } of Deno.readDir(folder)) {
    if (name.endsWith(".deb")) await runChecked(["dpkg", "-x", name, "root"], options);
  }
}
