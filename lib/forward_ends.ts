/** The ends of forwarded connections on this machine, as pipes have them. */

import type { PipeEnd } from "./channel_pipe.ts";
import { concatenate } from "./ssh_data.ts";
import { type SocksDestination, SocksNegotiation } from "./socks_server.ts";

/** What is read at a time of a negotiation, in bytes. */
const negotiationBytes = 1024;

/** The end of one connection, which may be closed twice. */
export class ForwardedEnd implements PipeEnd {
  readonly #connection: PipeEnd;
  readonly #onClose: () => void;
  /** What was sent before there was anybody to take it. */
  #early: Uint8Array = new Uint8Array();
  #answer: Uint8Array = new Uint8Array();
  #granting: Promise<void> | undefined;
  #isClosed = false;

  /** @param onClose called once. */
  constructor(connection: PipeEnd, onClose: () => void) {
    this.#connection = connection;
    this.#onClose = onClose;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    if (this.#early.length === 0) return await this.#connection.read(buffer);
    const part = this.#early.subarray(0, buffer.length);
    buffer.set(part);
    this.#early = this.#early.subarray(part.length);
    return part.length;
  }

  async write(bytes: Uint8Array): Promise<number> {
    await this.#granting;
    return await this.#connection.write(bytes);
  }

  async closeWrite(): Promise<void> {
    await this.#granting;
    await this.#connection.closeWrite();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#connection.close();
    this.#onClose();
  }

  /**
   * Lets a SOCKS client say where it wants to be led, which is to be granted once it is.
   *
   * @throws {Error} where it does not.
   */
  async negotiate(): Promise<SocksDestination> {
    const negotiation = new SocksNegotiation();
    const buffer = new Uint8Array(negotiationBytes);
    for (;;) {
      const count = await this.read(buffer);
      if (count === null) throw new Error("it has ended before its request");
      const { answer, request } = negotiation.take(buffer.slice(0, count));
      if (request === undefined) {
        await writeAll(this.#connection, answer);
        continue;
      }
      this.#early = request.rest;
      this.#answer = answer;
      return request.destination;
    }
  }

  /** Tells a SOCKS client that it is led where it wanted, before all else. */
  grant(): void {
    if (this.#answer.length === 0) return;
    this.#granting = writeAll(this.#connection, this.#answer);
    this.#granting.catch(() => {/* Whoever writes next is told. */});
  }
}

/** A server of SOCKS as an end of its own: it connects once it is told where to. */
export class SocksEnd implements PipeEnd {
  readonly #connect: (destination: SocksDestination) => Promise<PipeEnd>;
  readonly #negotiation = new SocksNegotiation();
  #answer: Uint8Array = new Uint8Array();
  #connection: PipeEnd | undefined;
  #isClosed = false;
  #onNews = Promise.withResolvers<void>();

  constructor(connect: (destination: SocksDestination) => Promise<PipeEnd>) {
    this.#connect = connect;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    for (;;) {
      if (this.#answer.length > 0) {
        const part = this.#answer.subarray(0, buffer.length);
        buffer.set(part);
        this.#answer = this.#answer.subarray(part.length);
        return part.length;
      }
      if (this.#connection) return await this.#connection.read(buffer);
      if (this.#isClosed) return null;
      await this.#onNews.promise;
    }
  }

  async write(bytes: Uint8Array): Promise<number> {
    if (this.#connection) return await this.#connection.write(bytes);
    const { answer, request } = this.#negotiation.take(bytes);
    if (request) {
      this.#connection = await this.#connect(request.destination);
      if (this.#isClosed) this.#connection.close();
    }
    this.#answer = concatenate([this.#answer, answer]);
    this.#tell();
    if (request) await writeAll(this.#connection!, request.rest);
    return bytes.length;
  }

  async closeWrite(): Promise<void> {
    if (this.#connection === undefined) throw new Error("it has ended before its request");
    await this.#connection.closeWrite();
  }

  close(): void {
    this.#isClosed = true;
    this.#connection?.close();
    this.#tell();
  }

  #tell(): void {
    this.#onNews.resolve();
    this.#onNews = Promise.withResolvers();
  }
}

async function writeAll(end: PipeEnd, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await end.write(bytes.subarray(sent));
}
