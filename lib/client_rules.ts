/**
 * What one client may do, where the key that it logged in with is for some things only: sshd's
 * options of authorized keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT) as a relay can keep to them.
 *
 * What is refused never reaches upstream. Strings are byte strings, as messages have them.
 */

import { matchesPattern } from "./pattern.ts";
import { buildMessage, Reader } from "./ssh_data.ts";
import { usualPayloadBytes } from "./transport.ts";
import { type ChannelOpen, type ChannelRequest, type GlobalRequest, MessageType } from "./wire.ts";

/** A host, or a pattern of hosts, and a port. */
export interface PermittedPlace {
  /** `*` is any. */
  host: string;
  port: number | "*";
}

/** What the options of a key allow. */
export interface KeyPermissions {
  /** What is run in the place of whatever is asked for. */
  command: string | undefined;
  /** Variables for each program, as far as the remote host takes them. */
  environment: readonly (readonly [name: string, value: string])[];
  terminal: boolean;
  agentForwarding: boolean;
  x11Forwarding: boolean;
  portForwarding: boolean;
  /** The only places to connect to; `undefined` for any. */
  permittedOpens: readonly PermittedPlace[] | undefined;
  /** The only places to listen at on the remote host; `undefined` for any. */
  permittedListens: readonly PermittedPlace[] | undefined;
}

/** A key without options. */
export const everything: KeyPermissions = {
  command: undefined,
  environment: [],
  terminal: true,
  agentForwarding: true,
  x11Forwarding: true,
  portForwarding: true,
  permittedOpens: undefined,
  permittedListens: undefined,
};

/** With this as its command a key is for file transfer alone, as with sshd. */
export const sftpCommand = "internal-sftp";

/** Requests on a channel that start nothing and lend nothing. */
const harmlessRequests: readonly string[] = [
  "env",
  "window-change",
  "xon-xoff",
  "signal",
  "break",
  "eow@openssh.com",
  "keepalive@openssh.com",
];

/** Sees to it that a client keeps to what its key is for. */
export class ClientRules {
  readonly #permissions: KeyPermissions;
  /** Whether anything is refused at all: then so is what is not known here. */
  readonly #isScoped: boolean;
  readonly #onRefusal: (what: string) => void;
  readonly #told = new Set<string>();

