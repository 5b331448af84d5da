/**
 * Checks the links between our own pages: the files are there, and so are the headings that the
 * links lead to. Links to other places are not followed.
 *
 *     deno run -A .ci/links.ts
 */

import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

/** A link on a page: `to` as it is written, `line` from 1. */
interface Link {
  to: string;
  line: number;
}

/** A page of ours: where it leads, and what can be led to on it. */
interface Page {
  links: Link[];
  anchors: Set<string>;
}

const root = fileURLToPath(new URL("../", import.meta.url));
const folders = [".", ".github"];

/** `[text](target)`, `[name]: target`, and the same in HTML. */
const linkForms = [
  /\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)/g,
  /^\[[^\]]+\]: (\S+)/g,
  /\b(?:href|src|srcset)="([^"]+)"/g,
];

function parsePage(text: string): Page {
  const page: Page = { links: [], anchors: new Set() };
  let fence: string | undefined;
  text.split("\n").forEach((line, index) => {
    const [, marks] = /^ *(`{3,}|~{3,})/.exec(line) ?? [];
    if (marks !== undefined) {
      fence = fence === undefined ? marks : marks.startsWith(fence) ? undefined : fence;
    }
    if (fence !== undefined || marks !== undefined) return;
    const [, heading] = /^#{1,6} (.*?)(?: #+)?$/.exec(line) ?? [];
    if (heading !== undefined) addAnchor(page.anchors, heading);
    const outsideCode = line.replace(/`[^`]*`/g, "");
    for (const form of linkForms) {
      for (const [, to] of outsideCode.matchAll(form)) {
        page.links.push({ to: to!, line: index + 1 });
      }
    }
  });
  return page;
}

/** Adds the anchor that GitHub makes of a heading; one that is there gets a number. */
function addAnchor(anchors: Set<string>, heading: string): void {
  const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase();
  const anchor = text.replace(/[^\p{L}\p{M}\p{N}\p{Pc} -]/gu, "").replaceAll(" ", "-");
  let unique = anchor;
  for (let number = 1; anchors.has(unique); number++) unique = `${anchor}-${number}`;
  anchors.add(unique);
}

/** What is wrong with a link on the page at `path`, or `undefined`. */
function faultOf(
  { to }: Link,
  { path, pages }: { path: string; pages: ReadonlyMap<string, Page> },
): string | undefined {
  if (/^[a-z][a-z0-9+.-]*:/i.test(to)) return undefined;
  const [file, anchor] = to.split("#");
  const target = file === "" ? path : normalize(join(dirname(path), decodeURI(file!)));
  const page = pages.get(target);
  if (page === undefined && !exists(target)) return `there is no ${target}`;
  if (anchor === undefined || page?.anchors.has(anchor)) return undefined;
  return `${target} has no heading for #${anchor}`;
}

function exists(path: string): boolean {
  try {
    Deno.statSync(root + path);
    return true;
  } catch {
    return false;
  }
}

const paths = folders.flatMap((folder) =>
  Array.from(Deno.readDirSync(root + folder), ({ name }) => normalize(join(folder, name)))
    .filter((path) => path.endsWith(".md"))
);
const pages = new Map(
  paths.map((path) => [path, parsePage(Deno.readTextFileSync(root + path))]),
);
const faults = [
  ...Array.from(pages).flatMap(([path, { links }]) =>
    links.flatMap((link) => {
      const fault = faultOf(link, { path, pages });
      return fault === undefined ? [] : [`${path}:${link.line} ${link.to}: ${fault}`];
    })
  ),
];
for (const fault of faults) console.error(fault);
if (faults.length > 0) Deno.exit(1);
const count = Array.from(pages.values()).reduce((sum, { links }) => sum + links.length, 0);
console.log(`links: ${count} on ${pages.size} pages, none of ours is dead`);
