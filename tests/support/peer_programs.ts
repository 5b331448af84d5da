/** Our own programs over the libraries of others, in `tests/peers/`, and how they are made. */

import { runChecked } from "./run.ts";

/** How a program is started: its first words. */
export interface PeerProgram {
  words: readonly string[];
  /** Makes it; called once, before it is run. */
  make?: () => Promise<unknown>;
}

const sources = new URL("../peers/", import.meta.url).pathname;

/** A program that its interpreter reads as it stands. */
export function script(interpreter: readonly string[], name: string): PeerProgram {
  return { words: [...interpreter, sources + name] };
}

/** A program in C over libraries that pkg-config knows. */
export function cProgram(folder: string, name: string, libraries: readonly string[]): PeerProgram {
  const program = `${folder}/${name}`;
  const options = libraries.map((library) => `-l${library}`);
  const make = () =>
    runChecked(["gcc", "-O1", "-Wall", "-o", program, `${sources}${name}.c`, ...options]);
  return { words: [program], make };
}

/** A program in Go over the packages of Debian. */
export function goProgram(folder: string, name: string): PeerProgram {
  const program = `${folder}/${name}`;
  const environment = {
    ...{ PATH: Deno.env.get("PATH") ?? "/usr/bin", HOME: folder, GOCACHE: `${folder}/go` },
    ...{ GO111MODULE: "off", GOPATH: "/usr/share/gocode" },
  };
  const make = () =>
    runChecked(["go", "build", "-o", program, `${sources}${name}.go`], {
      environment,
      timeoutMs: 300_000,
    });
  return { words: [program], make };
}

/** A program in Java with one jar of Debian. */
export function javaProgram(folder: string, name: string, jar: string): PeerProgram {
  const make = () => runChecked(["javac", "-cp", jar, "-d", folder, `${sources}${name}.java`]);
  return { words: ["java", "-cp", `${folder}:${jar}`, name], make };
}
