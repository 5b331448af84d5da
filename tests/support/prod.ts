/**
 * The world of the documentation: an empty home whose ssh_config calls a real sshd `prod`,
 * `staging`, `db` and `bastion`, each at port 22 of an address of its own, and sshshim on the PATH.
 * It is a network and a tree of mounts of its own, so that ports and paths are as the pages say.
 */

import { run, runChecked, RunningProcess, type RunOptions } from "./run.ts";
import { lendHostKey, program, shimEnvironment } from "./shim.ts";
import { startSecondSshd } from "./second_sshd.ts";
import { startSshd } from "./sshd.ts";

/** The hosts, by their names in ssh_config. */
export const hosts: readonly string[] = ["prod", "staging", "db", "bastion"];

/** Whether this process may make such a world: on Linux, as root. */
export async function canHaveWorld(): Promise<boolean> {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return false;
  return (await run(["unshare", "-m", "-n", "ip", "link", "set", "lo", "up"])).code === 0;
}

/** A world. Leaving its scope ends all that runs in it. */
export interface World extends AsyncDisposable {
  /**
   * Runs a script of bash after the earlier ones, whose folder and variables it finds, to its end;
   * what it leaves in the background goes on.
   *
   * @returns its status, and all that it printed
   */
  run(script: string): Promise<{ code: number; output: string }>;
  /** Starts one command after the earlier ones, and leaves it running. */
  start(command: string): RunningProcess;
}

const mountScript = `
mount --bind "$0/passwd" /etc/passwd
mount --bind "$0/hosts" /etc/hosts
mount -t tmpfs srv /srv
ip link set lo up
echo ready
exec sleep infinity
`;

/** The account of the pages, which is this one by another name. */
const user = "ubuntu";

/** Makes a world. */
export async function makeWorld(): Promise<World> {
  await using resources = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "world-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const home = `${folder}/home`;
  await writeFiles(folder, home);
  await lendHostKey(folder);
  const holder = resources.use(
    new RunningProcess(["unshare", "-m", "-n", "sh", "-ec", mountScript, folder]),
  );
  await holder.stdout.waitFor(/^ready$/m);
  resources.defer(() => endAllIn(holder.pid));
  const enter = ["nsenter", "-t", String(holder.pid), "-m", "-n"];
  const first = resources.use(await startSshd());
  const addresses = hosts.slice(1).map((_, index) => `ListenAddress 127.0.0.${index + 2}`);
  resources.use(
    await startSecondSshd(first, {
      command: [...enter, "/usr/sbin/sshd"],
      config: ["Port 22", ...addresses],
    }),
  );
  await Deno.copyFile(first.keyFile, `${home}/.ssh/id_ed25519`);
  const knownHosts = first.hostKeys.flatMap((key) =>
    hosts.map((host) => `${host}.example.com ${key}\n`)
  ).join("");
  await Deno.writeTextFile(`${home}/.ssh/known_hosts`, knownHosts);

  const options: RunOptions = {
    environment: {
      ...shimEnvironment(folder),
      HOME: home,
      SHELL: "/bin/bash",
      PATH: `${folder}/bin:${Deno.env.get("PATH")}`,
      // Whoever is asked says yes.
      SSH_ASKPASS: `${folder}/bin/yes`,
      SSH_ASKPASS_REQUIRE: "force",
      GIT_CONFIG_GLOBAL: `${folder}/gitconfig`,
      STATE: `${folder}/state.sh`,
      OUTPUT: `${folder}/output`,
    },
  };
  const script = `cd && [ ! -e "$STATE" ] || . "$STATE"`;
  const world: World = {
    async run(words) {
      const { code } = await run([...enter, "bash", "-c", runScript, script, words], options);
      return { code, output: await Deno.readTextFile(`${folder}/output`) };
    },
    start: (command) =>
      new RunningProcess([...enter, "bash", "-c", `${script}; exec ${command}`], options),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
  const { code, output } = await world.run(projectScript);
  if (code !== 0) throw new Error(`The project cannot be made:\n${output}`);
  const owned = resources.move();
  return world;
}

/** The output goes to a file: what stays in the background would hold a pipe open. */
const runScript = `
eval "$0"
set -ea
eval "$1" >"$OUTPUT" 2>&1 </dev/null
{ export -p; printf 'cd %q\\n' "$PWD"; } >"$STATE"
`;

/** What the examples work with: a project here, whose repository is there. */
const projectScript = `
git init -q --bare /srv/project.git
git clone -q /srv/project.git project
cd project
mkdir dist /srv/app
echo report > report.txt
echo page > dist/index.html
git add . && git commit -q -m Begin && git push -q
git remote set-url origin prod.shim:/srv/project.git
cp ~/.ssh/id_ed25519 deploy_key
cp ~/.ssh/known_hosts known_hosts
`;

async function writeFiles(folder: string, home: string): Promise<void> {
  await Deno.mkdir(`${home}/.ssh`, { recursive: true, mode: 0o700 });
  await Deno.mkdir(`${folder}/bin`);
  const account = (await runChecked(["id", "-un"])).trim();
  const accounts = (await Deno.readTextFile("/etc/passwd")).split("\n")
    .filter((line) => !line.startsWith(`${user}:`))
    .map((line) => {
      const fields = line.split(":");
      return (fields[0] === account ? fields.with(5, home) : fields).join(":");
    });
  const uid = Deno.uid();
  accounts.splice(-1, 0, `${user}:x:${uid}:${Deno.gid()}::/srv:/bin/sh`);
  const command = program.map((word) => `'${word}'`).join(" ");
  const files: [path: string, text: string, mode?: number][] = [
    [`${folder}/passwd`, accounts.join("\n")],
    [
      `${folder}/hosts`,
      "127.0.0.1 localhost\n" +
      hosts.map((host, index) => `127.0.0.${index + 1} ${host}.example.com\n`).join(""),
    ],
    [
      `${home}/.ssh/config`,
      hosts.map((host) => `Host ${host}\n  HostName ${host}.example.com\n  User ${user}\n`)
        .join(""),
      0o600,
    ],
    [`${folder}/gitconfig`, "[user]\nname = Jane\nemail = jane@example.com\n"],
    [`${folder}/bin/sshshim`, `#!/bin/sh\nexec ${command} "$@"\n`, 0o755],
    [`${folder}/bin/yes`, "#!/bin/sh\necho yes\n", 0o755],
  ];
  for (const [path, text, mode = 0o644] of files) await Deno.writeTextFile(path, text, { mode });
}

/** Ends what runs in the network of a process, but for itself: none but what was started there. */
async function endAllIn(pid: number): Promise<void> {
  const network = await Deno.readLink(`/proc/${pid}/ns/net`);
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === pid) continue;
    try {
      if (Deno.readLinkSync(`/proc/${name}/ns/net`) === network) Deno.kill(Number(name), "SIGKILL");
    } catch {
      // It has just ended.
    }
  }
}
