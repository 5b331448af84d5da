/** The remote host of forwards that live in memory, as a test plays it. */

import assert from "node:assert/strict";
import { ControlForwards } from "../../lib/control_forwards.ts";
import { DisconnectReason } from "../../lib/errors.ts";
import { RelayClient } from "../../lib/relay_client.ts";
import { encodeFields, type Field } from "../../lib/ssh_data.ts";
import { unknownClient } from "../../lib/relay_status.ts";
import type { Transport } from "../../lib/transport.ts";
import { type ChannelOpen, type ConnectionMessage, MessageType } from "../../lib/wire.ts";
import { within } from "./deadline.ts";
import { type MessageOf, usualPacketBytes, usualWindowBytes, World } from "./memory.ts";

const { channelClose, channelData, channelEof, channelOpen, channelOpenConfirmation } = MessageType;

/** A relay with forwards on one side, and a remote host on the other. Leaving its scope ends all. */
export class FarHost implements AsyncDisposable {
  readonly world = new World();
  readonly forwards: ControlForwards;
  #client: RelayClient | undefined;
  #sent: ConnectionMessage[] = [];
  #onSent = Promise.withResolvers<void>();
  #lastChannel = 100;

  constructor() {
    this.forwards = new ControlForwards({
      makeClient: (options) => {
        this.#client = new RelayClient(this.world.relay, { ...options, about: unknownClient });
        return this.#client;
      },
    });
    this.listen();
  }

  /** Takes what comes on the connection that there is now. */
  listen(): void {
    this.world.upstream.onSent = ({ message }) => {
      // How much may be sent is no part of what these tests are about.
      if (message.type === MessageType.channelWindowAdjust) return;
      this.#sent.push(message);
      this.#onSent.resolve();
    };
  }

  /** How many clients the relay has. */
  get clientCount(): number {
    return this.world.relay.describe().clients.length;
  }

  /** The relay ends the client that there is. */
  lose(): void {
    (this.#client!.peer as Transport).disconnect(DisconnectReason.byApplication, "a mistake");
  }

  /** The next message, which must be of this type. */
  async next<Type extends number>(type: Type): Promise<MessageOf<Type>> {
    while (this.#sent.length === 0) {
      this.#onSent = Promise.withResolvers();
      await within(this.#onSent.promise, `No message of type ${type} came`);
    }
    const message = this.#sent.shift()!;
    assert.equal(message.type, type, JSON.stringify(message));
    return message as MessageOf<Type>;
  }

  /** Nothing has come that was not taken. */
  expectNothing(): void {
    assert.deepEqual(this.#sent, []);
  }

  say(type: number, ...fields: Field[]): void {
    this.world.upstream.say(type, ...fields);
  }

  /** Waits for a channel to be asked for, in this way. */
  async nextOpen(channelType: string, ...body: Field[]): Promise<ChannelOpen> {
    const open = await this.next(channelOpen);
    assert.equal(open.channelType, channelType);
    assert.deepEqual(open.data, encodeFields(...body));
    return open;
  }

  /** Agrees to a channel. */
  agree({ senderChannel }: ChannelOpen): FarChannel {
    const numbers = [++this.#lastChannel, usualWindowBytes, usualPacketBytes];
    this.say(channelOpenConfirmation, senderChannel, ...numbers);
    return new FarChannel(this, senderChannel);
  }

  /** Asks for a channel, which is agreed to. */
  async open(channelType: string, ...body: Field[]): Promise<FarChannel> {
    this.ask(channelType, ...body);
    const { senderChannel } = await this.next(channelOpenConfirmation);
    return new FarChannel(this, senderChannel);
  }

  ask(channelType: string, ...body: Field[]): void {
    const numbers = [++this.#lastChannel, usualWindowBytes, usualPacketBytes];
    this.say(channelOpen, channelType, ...numbers, { raw: encodeFields(...body) });
  }

  /** Waits for a request, and grants it. */
  async grant(name: string, body: Field[], answer: Field[] = []): Promise<void> {
    await this.nextRequest(name, ...body);
    this.say(MessageType.requestSuccess, { raw: encodeFields(...answer) });
  }

  async nextRequest(name: string, ...body: Field[]): Promise<void> {
    const request = await this.next(MessageType.globalRequest);
    assert.equal(request.name, name);
    assert.deepEqual(request.data, encodeFields(...body));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.forwards.closeAll();
    assert.equal(this.clientCount, 0);
    assert.deepEqual(this.forwards.list(), []);
  }
}

/** An open channel, seen from there. */
export class FarChannel {
  readonly #host: FarHost;
  readonly #number: number;

  constructor(host: FarHost, number: number) {
    this.#host = host;
    this.#number = number;
  }

  send(text: string): void {
    this.#host.say(channelData, this.#number, text);
  }

  sendBytes(...bytes: number[]): void {
    this.#host.say(channelData, this.#number, Uint8Array.from(bytes));
  }

  sendEof(): void {
    this.#host.say(channelEof, this.#number);
  }

  close(): void {
    this.#host.say(channelClose, this.#number);
  }

  /** Waits for this text, in however many messages. */
  async expect(text: string): Promise<void> {
    await this.expectBytes(...new TextEncoder().encode(text));
  }

  async expectBytes(...bytes: number[]): Promise<void> {
    const received: number[] = [];
    while (received.length < bytes.length) {
      received.push(...(await this.#host.next(channelData)).data);
    }
    assert.deepEqual(received, bytes);
  }

  async expectEof(): Promise<void> {
    await this.#host.next(channelEof);
  }

  async expectClose(): Promise<void> {
    await this.#host.next(channelClose);
  }
}
