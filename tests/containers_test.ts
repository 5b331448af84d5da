/** The examples for containers do what they say: their command lines, run here without containers. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { canHaveHome, makeHome } from "./support/account_home.ts";
import { waitForFile } from "./support/processes.ts";
import { pythonProgram } from "./support/python.ts";
import { runChecked, text } from "./support/run.ts";
import { program } from "./support/shim.ts";
import { type Sshd, startSshd } from "./support/sshd.ts";

/** What two containers, sshshim's and one beside it, run and see. */
interface Example {
  shim: string[];
  probe: string[];
  command: string[];
  environment: Record<string, string>;
  /** The files of secrets, by their names in the example. */
  secrets: Record<"id_ed25519" | "known_hosts", string>;
}

/** A file of .github; as Kubernetes and Compose do, Python takes 0400 for octal. */
async function readYaml(name: string) {
  const script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
  const path = fileURLToPath(new URL(`../.github/${name}`, import.meta.url));
  return JSON.parse(await runChecked([pythonProgram, "-c", script, path]));
}

async function composeExample(): Promise<Example> {
  const { services: { sshshim, fetch }, secrets } = await readYaml("compose.yaml");
  assert.equal(fetch.user, sshshim.user);
  assert.deepEqual(sshshim.secrets, Object.keys(secrets));
  const [kind, ...probe] = sshshim.healthcheck.test;
  assert.equal(kind, "CMD");
  return {
    ...{ shim: sshshim.command, probe, command: fetch.command, environment: fetch.environment },
    secrets: { id_ed25519: "/run/secrets/id_ed25519", known_hosts: "/run/secrets/known_hosts" },
  };
}

async function kubernetesExample(): Promise<Example> {
  const { spec: { template: { spec } } } = await readYaml("kubernetes.yaml");
  const [[shim], [job]] = [spec.initContainers, spec.containers];
  // A volume that is mounted stands below.
  const volumes = new Set(spec.volumes.map(({ name }: { name: string }) => name));
  const mounts = [...shim.volumeMounts, ...job.volumeMounts];
  assert.deepEqual(new Set(mounts.map(({ name }) => name)), volumes);
  assert.deepEqual([shim.restartPolicy, spec.securityContext.fsGroup], ["Always", 1000]);
  assert.equal(spec.volumes[1].secret.defaultMode, 0o400);
  const folder = shim.volumeMounts[1].mountPath;
  return {
    shim: shim.args,
    probe: shim.startupProbe.exec.command,
    command: job.command,
    environment: Object.fromEntries(
      job.env.map(({ name, value }: { name: string; value: string }) => [name, value]),
    ),
    secrets: { id_ed25519: `${folder}/id_ed25519`, known_hosts: `${folder}/known_hosts` },
  };
}

/** Its words, with the places and the host of this test in those of the example. */
function translate<T>(example: T, places: Record<string, string>): T {
  const names = Object.keys(places);
  const pattern = new RegExp(names.join("|"), "g");
  return JSON.parse(JSON.stringify(example).replace(pattern, (name) => places[name]!));
}

async function assertWorks(example: Example, sshd: Sshd): Promise<void> {
  await using home = await makeHome();
  const folder = `${home.path}/..`;
  for (const name of ["srv", "data", "secrets"]) await Deno.mkdir(`${folder}/${name}`);
  await Deno.writeTextFile(`${folder}/srv/file`, "content\n");
  const { shim, probe: [probed, ...probe], command, environment, secrets } = translate(example, {
    "/home/nonroot": home.path,
    [example.secrets.id_ed25519]: `${folder}/secrets/id_ed25519`,
    [example.secrets.known_hosts]: `${folder}/secrets/known_hosts`,
    "deploy@prod.example.com": `${sshd.username}@${sshd.host}:${sshd.port}`,
    "/srv/app": `${folder}/srv`,
    "/data": `${folder}/data`,
  });
  await Deno.copyFile(sshd.keyFile, secrets.id_ed25519);
  // As where fsGroup says who may read it: not the user's own, and for a group.
  await Deno.chmod(secrets.id_ed25519, 0o440);
  await Deno.chown(secrets.id_ed25519, 65534, 1000);
  await Deno.copyFile(sshd.knownHostsFile, secrets.known_hosts);
  assert.equal(probed, "/usr/bin/sshshim");
  const ask = () => home.run([...program, ...probe]);
  assert.equal((await ask()).code, 1);
  await using process = home.start([...shim, "--local-port=0"]);
  await waitForFile(`${home.path}/ready`);
  const answer = await ask();
  assert.deepEqual([answer.code, text(answer.stderr)], [0, ""]);
  const done = await home.run(command, { environment: { ...home.environment, ...environment } });
  assert.deepEqual([done.code, text(done.stderr)], [0, ""]);
  assert.equal(await Deno.readTextFile(`${folder}/data/file`), "content\n");
  process.kill("SIGTERM");
  assert.equal((await process.drained()).code, 0, process.stderr.text);
  assert.equal((await ask()).code, 1);
}

for (
  const [name, read] of [["Compose", composeExample], ["Kubernetes", kubernetesExample]] as const
) {
  Deno.test({
    name: `what ${name}'s example runs serves the container beside it`,
    // It needs a mount namespace, for the home of the example is that of the account.
    ignore: !await canHaveHome(),
    async fn() {
      await using sshd = await startSshd();
      await assertWorks(await read(), sshd);
    },
  });
}
