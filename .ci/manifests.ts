/**
 * Checks the examples for containers: Kubernetes' by the schema of its API, as types and as values,
 * so that no field is unknown and none is wrong; Compose's by the schema of its specification.
 *
 *     deno run -A --no-lock .ci/manifests.ts
 */

import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));
const kubernetesFile = ".github/kubernetes.yaml";
const composeFile = ".github/compose.yaml";
// These are of the check alone: as words, which the lock does not see.
const yamlPackage = "npm:yaml@2.9.1";
const modelsPackage = "npm:kubernetes-models@5.1.0";
const composeLinter = "dclint@3.1.0";

/** Each resource becomes a literal of its type, which the compiler and the model look through. */
async function checkKubernetes(): Promise<number> {
  const { parseAllDocuments } = await import(yamlPackage);
  // Kubernetes reads YAML 1.1, where 0400 is octal.
  const documents = parseAllDocuments(await Deno.readTextFile(root + kubernetesFile), {
    version: "1.1",
  });
  const folder = await Deno.makeTempDir({ prefix: "manifests-" });
  try {
    const lines: string[] = documents.flatMap(
      (document: { toJS(): { apiVersion: string; kind: string } }, index: number) => {
        const { apiVersion, kind, ...resource } = document.toJS();
        const [model, literal] = [`${kind}${index}`, JSON.stringify(resource, undefined, 2)];
        return [
          `import { ${kind} as ${model} } from "${modelsPackage}/${apiVersion}/${kind}";`,
          `new ${model}(${literal}).validate();`,
        ];
      },
    );
    await Deno.writeTextFile(`${folder}/resources.ts`, lines.join("\n"));
    await run(Deno.execPath(), [
      ...["run", "--check", "--no-lock", "--no-config", "-A"],
      `${folder}/resources.ts`,
    ]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  return documents.length;
}

/** The schema's faults are errors; warnings are about the order of keys. */
async function checkCompose(): Promise<void> {
  const npx = Deno.build.os === "windows" ? "npx.cmd" : "npx";
  await run(npx, ["-y", composeLinter, "--quiet", composeFile]);
}

async function run(program: string, args: string[]): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command(program, {
    args,
    cwd: root,
    env: { NO_COLOR: "1" },
  }).output();
  if (success) return;
  for (const text of [stdout, stderr]) console.error(new TextDecoder().decode(text));
  Deno.exit(1);
}

const count = await checkKubernetes();
await checkCompose();
console.log(`manifests: ${count} of Kubernetes, 1 of Compose, as their schemas say`);
