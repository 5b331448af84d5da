/**
 * What the clients of the control socket do with one host: sessions and forwarded connections on the
 * streams that they pass, the connection protocol without encryption, and forwards. Each of them is a
 * client of the relay.
 */

import type { ClientFacts } from "./audit.ts";
import { describeProgram, type Identify } from "./client_program.ts";
import { ChannelPipe } from "./channel_pipe.ts";
import { mayHaveVariable } from "./client_environment.ts";
import type {
  Answer,
  ControlGuest,
  ControlHost,
  Passenger,
  PassengerOptions,
} from "./control_connection.ts";
import type { ForwardEnd, ForwardRequest, SessionRequest } from "./control_messages.ts";
import { ProxyTransport } from "./control_proxy.ts";
import type { ControlSocket } from "./control_socket.ts";
import type { ControlStream } from "./control_stream.ts";
import type { Credentials, Descriptors } from "./descriptors.ts";
import { messageOf } from "./errors.ts";
import { maximumCreditBytes } from "./flow.ts";
import { Lane } from "./lane.ts";
import { LaneEnd } from "./lane_end.ts";
import { LaneStreams } from "./lane_streams.ts";
import { LaneX11 } from "./lane_x11.ts";
import type { Presence } from "./lifetime.ts";
import { logger } from "./log.ts";
import type { Reception } from "./reception.ts";
import type { Relay } from "./relay.ts";
import { type OwnerOf, RelayClient } from "./relay_client.ts";
import type { ClientAbout } from "./relay_status.ts";
import { wantsMoreThanOneRequest, wantsNoSession } from "./ssh_arguments.ts";
import { encodeFields } from "./ssh_data.ts";
import type { Carrier } from "./status.ts";
import type { Peer } from "./transport.ts";
import type { ChannelOpen } from "./wire.ts";

const log = logger("control");

/** How many clients may pass their streams at a time: what they wait for takes threads. */
const mostLanes = 128;

/** What may be under way to all of them together, and the least to one of them, in bytes. */
const poolBytes = 32 * 1024 * 1024;
const smallestWindowBytes = 64 * 1024;

/** What the control socket of one host is made of. */
export interface ControlOptions {
  relay: Relay;
  /** What ssh's configuration calls the host. */
  alias: string;
  /** The calls by which streams are passed, where there are such. */
  system: Descriptors | undefined;
  /** Why nobody may use the host by this way; `undefined` where they may. */
  objection: string | undefined;
  reception: Reception | undefined;
  /** Tells whose process a client is. */
  identify: Identify;
  presence: Presence;
  nextClientId(): number;
  /** The socket of the agent that is lent to sessions; `undefined` where there is none. */
  agentSocket: string | undefined;
  /** The forwards that clients open and leave open. */
  forwards: {
    open(request: ForwardRequest): Promise<{ port?: number; close(): Promise<void> }>;
    close(request: ForwardRequest): Promise<void>;
  };
  /** What ssh's `-O conninfo` and `-O channels` show. @throws {Error} */
  inform(name: string): Promise<string>;
  /** A request of our own, as JSON. @throws {Error} */
  onOwnRequest(text: string, answer: Answer, signal: AbortSignal): Promise<void>;
  /** All is to end. */
  onTerminate(): void;
}

/** The use of one host by its control socket. */
export class Control implements ControlHost {
  readonly #options: ControlOptions;
  readonly #socket: ControlSocket;
  /** Those whose streams are not closed yet. */
  #laneCount = 0;
  #windowBytes = 0;
  readonly #terminals = new Set<Lane>();
  readonly #onResize = () => {
    for (const lane of this.#terminals) lane.onResize();
  };

