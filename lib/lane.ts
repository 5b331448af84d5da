/**
 * A session whose standard streams came over the control socket: between the passed descriptors and
 * the relay there is no transport and no encryption.
 *
 * What it asks of upstream, and when it ends, is what ssh itself would do (RFC 4254, section 6).
 */

import type { SessionRequest } from "./control_messages.ts";
import { EscapeFilter, escapeHelp, type Wish } from "./escape_filter.ts";
import type { Dimensions, LaneStreams, Written } from "./lane_streams.ts";
import type { LaneX11 } from "./lane_x11.ts";
import type { ChannelOwner, RelayChannel } from "./relay_channel.ts";
import type { RelayClient } from "./relay_client.ts";
import { type Field, readUint32, utf8String } from "./ssh_data.ts";
import { encodeTerminalModes } from "./terminal_modes.ts";
import { unexplained } from "./timing.ts";
import type { ChannelRequest } from "./wire.ts";

/** Beyond this nothing is said of what programs on the host do wrong, in bytes. */
const mostUnwrittenBytes = 64 * 1024;

/** The status of ssh where the session has none. */
const noStatus = 255;

/** How long a BREAK is, in milliseconds; as ssh has it. */
const breakMs = 1000;

/** What the client that waits is told. */
export interface LaneEvents {
  /** The session is open. */
  onOpen(): void;
  /** It is not to be had; nothing more is told. */
  onRefused(reason: string): void;
  /** The session has no terminal, though one was wanted: the client's own is not to be raw. */
  onTerminalFailed(): void;
  /** It is over, and all of its output is written. */
  onEnd(status: number): void;
  /** What is open, for the person at the terminal. */
  describe(): string;
}

/** One session; it leaves its streams open. */
export class Lane {
  readonly #request: SessionRequest;
  readonly #x11: LaneX11 | undefined;
  readonly #streams: LaneStreams;
  readonly #events: LaneEvents;
  readonly #channel: RelayChannel;
  readonly #filter: EscapeFilter | undefined;
  readonly #reading = new AbortController();
  #status = noStatus;
  #dimensions: Dimensions | undefined;
  #onRoom: (() => void) | undefined;
  /** What is not written yet. */
  #outputBytes = 0;
  /** Upstream was told that nobody reads what it sends. */
  #isUnread = false;
  #isClosed = false;
  #hasEnded = false;

  constructor(
    client: RelayClient,
    { request, x11, streams, windowBytes, events }: {
      request: SessionRequest;
      /** Absent where it asks for none. */
      x11?: LaneX11;
      streams: LaneStreams;
      windowBytes: number;
      events: LaneEvents;
    },
  ) {
    this.#request = request;
    this.#x11 = x11;
    this.#streams = streams;
    this.#events = events;
    const { escape, wantsTerminal } = request;
    this.#filter = wantsTerminal && escape !== undefined ? new EscapeFilter(escape) : undefined;
    const body = new Uint8Array();
    this.#channel = client.openChannel("session", { body, windowBytes }, () => this.#owner);
  }

  /** The dimensions of its terminal may have changed. */
  onResize(): void {
    const dimensions = this.#request.wantsTerminal ? this.#streams.dimensions : undefined;
    const known = this.#dimensions;
    if (dimensions === undefined || known === undefined) return;
    if (fieldsOf(dimensions).every((field, index) => field === fieldsOf(known)[index])) return;
    this.#dimensions = dimensions;
    this.#channel.request("window-change", fieldsOf(dimensions));
  }

  /** Its client is gone: so is the session. May be called twice. */
  abandon(): void {
    this.#hasEnded = true;
    this.#stopReading();
    this.#streams.dropOutput();
    this.#channel.close();
  }

