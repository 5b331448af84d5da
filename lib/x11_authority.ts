/** By which cookie a display lets programs in, as xauth tells or makes it. */

import { Buffer } from "node:buffer";
import { upstreamEnvironment } from "./shell.ts";
import { cookieProtocol } from "./x11.ts";

/** How X11 is forwarded; ssh's own defaults are the usual values. */
export interface X11Settings {
  /** Whether programs may do all that a program of the display's own machine may. */
  isTrusted: boolean;
  /** How long others may connect, in milliseconds; 0 is for ever. */
  untrustedTimeoutMs: number;
  /** The program. */
  xauth: string;
}

const usualSettings: X11Settings = {
  isTrusted: false,
  untrustedTimeoutMs: 1_200_000,
  xauth: "xauth",
};

/** How long another program may take, in milliseconds. */
const patienceMs = 5000;

/** How much longer than programs are let in their cookie lives, in seconds; as ssh has it. */
const slackSeconds = 60;

/**
 * What ssh on this machine does about X11 for a host, by the user's configuration and the defaults of
 * whoever has built it; ssh's own defaults where it does not tell.
 */
export async function findX11Settings(host: string): Promise<X11Settings> {
  const text = await outputOf("ssh", ["-G", "--", host]);
  const value = (name: string) => new RegExp(`^${name} (.+)$`, "m").exec(text ?? "")?.[1];
  const seconds = value("forwardx11timeout");
  return {
    isTrusted: value("forwardx11trusted") === "yes",
    untrustedTimeoutMs: seconds !== undefined && /^\d+$/.test(seconds)
      ? Number(seconds) * 1000
      : usualSettings.untrustedTimeoutMs,
    xauth: value("xauthlocation") ?? usualSettings.xauth,
  };
}

/**
 * The display's cookie: for trusted programs the one that there is, for others a new one.
 *
 * @param environment all of xauth's, by which it finds its files.
 * @returns `undefined` where there is none.
 */
export async function findCookie(
  display: string,
  settings: X11Settings,
  environment: Record<string, string>,
): Promise<Uint8Array | undefined> {
  const { isTrusted, untrustedTimeoutMs, xauth } = settings;
  if (isTrusted) {
    return cookieIn(await outputOf(xauth, ["list", display], environment));
  }
  const folder = await Deno.makeTempDir({ prefix: "sshshim-x11-" });
  try {
    const file = `${folder}/authority`;
    const lifetime = untrustedTimeoutMs === 0
      ? []
      : ["timeout", `${untrustedTimeoutMs / 1000 + slackSeconds}`];
    const words = ["-f", file, "generate", display, cookieProtocol, "untrusted", ...lifetime];
    if (await outputOf(xauth, words, environment) === undefined) return undefined;
    return cookieIn(await outputOf(xauth, ["-f", file, "list", display], environment));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The cookie in the first line of xauth's list. */
function cookieIn(list: string | undefined): Uint8Array | undefined {
  const [line = ""] = (list ?? "").split("\n");
  const [, protocol, hex = ""] = line.trim().split(/\s+/);
  const cookie = Buffer.from(hex, "hex");
  return protocol === cookieProtocol && cookie.length > 0 ? cookie : undefined;
}

/** What a program prints, in our own environment or another one; `undefined` where it fails. */
async function outputOf(
  program: string,
  args: string[],
  environment?: Record<string, string>,
): Promise<string | undefined> {
  const ended = new AbortController();
  const timer = setTimeout(() => ended.abort(), patienceMs);
  try {
    const { success, stdout } = await new Deno.Command(program, {
      ...{ args, signal: ended.signal },
      ...environment ? { env: environment, clearEnv: true } : { env: upstreamEnvironment },
      ...{ stdin: "null", stdout: "piped", stderr: "null" },
    }).output();
    return success ? new TextDecoder().decode(stdout) : undefined;
  } catch {
    // There is no such program.
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}
