/**
 * The texts of the program that a user can see when something is not as it should be, gathered
 * from the syntax of its sources: whatever has words in it counts, unless where it stands says that
 * it is something else. So a new message is found wherever it is made.
 */

import { fileURLToPath } from "node:url";

/** A text as the source has it. */
export interface SourceText {
  /** `lib/tcp.ts:27`. */
  place: string;
  /** What stands between the values that are put in; one more than there are values. */
  parts: string[];
  /** Whether it has words enough to be told from others; else it may be a part of any. */
  hasWords: boolean;
}

const root = new URL("../../", import.meta.url);

/** Whose words are printed because they were asked for, or are for other programs. */
const otherFiles = [
  ...["lib/completion_bash.ts", "lib/help.ts", "lib/library.ts"],
  ...["lib/control_information.ts", "lib/metrics_text.ts"],
  ...["lib/resume_perl.ts", "lib/resume_python.ts"],
  ...["lib/status_line.ts", "lib/status_text.ts"],
];

/** Words about bytes, for whoever made them: the page has the messages that they come in. */
const peerErrors = /^(Protocol|ChannelProtocol|MalformedData|KeyExchange|Range|Type)Error$/;

/** Calls that ask about a text, or make something else of it than a message. */
const otherCalls =
  /^(includes|startsWith|endsWith|indexOf|has|get|test|join|group|Symbol|violate|enter|toggle)$/;

/** Properties that hold the words of the help, and names of states. */
const otherProperties = /^(description|kind|usage|brief|about)$/;

type Node = Extract<Deno.lint.Node, { parent: unknown }>;
type AnyNode = Deno.lint.Node | Node["parent"];

/** All texts of `main.ts` and `lib/`. */
export function readSourceTexts(): SourceText[] {
  const names = [...Deno.readDirSync(new URL("lib/", root))].map(({ name }) => `lib/${name}`);
  return ["main.ts", ...names.sort()].filter((file) => !otherFiles.includes(file)).flatMap((file) =>
    textsOf(file, Deno.readTextFileSync(fileURLToPath(new URL(file, root))))
  );
}

/** The texts of one file; Deno parses it within `deno test` alone. */
export function textsOf(file: string, source: string): SourceText[] {
  const texts: SourceText[] = [];
  const lineAt = (offset: number) => source.slice(0, offset).split("\n").length;
  /** The names of the parameters of the functions of the file. */
  const parameters = new Map<string, (string | undefined)[]>();
  const found: Node[] = [];
  const onText = (node: Node) => {
    if (isSum(node.parent)) return;
    found.push(node);
  };
  const plugin: Deno.lint.Plugin = {
    name: "texts",
    rules: {
      texts: {
        create: () => ({
          FunctionDeclaration({ id, params }) {
            if (id) {
              parameters.set(
                id.name,
                params.map((it) => it.type === "Identifier" ? it.name : undefined),
              );
            }
          },
          Literal: (node) => void (typeof node.value === "string" && onText(node)),
          TemplateLiteral: onText,
          BinaryExpression: (node) => void (isSum(node) && onText(node)),
        }),
      },
    },
  };
  Deno.lint.runPlugin(plugin, file, source);
  for (const node of found) {
    const parts = partsOf(node);
    if (!/\p{L}/u.test(parts.join("")) || isSomethingElse(node, parameters)) continue;
    const isLogged = around(node).some(({ name }) => logLevels.test(name ?? ""));
    const place = `${file}:${lineAt(node.range[0])}`;
    for (const line of linesOf(parts)) {
      const parts = isLogged ? line.flatMap((part) => part.split(/\{\w+\}/)) : line;
      texts.push({ place, parts, hasWords: hasWords(parts) });
    }
  }
  return texts;
}

/** Where a text has several lines, each of them counts by itself. */
function linesOf(parts: string[]): string[][] {
  const lines: string[][] = [[]];
  for (const part of parts) {
    const [first, ...others] = part.split("\n");
    lines.at(-1)!.push(first!);
    lines.push(...others.map((other) => [other]));
  }
  return lines;
}

const logLevels = /^(warn|error)$/;

function isSum(node: AnyNode): boolean {
  return node.type === "BinaryExpression" && node.operator === "+";
}

/** The fixed parts of a literal, a template or a sum of them. */
function partsOf(node: AnyNode): string[] {
  if (node.type === "Literal" && typeof node.value === "string") return [node.value];
  if (node.type === "TemplateLiteral") return node.quasis.map(({ cooked }) => cooked);
  if (node.type === "BinaryExpression" && node.operator === "+") {
    const [left, right] = [partsOf(node.left), partsOf(node.right)];
    return [...left.slice(0, -1), left.at(-1)! + right[0]!, ...right.slice(1)];
  }
  return ["", ""];
}

/** Whether there are two words beside each other, or with values between. */
function hasWords(parts: string[]): boolean {
  const text = parts.join("{}");
  return /\p{L}{2,}.* .*\p{L}{2,}/u.test(text) && /\p{Ll}{2,}/u.test(text);
}

/** The calls and properties around a node up to its statement, innermost first. */
function around(
  node: Node,
): {
  name: string | undefined;
  call?: Deno.lint.CallExpression | Deno.lint.NewExpression;
  argument: AnyNode;
}[] {
  const result = [];
  let at: AnyNode = node;
  for (let next: AnyNode = node.parent; "parent" in next; at = next, next = next.parent) {
    if (/Statement$|Declaration$|^Arrow|^FunctionExpression$/.test(next.type)) break;
    if (next.type === "CallExpression" || next.type === "NewExpression") {
      result.push({ name: nameOf(next.callee), call: next, argument: at });
    } else if (next.type === "Property" && next.value.range[0] === at.range[0]) {
      result.push({ name: nameOf(next.key), argument: at });
    }
  }
  return result;
}

function nameOf(node: AnyNode): string | undefined {
  if (node.type === "Identifier" || node.type === "PrivateIdentifier") return node.name;
  return node.type === "MemberExpression" ? nameOf(node.property) : undefined;
}

function isSomethingElse(node: Node, parameters: Map<string, (string | undefined)[]>): boolean {
  if (/^(TS|Import|Export)|^Switch/.test(node.parent.type)) return true;
  if (node.parent.type === "BinaryExpression" && /[=<>]/.test(node.parent.operator)) return true;
  return around(node).some(({ name, call, argument }) => {
    if (name === undefined) return false;
    if (call === undefined) return otherProperties.test(name);
    const isLesser = /^(info|debug)$/.test(name) || (name === "report" && !isError(call));
    if (isLesser || peerErrors.test(name) || otherCalls.test(name)) return true;
    const index = call.arguments.findIndex(({ range }) => range[0] === argument.range[0]);
    return parameters.get(name)?.[index] === "description";
  });
}

/** Whether what is reported is more than something that happens. */
function isError(call: Deno.lint.CallExpression | Deno.lint.NewExpression): boolean {
  return call.arguments.some((it) => it.type === "Literal" && it.value === "error");
}
