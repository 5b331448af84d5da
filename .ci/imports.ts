/**
 * Checks the imports of the program, those of types included: they form a tree without circles,
 * the relay's heart knows no socket, no timer, no console and no ssh2, and ssh2 is known to the
 * files that are named after it alone.
 *
 *     deno run -A .ci/imports.ts
 */

/** A module as `deno info --json` shows it, as far as it is used here. */
interface ModuleInfo {
  specifier: string;
  dependencies?: { code?: { specifier?: string }; type?: { specifier?: string } }[];
}

/** What may be tested with plain bytes, together with all that it imports. */
const pureModules = ["lib/channels.ts", "lib/forwards.ts", "lib/relay.ts"];
/** Modules from elsewhere that do nothing by themselves. */
const harmlessModules = ["node:buffer", "node:crypto"];
const impureGlobals = /\b(?:Deno|console|process)\.|\b(?:setTimeout|setInterval|fetch)\(/;

/** The files that may know ssh2 and its types. */
const ssh2Family = /^lib\/ssh2(_\w+)?\.ts$/;
const ssh2Package = /^npm:\/?(@types\/)?ssh2[@/]/;
/** What all others may import of these files. */
const ssh2Entrances = ["lib/ssh2_algorithms.ts", "lib/ssh2_client.ts", "lib/ssh2_server.ts"];
/** As ssh2 names its private fields. */
const privateField = /\._[a-z]\w*|\{ _[a-z]\w*:/i;

const root = new URL("../", import.meta.url).href;

/** Our own modules, by their path in the project, and what each of them imports. */
async function readImports(): Promise<Map<string, string[]>> {
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "main.ts"],
    cwd: new URL(root),
    stderr: "inherit",
  }).output();
  if (!success) throw new Error("deno info failed");
  const { modules }: { modules: ModuleInfo[] } = JSON.parse(new TextDecoder().decode(stdout));
  const imports = new Map<string, string[]>();
  for (const { specifier, dependencies = [] } of modules) {
    if (!specifier.startsWith(root)) continue;
    const targets = dependencies.flatMap(({ code, type }) => [code, type])
      .flatMap((target) => target?.specifier ?? []);
    imports.set(pathOf(specifier), [...new Set(targets.map(pathOf))]);
  }
  return imports;
}

function pathOf(specifier: string): string {
  return specifier.startsWith(root) ? specifier.slice(root.length) : specifier;
}

/** One circle that is reached from `path`, as the modules on the way, or `undefined`. */
function findCircle(
  imports: Map<string, string[]>,
  path: readonly string[],
  finished: Set<string>,
): string[] | undefined {
  const module = path.at(-1)!;
  const before = path.indexOf(module);
  if (before < path.length - 1) return path.slice(before);
  if (finished.has(module)) return undefined;
  for (const target of imports.get(module) ?? []) {
    const circle = findCircle(imports, [...path, target], finished);
    if (circle) return circle;
  }
  finished.add(module);
  return undefined;
}

/** All that a module imports, itself included, directly or not. */
function closureOf(imports: Map<string, string[]>, module: string): Set<string> {
  const found = new Set([module]);
  // A set yields what is added to it while it is walked through.
  for (const it of found) for (const target of imports.get(it) ?? []) found.add(target);
  return found;
}

async function impurities(imports: Map<string, string[]>): Promise<string[]> {
  const problems: string[] = [];
  for (const module of pureModules) {
    if (!imports.has(module)) problems.push(`${module} is not part of the program`);
    for (const imported of closureOf(imports, module)) {
      if (!imports.has(imported)) {
        if (harmlessModules.includes(imported)) continue;
        problems.push(`${module} must not import ${imported}, directly or not`);
      } else {
        const [used] = impureGlobals.exec(await Deno.readTextFile(new URL(imported, root))) ?? [];
        if (used) problems.push(`${imported} must not use ${used}: ${module} imports it`);
      }
    }
  }
  return problems;
}

async function ssh2Outside(imports: Map<string, string[]>): Promise<string[]> {
  const problems: string[] = [];
  for (const [module, targets] of imports) {
    if (ssh2Family.test(module)) continue;
    for (const target of targets) {
      const isFine = ssh2Family.test(target)
        ? ssh2Entrances.includes(target)
        : !ssh2Package.test(target);
      if (!isFine) problems.push(`${module} must not import ${target}`);
    }
    if (!module.endsWith(".ts")) continue;
    const [used] = privateField.exec(await Deno.readTextFile(new URL(module, root))) ?? [];
    if (used) problems.push(`${module} must not use ${used}: it is private to its library`);
  }
  return problems;
}

const imports = await readImports();
const circle = findCircle(imports, ["main.ts"], new Set());
const problems = [
  ...(circle ? [`These modules import each other: ${circle.join(" → ")}`] : []),
  ...await impurities(imports),
  ...await ssh2Outside(imports),
];
for (const problem of problems) console.error(problem);
if (problems.length > 0) Deno.exit(1);
console.log(`imports: ${imports.size} modules, no circle, ssh2 where it belongs`);
