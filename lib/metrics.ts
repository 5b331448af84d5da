/** `--metrics`: the page of metrics, by HTTP on loopback. */

import { EndpointError, messageOf } from "./errors.ts";
import { logger } from "./log.ts";
import { metricsText, metricsType } from "./metrics_text.ts";
import type { ShimStatus } from "./status.ts";

const log = logger("metrics");

const path = "/metrics";

/** Where the page is. */
export interface MetricsAddress {
  hostname: string;
  port: number;
}

/** What the page is made of, for all hosts that are served. */
export type ReadStatuses = () => Promise<readonly ShimStatus[]>;

/** Serves the page until it is closed. */
export class MetricsServer implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #closing = new AbortController();

  /** @throws {EndpointError} where the port cannot be had. */
  constructor({ hostname, port }: MetricsAddress, read: ReadStatuses) {
    try {
      this.#server = Deno.serve({
        hostname,
        port,
        signal: this.#closing.signal,
        onListen: () => {},
        onError: (error) => {
          log.error("no metrics: {error}", { error });
          return answer(500, "sshshim has made a mistake; its log has more\n");
        },
      }, (request) => respond(request, read));
    } catch (cause) {
      throw new EndpointError(
        `The metrics cannot be served at ${at({ hostname, port })}: ${messageOf(cause)}. ` +
          `Name another port with --metrics ADDR:PORT.`,
        { cause },
      );
    }
    log.info("metrics at {url}", { url: this.url });
  }

  /** Where the page is. */
  get url(): string {
    return `http://${at(this.#server.addr)}${path}`;
  }

  /** Nobody is answered any more, and nobody is waited for. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#server.finished;
  }
}

async function respond(request: Request, read: ReadStatuses): Promise<Response> {
  const { hostname, pathname } = new URL(request.url);
  // A page of the web that has its own name lead to loopback is to read nothing.
  if (!isLoopbackName(hostname)) return answer(403, "ask for it by a loopback address\n");
  if (pathname !== path) return answer(404, `there is ${path} alone\n`);
  if (request.method !== "GET" && request.method !== "HEAD") {
    return answer(405, "there is GET alone\n", { allow: "GET, HEAD" });
  }
  return answer(200, metricsText(await read()), { "content-type": metricsType });
}

function answer(status: number, body: string, headers: Record<string, string> = {}): Response {
  return new Response(body, {
    status,
    headers: {
      "content-type": "text/plain; charset=utf-8",
      "cache-control": "no-store",
      ...headers,
    },
  });
}

/** Whether the host of an URL is a loopback address, or the name of one. */
function isLoopbackName(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(?:\.\d{1,3}){3}$/.test(hostname);
}

function at({ hostname, port }: MetricsAddress): string {
  return `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
}
