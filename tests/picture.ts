/**
 * Draws the picture of README.md, `.github/session.svg`, from a real session: OpenSSH's server, the
 * real sshshim and OpenSSH's clients, under pseudo-terminals.
 *
 *     deno task picture
 *
 * So that it reads as an example, it runs in namespaces of its own (Linux, as root), in which this
 * machine and its loopback are called prod.example.com, the account ubuntu, and the port is 22.
 */

import { fileURLToPath } from "node:url";
import { canHaveHome } from "./support/account_home.ts";
import { killDescendantsOf } from "./support/processes.ts";
import { Terminal } from "./support/pty.ts";
import { runChecked } from "./support/run.ts";
import { mainModule, packageCache, shimEnvironment } from "./support/shim.ts";
import { type Sshd, startSshd } from "./support/sshd.ts";
import { drawWindows, screenRows } from "./support/terminal_picture.ts";

const dimensions = { rows: 24, columns: 80 };
const host = "prod.example.com";
const picture = fileURLToPath(new URL("../.github/session.svg", import.meta.url));

/** Names this machine and account anew, in the namespaces alone, and goes on there. */
const stage = `
set -e
folder=$1; shift
ip link set lo up
hostname prod
printf '127.0.0.1 localhost\\n127.0.0.1 ${host}\\n' >"$folder/hosts"
sed "s|^root:\\(.*\\):[^:]*:\\([^:]*\\)$|ubuntu:\\1:$folder/home:\\2|" /etc/passwd >"$folder/passwd"
mount --bind "$folder/hosts" /etc/hosts
mount --bind "$folder/passwd" /etc/passwd
mount -t tmpfs srv /srv
exec "$@"
`;

/** A shell at a terminal, with nothing of its own but a prompt. */
class Shell implements AsyncDisposable {
  #terminal: Terminal;

  constructor(environment: Record<string, string>) {
    this.#terminal = new Terminal(["/bin/sh", "-c", "cd && exec /bin/sh"], {
      environment: { ...environment, PS1: "$ ", TERM: "xterm" },
      dimensions,
    });
  }

  get rows(): string[] {
    return screenRows(this.#terminal.screen.text);
  }

  /** Types a command and waits for what `shown` describes, the next prompt by default. */
  async enter(command: string, shown = /\n\$ $/): Promise<void> {
    const { screen } = this.#terminal;
    await screen.waitFor(/(^|\n)\$ $/);
    const from = screen.text.length;
    await this.#terminal.type(`${command}\n`);
    await screen.waitFor(shown, { from });
  }

  /** Resolves when `pattern` is shown. */
  async shows(pattern: RegExp): Promise<void> {
    await this.#terminal.screen.waitFor(pattern);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#terminal[Symbol.asyncDispose]();
  }
}

/** Makes a new user's home in `folder`, whose ssh knows the host, and a project at the host. */
async function prepare(folder: string, sshd: Sshd): Promise<Record<string, string>> {
  const home = `${folder}/home`;
  await Deno.mkdir(`${home}/.ssh`, { recursive: true, mode: 0o700 });
  await Deno.mkdir(`${folder}/bin`);
  const program = [Deno.execPath(), "run", "--quiet", "--no-check", "-A", mainModule];
  await Deno.writeTextFile(
    `${folder}/bin/sshshim`,
    "#!/bin/sh\n" +
      // A row that changes cannot be drawn.
      `[ "$1" = setup ] || set -- --no-status-line "$@"\n` +
      `exec ${program.map((word) => `'${word}'`).join(" ")} "$@"\n`,
    { mode: 0o755 },
  );
  await Deno.writeTextFile(
    `${home}/.ssh/config`,
    `Host prod\n  HostName ${host}\n  IdentityFile ${sshd.keyFile}\n`,
  );
  await Deno.writeTextFile(
    `${home}/.ssh/known_hosts`,
    sshd.hostKeys.map((key) => `${host} ${key}\n`).join(""),
  );
  const git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.com"];
  await Deno.writeTextFile(`${home}/notes.txt`, "Notes.\n");
  await runChecked([...git, "init", "-q", "/srv/project.git"]);
  await runChecked([...git, "commit", "-q", "--allow-empty", "-m", "Begin"], {
    folder: "/srv/project.git",
  });
  return {
    ...shimEnvironment(folder),
    HOME: home,
    PATH: `${folder}/bin:${Deno.env.get("PATH")}`,
  };
}

/** Ends the server's processes of the connection, as a network does that is gone: unasked. */
async function cutConnection(sshd: Sshd): Promise<void> {
  await killDescendantsOf(sshd.pid);
}

/** The rows from the first that matches `first` to the first after it that matches `last`. */
function excerpt(rows: readonly string[], first: RegExp, last: RegExp): string[] {
  const start = rows.findIndex((row) => first.test(row));
  const end = rows.findIndex((row, index) => index >= start && last.test(row));
  if (start < 0 || end < 0) throw new Error(`No ${first} to ${last} in:\n${rows.join("\n")}`);
  return rows.slice(start, end + 1);
}

async function play(folder: string): Promise<void> {
  await using sshd = await startSshd({ config: ["Port 22"] });
  const environment = await prepare(folder, sshd);
  await using server = new Shell(environment);
  await using clients = new Shell(environment);
  await server.enter("sshshim setup --yes");
  await server.enter("sshshim prod", /Ctrl-C ends it\./);
  await clients.enter("ssh prod.shim hostname");
  await clients.enter("scp notes.txt prod.shim:/srv/");
  await clients.enter("git clone -q prod.shim:/srv/project.git");
  await cutConnection(sshd);
  await server.shows(/the\s+next client wakes the connection/);
  await clients.enter("# The connection was cut. It comes back by itself:");
  await clients.enter("ssh prod.shim ls /srv");

  const said = server.rows;
  const loss = said.findIndex((row) => row.includes("connection lost"));
  const windows = [
    {
      title: "One terminal",
      rows: [
        ...[...excerpt(said, /^\$ sshshim prod$/, /prod$/), undefined],
        ...excerpt(said, / is at 127\.0\.0\.1/, /^ {2}sftp /),
        ...[undefined, ...excerpt(said.slice(loss), /connection lost/, /^ /)],
        ...[undefined, ...excerpt(said.slice(loss), /connected to/, /connected to/)],
      ],
    },
    { title: "Another terminal", rows: clients.rows.slice(0, -1) },
  ];
  await Deno.writeTextFile(picture, drawWindows(windows, dimensions.columns));
  console.log(`Drew ${picture}.`);
}

const [folder] = Deno.args;
if (folder !== undefined) {
  await play(folder);
} else {
  if (!await canHaveHome()) throw new Error("The picture is drawn on Linux, by root.");
  await using resources = new AsyncDisposableStack();
  const made = await Deno.makeTempDir({ prefix: "picture-" });
  resources.defer(() => Deno.remove(made, { recursive: true }));
  console.log(
    await runChecked([
      ...["unshare", "--mount", "--net", "--uts", "sh", "-c", stage, "sh", made],
      ...[Deno.execPath(), "run", "--no-check", "-A", fileURLToPath(import.meta.url), made],
    ], { environment: { ...Deno.env.toObject(), DENO_DIR: packageCache } }),
  );
}
