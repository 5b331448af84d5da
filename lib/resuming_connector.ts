/**
 * Connections that outlive the network (`--resume`): over the connection to the host, the carrier,
 * runs a program that keeps a connection to the host's own sshd, and hands it from carrier to
 * carrier. The connection that is used runs in that one, and is encrypted from end to end.
 */

import { Backoff } from "./backoff.ts";
import type { Carried } from "./carried.ts";
import {
  CannotResumeError,
  type Carrier,
  type CarrierOptions,
  type CarrierRequest,
  NotKeptError,
  openCarrier,
} from "./carrier.ts";
import type { ConnectionHandlers, Connector, Connects } from "./connector.ts";
import type { Inquiry } from "./credential_questions.ts";
import {
  AuthenticationError,
  HostKeyError,
  NegotiationError,
  UpstreamLostError,
} from "./errors.ts";
import type { Session } from "./handshake.ts";
import { plainKeyOf } from "./key_certificate.ts";
import { logger } from "./log.ts";
import { isSameKey } from "./public_key.ts";
import { ResumeStream } from "./resume_stream.ts";
import { SameKeyTrust } from "./same_key_trust.ts";
import { ServerKeepalives } from "./server_keepalives.ts";
import type { Peer } from "./transport.ts";

const log = logger("resume");

/** sshd's ClientAliveCountMax, where nobody says otherwise. */
const usualAliveCount = 3;

/** How connections are resumed. */
export interface ResumingOptions {
  /** How long the host keeps one without a carrier, in milliseconds. */
  resumeForMs: number;
  /** The longest wait between attempts. */
  maximumDelayMs: number;
  /** How carriers are watched. */
  keepalive: CarrierOptions["keepalive"];
  /** Told of each connection, and of what carries it. */
  onCarried?(carried: Carried, transport: Peer): void;
}

/** Makes connections that outlive the network; where the host cannot, others. */
export class ResumingConnector implements Connects {
  readonly #connector: Connector;
  readonly #options: ResumingOptions;
  readonly #streams = new Set<Promise<void>>();
  #isPossible = true;
  #isIntervalTold = false;
  /** Why the host could not keep the last one. */
  #reported: string | undefined;

  constructor(connector: Connector, options: ResumingOptions) {
    this.#connector = connector;
    this.#options = options;
  }

  get name(): string {
    return this.#connector.name;
  }