  constructor(socket: ControlSocket, options: ControlOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  async receive(peer: Credentials | undefined, signal: AbortSignal): Promise<ControlGuest> {
    const { objection, reception, nextClientId } = this.#options;
    if (objection !== undefined) throw new Error(objection);
    const id = nextClientId();
    const { facts, objection: answer } = await reception?.receive({
      ...{ id, username: "" },
      ...{ process: peer },
    }, signal) ?? {};
    if (answer !== undefined) {
      log.warn("client {id} is not let in: {objection}", { id, objection: answer });
      throw new Error(`not let in: ${answer}`);
    }
    return new Guest(this, this.#options, { id, peer, facts });
  }

  async closeForward(request: ForwardRequest): Promise<void> {
    await this.#options.forwards.close(request);
  }

  inform(name: string): Promise<string> {
    return this.#options.inform(name);
  }

  onOwnRequest(text: string, answer: Answer, signal: AbortSignal): Promise<void> {
    return this.#options.onOwnRequest(text, answer, signal);
  }

  terminate(): void {
    this.#options.onTerminate();
  }

  stopListening(): void {
    log.info("the control socket is closed, as a client has asked for");
    this.#socket.stopListening();
  }

  /** Streams were passed: they count until they are closed. @returns the window for them, in bytes. */
  onPassed(streams: LaneStreams): number {
    const share = Math.floor((poolBytes - this.#windowBytes) / 8);
    const windowBytes = Math.max(smallestWindowBytes, Math.min(maximumCreditBytes, share));
    this.#windowBytes += windowBytes;
    this.#countLanes(1);
    void streams.whenClosed.then(() => {
      this.#windowBytes -= windowBytes;
      this.#countLanes(-1);
    });
    return windowBytes;
  }

  /** A session has a terminal, whose dimensions are watched from now on. */
  addTerminal(lane: Lane): void {
    // The clients pass on the signal that they get.
    if (this.#terminals.size === 0) Deno.addSignalListener("SIGWINCH", this.#onResize);
    this.#terminals.add(lane);
  }

  removeTerminal(lane: Lane): void {
    if (!this.#terminals.delete(lane) || this.#terminals.size > 0) return;
    Deno.removeSignalListener("SIGWINCH", this.#onResize);
  }

  #countLanes(change: number): void {
    this.#laneCount += change;
    this.#socket.isHidden = this.#laneCount >= mostLanes;
  }
}

/** One client that is let in. */
class Guest implements ControlGuest {
  readonly #control: Control;
  readonly #options: ControlOptions;
  readonly #id: number;
  readonly #peer: Credentials | undefined;
  readonly #facts: ClientFacts | undefined;

  constructor(
    control: Control,
    options: ControlOptions,
    { id, peer, facts }: {
      id: number;
      peer: Credentials | undefined;
      facts: ClientFacts | undefined;
    },
  ) {
    this.#control = control;
    this.#options = options;
    this.#id = id;
    this.#peer = peer;
    this.#facts = facts;
  }

  async startSession(
    asked: SessionRequest,
    { descriptors, events }: PassengerOptions,
  ): Promise<Passenger> {
    const { agentSocket, alias, system } = this.#options;
    const [input, output, errors] = descriptors as [number, number, number];
    const streams = this.#take({ input, output, errors });
    const request = await this.#withPossibleWishes(asked);
    if (isShellWithoutTerminal(request) && await wantsNoSession(this.#peer?.pid)) {
      // It stays for its forwards.
      streams.close();
      events.onOpen();
      return { abandon() {} };
    }
    const refuse = (reason: string) => {
      streams.close();
      return new Error(reason);
    };
    if (request.wantsAgent && agentSocket === undefined) throw refuse("there is no agent to lend");
    // The system stops whoever reads from it, with all that he serves.
    if (system!.isOurTerminal(input)) throw refuse("the terminal is the one that sshshim runs on");
    const x11 = request.wantsX11
      ? await LaneX11.find(this.#peer?.pid, alias).catch((error) => {
        throw refuse(messageOf(error));
      })
      : undefined;
    const windowBytes = this.#control.onPassed(streams);
    const client = this.#join("lane", {
      onOpen({ channelType }) {
        if (channelType === "x11") return x11?.join();
        const isAgent = channelType === "auth-agent@openssh.com" && request.wantsAgent;
        return isAgent ? joinAgent(agentSocket!) : undefined;
      },
    });
    const end = () => {
      this.#control.removeTerminal(lane);
      streams.close();
    };
    const lane = new Lane(client, {
      ...{ request, x11, streams, windowBytes },
      events: {
        ...events,
        onRefused: (reason) => {
          end();
          client.leave();
          events.onRefused(reason);
        },
        onEnd: (status) => {
          end();
          // Programs that the session has left behind still have its display and its agent.
          client.leaveWhenUnused();
          events.onEnd(status);
        },
        describe: () => `client ${this.#id}, without encryption here\r\n`,
      },
    });
    if (request.wantsTerminal) this.#control.addTerminal(lane);
    return {
      abandon: () => {
        lane.abandon();
        end();
        client.leave();
      },
    };
  }

  /** ssh asks for a display and an agent even where it has none; at the port it lends none then. */
  async #withPossibleWishes(request: SessionRequest): Promise<SessionRequest> {
    const pid = this.#peer?.pid;
    const { wantsX11, wantsAgent } = request;
    return {
      ...request,
      wantsX11: wantsX11 && await mayHaveVariable(pid, "DISPLAY"),
      wantsAgent: wantsAgent && (this.#options.agentSocket !== undefined ||
        await mayHaveVariable(pid, "SSH_AUTH_SOCK")),
    };
  }

  startForward(connect: ForwardEnd, { descriptors, events }: PassengerOptions): Passenger {
    const [input, output] = descriptors as [number, number];
    const streams = this.#take({ input, output });
    const windowBytes = this.#control.onPassed(streams);
    const client = this.#join("lane", {});
    const connection = new LaneEnd(streams, () => {
      client.leave();
      streams.close();
      events.onEnd(0);
    });
    const channelType = "path" in connect ? "direct-streamlocal@openssh.com" : "direct-tcpip";
    const body = "path" in connect
      ? encodeFields(connect.path, "", 0)
      : encodeFields(connect.host, connect.port, "127.0.0.1", 0);
    client.openChannel(channelType, { body, windowBytes }, (channel) =>
      new ChannelPipe(channel, {
        connection,
        onOpen: () => events.onOpen(),
        onRefusal: (reason) => events.onRefused(reason),
      }));
    return {
      abandon() {
        streams.dropOutput();
        client.leave();
      },
    };
  }

  async serveProxy(
    stream: ControlStream,
    first: { bytes: Uint8Array; next: Promise<Uint8Array | undefined> },
  ): Promise<void> {
    const transport = new ProxyTransport(stream);
    const { relay } = this.#options;
    const receiver = relay.addClient(transport, undefined, this.#about("proxy"));
    const onLeft = this.#enter(transport);
    transport.start({
      onPayload: receiver.receive,
      onDrain: receiver.drained,
      onDisconnect: (description) => {
        log.info("client {id} is disconnected: {description}", { id: this.#id, description });
      },
    });
    try {
      await transport.serve(first);
    } finally {
      receiver.leave();
      onLeft();
    }
  }

  openForward(request: ForwardRequest): Promise<{ port?: number; close(): Promise<void> }> {
    return this.#options.forwards.open(request);
  }

  goesToPort(): Promise<boolean> {
    return wantsMoreThanOneRequest(this.#peer?.pid);
  }

  #take(passed: { input: number; output: number; errors?: number }): LaneStreams {
    return new LaneStreams(this.#options.system!, { passed, pid: this.#peer?.pid });
  }

  #join(
    carrier: Carrier,
    { onOpen }: { onOpen?: (open: ChannelOpen) => Promise<OwnerOf> | undefined },
  ): RelayClient {
    const about = this.#about(carrier);
    const client = new RelayClient(this.#options.relay, { onOpen, about, onEnd: () => onLeft() });
    const onLeft = this.#enter(client.peer);
    return client;
  }

  /** @returns what is called once it has left. */
  #enter(peer: Peer): () => void {
    const { presence, reception } = this.#options;
    presence.enter();
    if (this.#facts) reception?.onClient(peer, this.#facts);
    const id = this.#id;
    log.info("client {id} connected to the control socket", { id });
    return () => {
      presence.leave();
      reception?.onClientLeft(peer, undefined);
      log.info("client {id} left", { id });
    };
  }

  #about(carrier: Carrier): ClientAbout {
    return {
      ...{ id: this.#id, carrier, since: new Date().toISOString() },
      ...{ address: null, user: null, key: null, exchange: null },
      findProgram: async () =>
        describeProgram(await this.#options.identify({ process: this.#peer })),
    };
  }
}

function isShellWithoutTerminal({ command, isSubsystem, wantsTerminal }: SessionRequest): boolean {
  return command === "" && !isSubsystem && !wantsTerminal;
}

async function joinAgent(path: string): Promise<OwnerOf> {
  const connection = await Deno.connect({ transport: "unix", path });
  return (channel) => new ChannelPipe(channel, { connection });
}
