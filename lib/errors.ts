/**
 * The ways in which sshshim fails, and the reason codes of RFC 4250.
 *
 * A message names the action, the host or file, and what to do next. `main.ts` maps each class to
 * an exit status; everything else is a bug and exits 1.
 */

/** Reason codes of SSH_MSG_CHANNEL_OPEN_FAILURE (RFC 4250, section 4.3). */
export const ChannelOpenFailureReason = {
  administrativelyProhibited: 1,
  connectFailed: 2,
  unknownChannelType: 3,
  resourceShortage: 4,
} as const;

/** Reason codes of SSH_MSG_DISCONNECT that sshshim sends (RFC 4250, section 4.2). */
export const DisconnectReason = {
  protocolError: 2,
  keyExchangeFailed: 3,
  serviceNotAvailable: 7,
  byApplication: 11,
} as const;

/** The command line cannot be understood; exit status 2. */
export class UsageError extends Error {
  /** The class, for whoever reads it in a log. */
  override name = "UsageError";
}

/** The host key of upstream is unknown, changed or revoked; exit status 4. */
export class HostKeyError extends Error {
  /** The class, for whoever reads it in a log. */
  override name = "HostKeyError";
}

/** Upstream refused every credential, or a key file cannot be used; exit status 3. */
export class AuthenticationError extends Error {
  /** The class, for whoever reads it in a log. */
  override name = "AuthenticationError";
}

/** Upstream cannot be reached, or the connection to it ended; exit status 5. Worth another try. */
export class UpstreamLostError extends Error {
  /** The class, for whoever reads it in a log. */
  override name = "UpstreamLostError";
}

/** The same, perhaps because a server did not take what was sent before it had answered. */
export class EarlyMessagesError extends UpstreamLostError {}

/** What a peer sends in a key exchange is not to be used; the words are for people. */
export class KeyExchangeError extends Error {
  /** The class, for whoever reads it in a log. */
  override name = "KeyExchangeError";
  /** By which ssh2 tells its own errors from others. */
  readonly level = "handshake";
}

/** Upstream and we cannot agree, and will not at the next attempt either; exit status 5. */
export class NegotiationError extends Error {
  /** The class, for whoever reads it in a log. */
  override name = "NegotiationError";
}

/** Authentication needs a person, and nobody may be asked now; exit status 3. */
export class NobodyToAskError extends Error {
  /** The class, for whoever reads it in a log. */
  override name = "NobodyToAskError";
}

/** The local port or the local host key cannot be used; exit status 6. */
export class EndpointError extends Error {
  /** The class, for whoever reads it in a log. */
  override name = "EndpointError";
}

/** The files that tell ssh a name of the endpoint cannot be written; it can be used without. */
export class PublishingError extends Error {
  /** The class, for whoever reads it in a log. */
  override name = "PublishingError";
}

/** No shim of the name runs, or it does not answer, or is not what was waited for; exit status 5. */
export class NotRunningError extends Error {
  override name = "NotRunningError";
}

/** A shim that runs refuses what it is asked for; exit status 6. */
export class RefusedError extends Error {
  override name = "RefusedError";
}

/**
 * A peer broke RFC 4254: a message is malformed, or comes in a state that does not allow it.
 * Whoever handles the message ends that peer, and no other.
 */
export class ProtocolError extends Error {
  /** The class, for whoever reads it in a log. */
  override name = "ProtocolError";
}

/**
 * A peer broke RFC 4254 in a way that leaves one channel's bytes in doubt, and nothing else: whoever
 * knows the channel ends it.
 */
export class ChannelProtocolError extends ProtocolError {
  /** The class, for whoever reads it in a log. */
  override name = "ChannelProtocolError";
}

/** Bytes that are not of the data types that they should be (RFC 4251, section 5). */
export class MalformedDataError extends Error {
  /** The class, for whoever reads it in a log. */
  override name = "MalformedDataError";
}

/** What an error says, whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The operating system's words without the name of the call that failed. */
export function reasonOf(error: unknown): string {
  return messageOf(error).replace(/ \(os error \d+\).*$/s, "");
}
