/**
 * `ping@openssh.com` (OpenSSH's PROTOCOL, section 1.9): a client hides the timing of keystrokes
 * among pings, which a server answers. They go on to upstream as they come, so that the network sees
 * the client's own timing there too.
 *
 * Pongs carry no number and are matched by order, on each connection upstream by itself.
 */

import { buildMessage } from "./ssh_data.ts";
import type { Peer, Transport } from "./transport.ts";
import { MessageType } from "./wire.ts";

/** How many pongs upstream may owe to one client; further pings are answered here. */
const maximumOwed = 256;

/** Longer pings are answered here; OpenSSH's have five bytes. */
const maximumDataBytes = 1024;

interface Ping {
  client: Peer;
  data: Uint8Array;
}

/** The pings that upstream has not answered. */
export class Pings {
  readonly #waiting = new Map<Peer, Ping[]>();
  readonly #owed = new Map<Peer, number>();

  /** A client pings; `upstream` is the connection that its keystrokes take, if there is one. */
  onPing(client: Peer, data: Uint8Array, upstream: Transport | undefined): void {
    const owed = this.#owed.get(client) ?? 0;
    const isTooMuch = owed >= maximumOwed || data.length > maximumDataBytes;
    if (!upstream?.answersPings || isTooMuch) return sendPong(client, data);
    const waiting = this.#waiting.get(upstream) ?? [];
    this.#waiting.set(upstream, waiting);
    waiting.push({ client, data: data.slice() });
    this.#owed.set(client, owed + 1);
    upstream.send(buildMessage(MessageType.ping, data));
  }

  /** Upstream answers; a pong that nobody waits for is let pass, as by ssh. */
  onPong(upstream: Peer): void {
    const ping = this.#waiting.get(upstream)?.shift();
    if (ping) this.#answer(ping);
  }

  /** A connection upstream is gone, and with it the pongs that were to come. */
  detach(upstream: Peer): void {
    const waiting = this.#waiting.get(upstream) ?? [];
    this.#waiting.delete(upstream);
    for (const ping of waiting) this.#answer(ping);
  }

  /** A client is gone; what upstream still answers is for nobody. */
  removeClient(client: Peer): void {
    this.#owed.delete(client);
  }

  #answer({ client, data }: Ping): void {
    const owed = this.#owed.get(client);
    if (owed === undefined) return;
    this.#owed.set(client, owed - 1);
    sendPong(client, data);
  }
}

/** Answers a ping (SSH2_MSG_PONG). */
export function sendPong(peer: Peer, data: Uint8Array): void {
  peer.send(buildMessage(MessageType.pong, data));
}
