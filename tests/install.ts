/**
 * Makes sure that this machine has the SSH programs that the tests compare with.
 *
 * As root on Debian and its relatives it installs what is missing; anywhere else it names the
 * missing packages and exits with 1, because tests that skip silently prove nothing.
 */

/** The packages of Debian, and what each of them has to bring. */
const requirements: { package: string; brings: () => Promise<boolean> }[] = [
  { package: "openssh-server", brings: () => hasProgram("sshd") },
  { package: "openssh-client", brings: () => hasPrograms("ssh sftp scp ssh-agent ssh-keygen") },
  { package: "putty-tools", brings: () => hasPrograms("plink psftp") },
  { package: "dropbear-bin", brings: () => hasPrograms("dbclient dropbear") },
  { package: "rsync", brings: () => hasProgram("rsync") },
  { package: "git", brings: () => hasProgram("git") },
  { package: "xauth", brings: () => hasProgram("xauth") },
  { package: "procps", brings: () => hasProgram("ps") },
  { package: "python3", brings: () => succeeds("/usr/bin/python3", "-V") },
  { package: "python3-paramiko", brings: () => hasPythonModule("paramiko") },
  { package: "python3-asyncssh", brings: () => hasPythonModule("asyncssh") },
];

async function main(): Promise<number> {
  const missing = await missingPackages();
  if (missing.length === 0) return 0;
  const install = ["apt-get", "install", "-y", "--no-install-recommends", ...missing];
  const canInstall = Deno.build.os === "linux" && Deno.uid() === 0 && await hasProgram("apt-get");
  if (!canInstall) {
    console.error(
      `The tests need these packages, which are missing here: ${missing.join(" ")}\n` +
        `On Debian or Ubuntu run: sudo apt-get update && sudo ${install.join(" ")}`,
    );
    return 1;
  }
  console.error(`Installing what the tests need: ${missing.join(" ")}`);
  for (const command of [["apt-get", "update"], install]) {
    if (!await runInstaller(command)) {
      console.error(`"${command.join(" ")}" failed; its output above says why.`);
      return 1;
    }
  }
  const stillMissing = await missingPackages();
  if (stillMissing.length === 0) return 0;
  console.error(`After their installation, these still do not work: ${stillMissing.join(" ")}`);
  return 1;
}

async function missingPackages(): Promise<string[]> {
  const states = await Promise.all(requirements.map((requirement) => requirement.brings()));
  return requirements.filter((_, index) => !states[index]).map((requirement) =>
    requirement.package
  );
}

async function hasPrograms(names: string): Promise<boolean> {
  return (await Promise.all(names.split(" ").map(hasProgram))).every(Boolean);
}

/** Servers stand in folders that an ordinary user's PATH leaves out. */
async function hasProgram(name: string): Promise<boolean> {
  const folders = [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/sbin", "/sbin"];
  const found = await Promise.all(
    folders.map((folder) =>
      Deno.stat(`${folder}/${name}`).then((info) => info.isFile, () => false)
    ),
  );
  return found.includes(true);
}

function hasPythonModule(name: string): Promise<boolean> {
  return succeeds("/usr/bin/python3", "-W", "ignore", "-c", `import ${name}`);
}

async function succeeds(program: string, ...args: string[]): Promise<boolean> {
  try {
    const output = { stdout: "null", stderr: "null" } as const;
    return (await new Deno.Command(program, { args, ...output }).output()).success;
  } catch {
    // There is no such program.
    return false;
  }
}

async function runInstaller(command: string[]): Promise<boolean> {
  const [program = "", ...args] = command;
  const { success } = await new Deno.Command(program, {
    args,
    env: { DEBIAN_FRONTEND: "noninteractive" },
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn().status;
  return success;
}

Deno.exit(await main());