  /** @param onRefusal told once of each kind of thing that is refused. */
  constructor(permissions: KeyPermissions, onRefusal: (what: string) => void) {
    const { environment: _, ...restrictions } = permissions;
    this.#permissions = permissions;
    this.#isScoped = Object.entries(restrictions).some(([name, value]) =>
      value !== everything[name as keyof KeyPermissions]
    );
    this.#onRefusal = onRefusal;
  }

  /** Why a channel may not be opened; `undefined` where it may. */
  objectionToOpen({ channelType, data }: ChannelOpen): string | undefined {
    return this.#permitsOpen(channelType, data)
      ? undefined
      : this.#refuse(`channels of type ${kindOf(channelType, knownChannels)}`);
  }

  /** Whether a remote forward may be asked for, or ended. */
  permitsForward({ name, data }: GlobalRequest): boolean {
    if (name.startsWith("cancel-") || this.#permitsListen(name, data)) return true;
    this.#refuse("this remote forward");
    return false;
  }

  /**
   * The messages that go upstream in the place of a request; `undefined` where it is refused.
   *
   * @param payload the request as bytes.
   */
  apply(request: ChannelRequest, payload: Uint8Array): Uint8Array[] | undefined {
    const messages = this.#messagesFor(request, payload);
    if (messages === undefined) {
      this.#refuse(`requests of type ${kindOf(request.requestType, knownRequests)}`);
    }
    return messages;
  }

  #permitsOpen(channelType: string, data: Uint8Array): boolean {
    const { portForwarding, permittedOpens } = this.#permissions;
    switch (channelType) {
      case "session":
        return true;
      case "direct-tcpip": {
        const reader = new Reader(data);
        const [host, port] = [reader.text(), reader.uint32()];
        // As with sshd, names are compared as they are spelled.
        return portForwarding && (permittedOpens === undefined ||
          permittedOpens.some((it) => fits(it, port) && (it.host === "*" || it.host === host)));
      }
      case "direct-streamlocal@openssh.com":
        return portForwarding && permittedOpens === undefined;
      default:
        return !this.#isScoped;
    }
  }

  #permitsListen(name: string, data: Uint8Array): boolean {
    const { portForwarding, permittedListens } = this.#permissions;
    if (!portForwarding || permittedListens === undefined) return portForwarding;
    if (name !== "tcpip-forward") return false;
    const reader = new Reader(data);
    const [host, port] = [reader.text().toLowerCase(), reader.uint32()];
    return permittedListens.some((it) => fits(it, port) && matchesPattern(host, it.host));
  }

  #messagesFor(request: ChannelRequest, payload: Uint8Array): Uint8Array[] | undefined {
    const { terminal, agentForwarding, x11Forwarding } = this.#permissions;
    const { requestType } = request;
    switch (requestType) {
      case "shell":
      case "exec":
      case "subsystem":
        return this.#program(request, payload);
      case "pty-req":
        return terminal ? [payload] : undefined;
      case "auth-agent-req@openssh.com":
      case "agent-req":
        return agentForwarding ? [payload] : undefined;
      case "x11-req":
        return x11Forwarding ? [payload] : undefined;
      default:
        return harmlessRequests.includes(requestType) || !this.#isScoped ? [payload] : undefined;
    }
  }

  #program(request: ChannelRequest, payload: Uint8Array): Uint8Array[] | undefined {
    const { command, environment } = this.#permissions;
    const { recipientChannel, requestType, wantReply, data } = request;
    const build = (name: string, wantReply: boolean, ...fields: string[]) =>
      buildMessage(MessageType.channelRequest, recipientChannel, name, wantReply, ...fields);
    const variables = environment.map(([name, value]) => build("env", false, name, value));
    if (command === undefined) return [...variables, payload];
    const asked = requestType === "shell" ? undefined : new Reader(data).text();
    if (command === sftpCommand) {
      const isSftp = requestType === "subsystem" && asked === "sftp";
      return isSftp ? [...variables, payload] : undefined;
    }
    const forced = build("exec", wantReply, forcedCommand(command, asked));
    return forced.length > usualPayloadBytes ? undefined : [...variables, forced];
  }

  #refuse(what: string): string {
    if (!this.#told.has(what)) {
      this.#told.add(what);
      this.#onRefusal(what);
    }
    return "the options of the key do not allow it";
  }
}

/** What is called by its name in the log: whoever is refused may make names up, one after another. */
const knownChannels = ["direct-tcpip", "direct-streamlocal@openssh.com", "tun@openssh.com"];
const knownRequests = [
  ...["shell", "exec", "subsystem", "pty-req"],
  ...["auth-agent-req@openssh.com", "agent-req", "x11-req"],
];

function kindOf(name: string, known: readonly string[]): string {
  return known.includes(name) ? name : "another kind";
}

function fits({ port }: PermittedPlace, asked: number): boolean {
  return port === "*" || port === asked;
}

/**
 * A command for a POSIX shell that runs the forced one, with what was asked for in
 * SSH_ORIGINAL_COMMAND, as sshd sets it.
 *
 * What was asked for is anybody's text. Here it is letters, digits, harmless signs and octal numbers
 * alone, so that no shell, whichever it is, can take a part of it for its own.
 */
export function forcedCommand(command: string, asked: string | undefined): string {
  if (asked === undefined) return command;
  const encoded = asked.replace(/[^A-Za-z0-9 _.,:=@/+-]/g, (character) => {
    return `\\0${character.charCodeAt(0).toString(8).padStart(3, "0")}`;
  });
  return `SSH_ORIGINAL_COMMAND="$(printf %b '${encoded}')"; ` +
    `export SSH_ORIGINAL_COMMAND; ${command}`;
}
