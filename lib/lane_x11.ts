/**
 * X11 for one session by the control socket, as ssh forwards it: upstream is told a cookie of ours,
 * and who shows it reaches the display, to which the real one is shown (RFC 4254, section 6.3).
 *
 * The display is that of the client's own environment, as it would be at the port; of sshshim's, where
 * the system does not tell.
 */

import { randomBytes, timingSafeEqual } from "node:crypto";
import { ChannelPipe, type PipeEnd } from "./channel_pipe.ts";
import { readVariables } from "./client_environment.ts";
import { sharesOurWorld } from "./process_facts.ts";
import type { OwnerOf } from "./relay_client.ts";
import { trustsX11 } from "./ssh_arguments.ts";
import { concatenate, type Field } from "./ssh_data.ts";
import { cookieProtocol, readCookie } from "./x11.ts";
import { findCookie, findX11Settings } from "./x11_authority.ts";
import { connectToDisplay, type Display, parseDisplay } from "./x11_display.ts";

/** What ssh makes up where a display has no cookie, in bytes. */
const cookieBytes = 16;

/** What is read of a program before it has shown a cookie, at most; in bytes. */
const mostFirstBytes = 4096;

/** By which xauth and the display are found. */
const variables = ["DISPLAY", "XAUTHORITY", "HOME"] as const;

/** The display of one session, and the two cookies. */
export class LaneX11 {
  readonly #display: Display;
  readonly #cookie: Uint8Array;
  readonly #shown: Uint8Array;
  /** When programs are not let in any more, as `performance.now()` tells it. */
  readonly #closesAt: number;
  /** A program was turned away. */
  onRejected: (() => void) | undefined;

  private constructor(display: Display, cookie: Uint8Array, closesAt: number) {
    this.#display = display;
    this.#cookie = cookie;
    this.#shown = randomBytes(cookie.length);
    this.#closesAt = closesAt;
  }

  /**
   * Finds what a client's programs are to reach.
   *
   * @param pid the client, where the system tells.
   * @param host what the configuration calls the remote host.
   * @throws {Error} where ssh does better by itself.
   */
  static async find(pid: number | undefined, host: string): Promise<LaneX11> {
    const environment = await environmentOf(pid);
    const display = parseDisplay(environment.DISPLAY ?? "");
    if (display === undefined) throw new Error("there is no display here");
    const configured = await findX11Settings(host);
    const isTrusted = await trustsX11(pid) ?? configured.isTrusted;
    const settings = { ...configured, isTrusted };
    const closesAt = isTrusted || settings.untrustedTimeoutMs === 0
      ? Infinity
      : performance.now() + settings.untrustedTimeoutMs;
    const found = await findCookie(display.authorityName, settings, environment);
    if (found === undefined && !isTrusted) {
      throw new Error("the display gives no cookie for untrusted programs");
    }
    // A display without a cookie lets in by other rules, and does not look at this one.
    return new LaneX11(display, found ?? randomBytes(cookieBytes), closesAt);
  }

  /** The fields of `x11-req`. */
  get request(): Field[] {
    const hex = Array.from(this.#shown, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return [false, cookieProtocol, hex, this.#display.screen];
  }

  /** Upstream has a program that wants to reach it. @throws {Error} where it does not. */
  async join(): Promise<OwnerOf> {
    if (performance.now() >= this.#closesAt) throw new Error("ForwardX11Timeout has passed");
    const display = await connectToDisplay(this.#display);
    const connection = new IntroducedEnd(display, (first) => this.#introduce(first));
    return (channel) => new ChannelPipe(channel, { connection });
  }

  /** Puts the real cookie in the place of ours. @returns whether it is all there. @throws {Error} */
  #introduce(first: Uint8Array): boolean {
    const cookie = readCookie(first);
    if (cookie === undefined && first.length <= mostFirstBytes) return false;
    if (!cookie || cookie.length !== this.#shown.length || !timingSafeEqual(cookie, this.#shown)) {
      this.onRejected?.();
      throw new Error("it has shown a wrong cookie");
    }
    cookie.set(this.#cookie);
    return true;
  }
}

/** A display's connection that is told nothing before what comes first was looked at. */
class IntroducedEnd implements PipeEnd {
  readonly #connection: PipeEnd;
  readonly #introduce: (first: Uint8Array) => boolean;
  #first: Uint8Array | undefined = new Uint8Array();

  constructor(connection: PipeEnd, introduce: (first: Uint8Array) => boolean) {
    this.#connection = connection;
    this.#introduce = introduce;
  }

  read(buffer: Uint8Array): Promise<number | null> {
    return this.#connection.read(buffer);
  }

  async write(bytes: Uint8Array): Promise<number> {
    if (this.#first === undefined) return await this.#connection.write(bytes);
    const first = concatenate([this.#first, bytes]);
    this.#first = first;
    if (!this.#introduce(first)) return bytes.length;
    this.#first = undefined;
    for (let sent = 0; sent < first.length;) {
      sent += await this.#connection.write(first.subarray(sent));
    }
    return bytes.length;
  }

  closeWrite(): Promise<void> {
    return this.#connection.closeWrite();
  }

  close(): void {
    this.#connection.close();
  }
}

/** Our own environment with the client's display. @throws {Error} where that is somewhere else. */
async function environmentOf(pid: number | undefined): Promise<Record<string, string>> {
  const own = Deno.env.toObject();
  const theirs = await readVariables(pid);
  if (theirs === undefined) return own;
  if (!await sharesOurWorld(pid!)) throw new Error("the client's display is in another container");
  for (const name of variables) {
    if (theirs[name] === undefined) delete own[name];
    else own[name] = theirs[name];
  }
  return own;
}
