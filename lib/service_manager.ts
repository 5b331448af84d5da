/**
 * What the service manager that started us is told, by the messages of sd_notify(3): when the port
 * can be used, how the connection is, that the end has begun, and signs of life where it wants them.
 */

import { messageOf } from "./errors.ts";
import { loadLibc, sendDatagram } from "./libc.ts";
import { logger } from "./log.ts";

const log = logger("notify");

/** The variables that say where messages go, and how often there has to be one. */
const variables = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] as const;

/** The service manager; without one all that it is told is nothing. */
export class ServiceManager {
  readonly #send: (text: string) => void;
  readonly #watchdogMs: number | undefined;
  #watchdog: ReturnType<typeof setInterval> | undefined;

  /**
   * The one that the environment names. What it says is for us alone, so it is taken out before
   * others are started.
   */
  static fromEnvironment(): ServiceManager {
    const [address, watchdogUs, watchdogPid] = variables.map((name) => Deno.env.get(name));
    for (const name of variables) Deno.env.delete(name);
    if (!address) return new ServiceManager();
    const isWatched = watchdogPid === undefined || watchdogPid === String(Deno.pid);
    const watchdogMs = isWatched ? Number(watchdogUs) / 1000 : undefined;
    return new ServiceManager(sender(address), watchdogMs);
  }

  /** @param watchdogMs the longest silence that is taken for a life, in milliseconds. */
  constructor(send: (text: string) => void = () => {}, watchdogMs?: number) {
    this.#send = send;
    // What is no number of microseconds wants nothing.
    this.#watchdogMs = watchdogMs! > 0 ? watchdogMs : undefined;
  }

  /** The port can be used. */
  onReady(): void {
    this.#send("READY=1");
    if (this.#watchdogMs === undefined) return;
    this.#watchdog = setInterval(() => this.#send("WATCHDOG=1"), this.#watchdogMs / 2);
  }

  /** How it goes, for people. */
  onStatus(status: string): void {
    this.#send(`STATUS=${oneLine(status)}`);
  }

  /** The end has begun. May be called twice. */
  onStopping(): void {
    clearInterval(this.#watchdog);
    this.#send("STOPPING=1");
  }
}

/** What sends messages to an address; the first failure is told, and nothing is sent from then on. */
function sender(address: string): (text: string) => void {
  let isBroken = false;
  const encoder = new TextEncoder();
  return (text) => {
    if (isBroken) return;
    try {
      if (!/^[/@]./.test(address)) throw new Error("it is no unix socket");
      sendDatagram(loadLibc(), address, encoder.encode(text));
    } catch (error) {
      isBroken = true;
      log.warn("the service manager cannot be told anything at {address}: {reason}", {
        address,
        reason: messageOf(error),
      });
    }
  };
}

/** Each line is an assignment of its own. */
function oneLine(text: string): string {
  return text.replace(/[\r\n]+/g, " ").slice(0, 1000);
}