  /** Resolves when no connection of its is left, and the host has been told of the end of each. */
  async whenClosed(): Promise<void> {
    await Promise.all(this.#streams);
  }

  async connect(handlers: ConnectionHandlers): Promise<void> {
    if (this.#isPossible) {
      try {
        await this.#connect(handlers);
        this.#reported = undefined;
        return;
      } catch (error) {
        if (!(error instanceof CannotResumeError)) throw error;
        this.#isPossible = error.mayPass;
        this.#report(error);
        const inquiry = inquiryOf(
          "--resume has failed; this login is for a connection without it.",
        );
        return await this.#connector.connect({ ...handlers, inquiry });
      }
    }
    await this.#connector.connect(handlers);
  }

  /** Each reason is told once in a row. */
  #report({ message, mayPass }: CannotResumeError): void {
    if (message === this.#reported) return;
    this.#reported = message;
    const until = mayPass ? "; the next one is tried with it again" : "";
    log.warn(
      "--resume: {name} cannot keep a connection, and this one ends with the network: {reason}",
      { name: this.name, reason: message.replace(/\.$/, "") + until },
    );
  }

  async #connect(handlers: ConnectionHandlers): Promise<void> {
    const { resumeForMs, maximumDelayMs } = this.#options;
    const [name, token] = [randomText(), randomText()];
    const seconds = Math.ceil(resumeForMs / 1000);
    let session: Session | undefined;
    const carrier = await this.#open({ kind: "new", name, token, seconds }, {
      ...handlers,
      onSession: (of) => session = of,
    });
    const { verdict, hostKey, address } = session!;
    const { path } = carrier.answer;
    const stream = new ResumeStream(carrier, {
      ...{ name: this.name, resumeForMs, backoff: new Backoff(maximumDelayMs) },
      attach: async (has, { onReached, ...attempt }) => {
        let isSameHost = true;
        const onSession = (of: Session) => {
          isSameHost = isSameKey(plainKeyOf(of.hostKey!), plainKeyOf(hostKey!));
          onReached();
        };
        try {
          return await this.#open({ kind: "attach", path, token, has }, { ...attempt, onSession });
        } catch (error) {
          if (isSameHost || !(error instanceof NotKeptError)) throw error;
          // One of several by that name: the next attempt may lead to the right one.
          throw new UpstreamLostError(
            `${this.name}: another host answers, by its key, which keeps nothing. Connect by a ` +
              `name that leads to one host alone.`,
            { cause: error },
          );
        }
      },
    });
    const inquiry = inquiryOf(
      "You are logged in. --resume needs a second login; what is good only once was used in the first.",
    );
    const { whenClosed } = stream;
    this.#streams.add(whenClosed);
    void whenClosed.then(() => this.#streams.delete(whenClosed));
    try {
      await this.#connector.connectOver(stream, {
        ...{ ...handlers, inquiry },
        trust: new SameKeyTrust(this.name, { key: hostKey!, verdict }),
        onReady: (transport, inner) => {
          const keepalives = new ServerKeepalives((it) => this.#onServerInterval(it));
          const onServerKeepalive = () => keepalives.onKeepalive(performance.now());
          handlers.onReady(transport, { ...inner, address, carried: stream, onServerKeepalive });
          this.#options.onCarried?.(stream, transport);
        },
      });
    } catch (error) {
      stream.close();
      throw reasonOf(error, { stream, inquiry });
    }
  }

  /** sshd ends what does not answer: told once, as long as it would be sooner than we do. */
  #onServerInterval(seconds: number): void {
    const lives = seconds * usualAliveCount;
    if (this.#isIntervalTold || lives * 1000 >= this.#options.resumeForMs) return;
    this.#isIntervalTold = true;
    log.warn(
      "--resume: {name} asks about every {seconds} s for a sign of life (ClientAliveInterval), and ends " +
        "what is away for longer than ClientAliveCountMax times that: {lives} s, unless its " +
        "administrator says otherwise",
      { name: this.name, seconds, lives },
    );
  }

  #open(
    request: CarrierRequest,
    attempt: Omit<CarrierOptions, "connector" | "keepalive">,
  ): Promise<Carrier> {
    const { signal, mayAsk, inquiry, isAttended, onSession } = attempt;
    const { keepalive } = this.#options;
    return openCarrier(request, {
      ...{ connector: this.#connector, keepalive, signal, mayAsk, inquiry, isAttended, onSession },
    });
  }
}

function inquiryOf(why: string): Inquiry {
  return { why, state: "unasked" };
}

/** What the host does not grant from its own address is no reason to fail. */
function reasonOf(
  error: unknown,
  { stream, inquiry }: { stream: ResumeStream; inquiry: Inquiry },
): unknown {
  // Nobody has answered: that is so without --resume as well.
  if (inquiry.state === "open") return error;
  if (inquiry.state === "answered" && error instanceof AuthenticationError) {
    return new CannotResumeError(
      "it has refused the second login, for the answers or since it does not let in whoever comes " +
        `from its own address: ${error.message}`,
      { mayPass: true, cause: error },
    );
  }
  const isRefusal = error instanceof AuthenticationError || error instanceof HostKeyError ||
    error instanceof NegotiationError;
  // sshd has let nobody in at this moment, perhaps.
  const mayPass = error instanceof UpstreamLostError && stream.hasEnded;
  if (!isRefusal && !mayPass) return error;
  return new CannotResumeError(
    `it does not let in whoever comes from its own address: ${error.message}`,
    { mayPass, cause: error },
  );
}

/** 128 bits. */
function randomText(): string {
  return crypto.getRandomValues(new Uint8Array(16)).toHex();
}