  readonly #owner: ChannelOwner = {
    onOpen: () => this.#onOpen(),
    onRefused: (_reasonCode, description) => this.#events.onRefused(description),
    onData: (data, isStderr) => this.#onData(data, isStderr),
    onRoom: () => this.#onRoom?.(),
    onEof: () => {},
    onRequest: (request) => this.#onRequest(request),
    onClose: () => {
      this.#isClosed = true;
      this.#stopReading();
      this.#endIfDone();
    },
  };

  #onOpen(): void {
    if (this.#hasEnded) return this.#channel.close();
    this.#events.onOpen();
    const { wantsAgent, wantsTerminal, environment } = this.#request;
    if (wantsTerminal) this.#streams.holdUntilRaw();
    if (this.#x11) this.#askForX11(this.#x11);
    if (wantsAgent) this.#channel.request("auth-agent-req@openssh.com", []);
    if (wantsTerminal) this.#askForTerminal();
    for (const variable of environment) this.#channel.request("env", [...variable]);
    this.#start();
    void this.#passInput();
  }

  #askForX11(x11: LaneX11): void {
    x11.onRejected = () => {
      if (this.#hasEnded || this.#outputBytes > mostUnwrittenBytes) return;
      this.#say("X11 connection rejected because of wrong authentication.\r\n");
    };
    this.#channel.request("x11-req", x11.request, (isGranted) => {
      if (isGranted || this.#isClosed || this.#hasEnded) return;
      this.#say("X11 forwarding request failed on channel 0\r\n");
    });
  }

  #askForTerminal(): void {
    const dimensions = this.#streams.dimensions ?? { columns: 0, rows: 0, width: 0, height: 0 };
    this.#dimensions = dimensions;
    const modes = this.#streams.terminalModes;
    const encoded = modes ? encodeTerminalModes(modes) : Uint8Array.of(0);
    const fields = [this.#request.terminal, ...fieldsOf(dimensions), encoded];
    this.#channel.request("pty-req", fields, (isGranted) => {
      if (isGranted || this.#isClosed || this.#hasEnded) return;
      this.#say("PTY allocation request failed on channel 0\r\n");
      this.#events.onTerminalFailed();
    });
  }

  #start(): void {
    const { command, isSubsystem } = this.#request;
    const kind = isSubsystem ? "subsystem" : command === "" ? "shell" : "exec";
    this.#channel.request(kind, command === "" ? [] : [command], (isGranted) => {
      if (isGranted || this.#isClosed) return;
      this.#say(`${kind} request failed on channel 0\r\n`);
      this.#channel.close();
    });
  }

  /** Reads as much as upstream takes, and one buffer ahead. */
  async #passInput(): Promise<void> {
    const { signal } = this.#reading;
    let next = this.#read(signal);
    for (;;) {
      const bytes = await next;
      if (bytes === undefined || signal.aborted) break;
      const typed = this.#filter?.take(bytes);
      for (const wish of typed?.wishes ?? []) this.#onWish(wish);
      if (signal.aborted) return;
      const isWholeRead = typed === undefined;
      // The other half of the buffer is read while this one waits for room.
      if (isWholeRead) next = this.#read(signal);
      await this.#send(typed?.bytes ?? bytes);
      if (!isWholeRead) next = this.#read(signal);
    }
    if (!signal.aborted) this.#channel.sendEof();
  }

  async #read(signal: AbortSignal): Promise<Uint8Array | undefined> {
    while (this.#channel.roomBytes === 0 && !signal.aborted) await this.#room();
    return await this.#streams.read(this.#channel.roomBytes, signal);
  }

  async #send(bytes: Uint8Array): Promise<void> {
    for (let sent = 0; sent < bytes.length && !this.#isClosed;) {
      const room = this.#channel.roomBytes;
      if (room === 0) {
        await this.#room();
        continue;
      }
      const part = bytes.subarray(sent, sent + room);
      this.#channel.send(part);
      sent += part.length;
    }
  }

  #stopReading(): void {
    this.#reading.abort(unexplained);
    this.#onRoom?.();
  }

  /** Resolves when there may be room. */
  #room(): Promise<void> {
    return new Promise((resolve) => {
      const others = this.#onRoom;
      this.#onRoom = () => {
        this.#onRoom = undefined;
        others?.();
        resolve();
      };
    });
  }

  #onData(data: Uint8Array, isStderr: boolean): void {
    this.#outputBytes += data.length;
    this.#streams.write(data, isStderr, this.#onWritten);
  }

  readonly #onWritten = ({ isTaken, bytes, isStderr }: Written): void => {
    this.#outputBytes -= bytes;
    this.#channel.consumed(bytes);
    // Nobody reads it any more: upstream may tell whoever writes it (OpenSSH's PROTOCOL, 2.1).
    if (!isTaken && !isStderr) this.#onUnread();
    this.#endIfDone();
  };

  #onUnread(): void {
    if (this.#isUnread) return;
    this.#isUnread = true;
    this.#channel.request("eow@openssh.com", []);
  }

  #onRequest({ requestType, data }: ChannelRequest): boolean {
    switch (requestType) {
      case "exit-status":
        this.#status = readUint32(data, 0);
        return true;
      case "exit-signal":
        return true;
      case "eow@openssh.com":
        // Upstream reads no more.
        this.#stopReading();
        this.#channel.sendEof();
        return true;
      default:
        return false;
    }
  }

  #onWish(wish: Wish): void {
    const escape = this.#filter!.name;
    switch (wish.kind) {
      case "end":
        this.#stopReading();
        return this.#channel.close();
      case "help":
        return this.#say(escapeHelp(escape));
      case "list":
        return this.#say(`${escape}#\r\n${this.#events.describe()}`);
      case "info":
        return this.#say(`${escape}I\r\n${this.#events.describe()}`);
      case "break":
        this.#say(`${escape}B\r\n`);
        return this.#channel.request("break", [breakMs]);
      case "rekey":
        return; // There are no keys between us.
      case "unavailable":
        return this.#say(`${escape}${wish.name} is not to be had here\r\n`);
    }
  }

  /** Something for the person, in ssh's words where it has some. */
  #say(text: string): void {
    const bytes = Uint8Array.from(utf8String(text), (character) => character.charCodeAt(0));
    this.#outputBytes += bytes.length;
    this.#streams.write(bytes, true, () => {
      this.#outputBytes -= bytes.length;
      this.#endIfDone();
    });
  }

  #endIfDone(): void {
    if (!this.#isClosed || this.#outputBytes > 0 || this.#hasEnded) return;
    this.#hasEnded = true;
    this.#events.onEnd(this.#status);
  }
}

/** As the messages have them (RFC 4254, section 6.2). */
function fieldsOf({ columns, rows, width, height }: Dimensions): Field[] {
  return [columns, rows, width, height];
}
