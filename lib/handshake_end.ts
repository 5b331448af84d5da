/** What the end of a connection to upstream means: which error it is, and what may help. */

import type { Refusal } from "./acquaintance.ts";
import {
  AuthenticationError,
  HostKeyError,
  MalformedDataError,
  NegotiationError,
  reasonOf,
  UpstreamLostError,
} from "./errors.ts";
import type { Ssh2End } from "./ssh2_client.ts";
import type { ConnectionEnd } from "./transport.ts";

/** How far a connection that is not ready has come. */
export type HandshakePhase = "identification" | "key exchange" | "authentication";

/** Whose connection it was. */
export interface EndedHost {
  /** `user@host:port`. */
  name: string;
  /** Whether it is on the way to another host: of the options only `-F` counts for it. */
  isJump: boolean;
}

/**
 * The reason codes of a DISCONNECT that the next attempt would meet again: key exchange failed, no
 * such service, protocol version, host key not verifiable, no more methods, illegal user name.
 */
const lastingReasons: readonly number[] = [3, 7, 8, 9, 14, 15];

/** Why a handshake failed. */
export function handshakeError(end: Ssh2End, host: EndedHost, phase: HandshakePhase): Error {
  // In the clear anybody may have said it: worth another try.
  const error = end.kind === "disconnected" && phase !== "authentication"
    ? new UpstreamLostError(`${host.name}: ${end.description}`, { cause: end.error })
    : classify(end, host, phase);
  const advice = adviceFor(end, phase);
  if (!(error instanceof UpstreamLostError) || advice === undefined) return error;
  return new UpstreamLostError(`${error.message}. ${advice}`, { cause: error.cause });
}

/** What the end says of a host that was sent something ahead of its answers. */
export function refusalBy(end: Ssh2End, phase: HandshakePhase): Refusal {
  if (phase === "identification") return "unidentified";
  if (end.kind === "unforeseen") return "changed";
  return end.kind === "failed" ? "unanswered" : "refused";
}

/** The server has not done in time what the phase is about. */
export function lateError(
  { name }: EndedHost,
  phase: HandshakePhase,
  timeoutMs: number,
): UpstreamLostError {
  const limit = timeoutMs < 120_000 ? `${timeoutMs / 1000} s` : `${timeoutMs / 60_000} min`;
  const late: Record<HandshakePhase, string> = {
    "identification": `${name} has not identified itself within ${limit}. ` +
      `Check the port, and that the host is not overloaded.`,
    "key exchange": `${name}: no answer within ${limit} during the key exchange. ` +
      `It may be busy: look into the host's log.`,
    "authentication": `${name}: no answer within ${limit} during authentication. If it waits ` +
      `for somebody's approval, it has to come sooner; else look into the host's log.`,
  };
  return new UpstreamLostError(late[phase]);
}

/** The end of a connection that was ready. */
export function lossOf(end: Ssh2End, host: EndedHost): ConnectionEnd {
  if (end.kind !== "disconnected") {
    return { reason: classify(end, host), endedBy: end.kind === "closed" ? "server" : "network" };
  }
  // Whatever its code is: it has let us in before, and may do so again.
  const { description, error: cause } = end;
  const reason = new UpstreamLostError(`${host.name}: ${description}`, { cause });
  return { reason, endedBy: "server" };
}

function classify(end: Ssh2End, host: EndedHost, phase?: HandshakePhase): Error {
  const { name } = host;
  const during = phase === undefined || phase === "identification"
    ? ""
    : ` during ${phase === "key exchange" ? "the key exchange" : phase}`;
  switch (end.kind) {
    case "closed":
      return new UpstreamLostError(`${name} closed the connection${during}`);
    case "unforeseen":
      return new UpstreamLostError(`${name} agrees on other algorithms than before`);
    case "violation":
      return new UpstreamLostError(`${name} broke the protocol: ${end.description}`);
    case "faulty": {
      const { words, error: cause } = end;
      if (words?.startsWith("no matching ")) return noCommonWay(name, words, cause);
      const description = words === undefined ? "" : `: ${words}`;
      return new UpstreamLostError(`${name} broke the protocol${during}${description}`, { cause });
    }
    case "key-changed":
      return new HostKeyError(
        `Host key of ${name} changed within a connection. Somebody may be listening in: do not ` +
          `connect before the host's administrator has explained it.`,
      );
    case "disconnected":
      return classifyDisconnect(end, host);
    case "failed":
      return new UpstreamLostError(`${name}: ${reasonOf(end.error)}`, { cause: end.error });
  }
}

/** `undefined` where the error says itself what to do. */
function adviceFor(end: Ssh2End, phase: HandshakePhase): string | undefined {
  const isLoggingIn = phase === "authentication";
  switch (end.kind) {
    case "closed":
      return isLoggingIn
        ? "It may limit the time or the tries for that: look into the host's log."
        : "It may be busy or limit connections: try again, and look into the host's log.";
    case "failed":
      if (end.error instanceof UpstreamLostError) return undefined;
      if (end.error.message.endsWith("does not speak SSH")) {
        return "Check the port: something other than an SSH server answers there.";
      }
      return isLoggingIn
        ? "Check the network, and look into the host's log."
        : "Check the network; the host may also be busy: look into its log.";
    case "violation":
    case "faulty":
      return "The host's SSH server, or something on the way there, is at fault: look into its log.";
    default:
      return "Look into the host's log.";
  }
}

function classifyDisconnect(
  { reasonCode, description, error: cause }: Ssh2End & { kind: "disconnected" },
  { name, isJump }: EndedHost,
): Error {
  if (reasonCode === 14 || /too many authentication failures/i.test(description)) {
    const way = isJump
      ? "IdentityFile and IdentitiesOnly in ssh's configuration"
      : "-i FILE and -o IdentitiesOnly=yes";
    return new AuthenticationError(
      `${name} ended authentication: ${description}. If an agent has many keys, name the right ` +
        `one with ${way}.`,
      { cause },
    );
  }
  return lastingReasons.includes(reasonCode)
    ? noCommonWay(name, description, cause)
    : new UpstreamLostError(`${name}: ${description}`, { cause });
}

function noCommonWay(name: string, description: string, cause: Error): NegotiationError {
  return new NegotiationError(
    `${name} and sshshim have no common way to talk: ${description}. ` +
      `See which algorithms the server has with "ssh -vv".`,
    { cause },
  );
}

/** Of what authentication throws, a message of the server that makes no sense. */
export function asOurs(error: Error, { name }: EndedHost): Error {
  if (!(error instanceof MalformedDataError)) return error;
  return new UpstreamLostError(
    `${name} broke the protocol during authentication: ${error.message}. ` +
      `Look into the host's log.`,
    { cause: error },
  );
}
