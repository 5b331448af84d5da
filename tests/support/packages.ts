/** Debian's packages that bring the programs of others, and their installation. */

/** A package of Debian, and what it has to bring. */
export interface Requirement {
  package: string;
  brings: () => Promise<boolean>;
}

/**
 * Installs what is missing.
 *
 * @param who the subject of the sentence that names what is missing
 * @returns the exit status
 */
export async function installPackages(
  requirements: readonly Requirement[],
  who: string,
): Promise<number> {
  const missing = await missingPackages(requirements);
  if (missing.length === 0) return 0;
  const install = ["apt-get", "install", "-y", "--no-install-recommends", ...missing];
  const canInstall = Deno.build.os === "linux" && Deno.uid() === 0 && await hasProgram("apt-get");
  if (!canInstall) {
    console.error(
      `${who} need these packages, which are missing here: ${missing.join(" ")}\n` +
        `On Debian or Ubuntu run: sudo apt-get update && sudo ${install.join(" ")}`,
    );
    return 1;
  }
  console.error(`Installing ${missing.join(" ")}`);
  for (const command of [["apt-get", "update"], install]) {
    if (!await runInstaller(command)) {
      console.error(`"${command.join(" ")}" failed; its output above says why.`);
      return 1;
    }
  }
  const stillMissing = await missingPackages(requirements);
  if (stillMissing.length === 0) return 0;
  console.error(`After their installation, these still do not work: ${stillMissing.join(" ")}`);
  return 1;
}

async function missingPackages(requirements: readonly Requirement[]): Promise<string[]> {
  const states = await Promise.all(requirements.map((requirement) => requirement.brings()));
  return requirements.filter((_, index) => !states[index]).map((requirement) =>
    requirement.package
  );
}

/** Says whether all of these programs are there; the names are separated by spaces. */
export async function hasPrograms(names: string): Promise<boolean> {
  return (await Promise.all(names.split(" ").map(hasProgram))).every(Boolean);
}

/** Servers stand in folders that an ordinary user's PATH leaves out. */
export async function hasProgram(name: string): Promise<boolean> {
  const folders = [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/sbin", "/sbin"];
  const found = await Promise.all(
    folders.map((folder) =>
      Deno.stat(`${folder}/${name}`).then((info) => info.isFile, () => false)
    ),
  );
  return found.includes(true);
}

export function hasPythonModule(name: string): Promise<boolean> {
  return succeeds("/usr/bin/python3", "-W", "ignore", "-c", `import ${name}`);
}

/** Says whether a command ends with status 0. */
export async function succeeds(program: string, ...args: string[]): Promise<boolean> {
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
