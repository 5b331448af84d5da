/** The global requests of clients (RFC 4254, section 4), and what becomes of each. */

import type { Backpressure } from "./backpressure.ts";
import type { Channels } from "./channels.ts";
import { forwardEvent } from "./forward_events.ts";
import { type Forwards, isForwardRequest } from "./forwards.ts";
import { requestFailure, requestSuccess } from "./global_requests.ts";
import type { ClientConnection } from "./relay_connections.ts";
import type { Observe } from "./relay_events.ts";
import type { Peer } from "./transport.ts";
import type { GlobalRequest } from "./wire.ts";

/** What the requests are given. */
export interface ClientRequestsOptions {
  forwards: Forwards<Peer>;
  channels: Channels;
  backpressure: Backpressure;
  /** A client wants a forward, or its end. */
  onForward(): void;
  /** Takes what is told of forwards, for a record. */
  observe: Observe<Peer> | undefined;
}

/** Takes the requests. */
export class ClientRequests {
  readonly #options: ClientRequestsOptions;

  constructor(options: ClientRequestsOptions) {
    this.#options = options;
  }

  /** Forwards are upstream's affair; all else is answered here. */
  onRequest(
    { transport: client, rules, replies, pending }: ClientConnection,
    request: GlobalRequest,
  ): void {
    const { forwards, channels, backpressure, onForward, observe } = this.#options;
    const onReply = request.wantReply ? replies.reserve() : () => {};
    if (isForwardRequest(request.name) && rules?.permitsForward(request) !== false) {
      const onDone = pending.add(request.data.length);
      forwards.onRequest(client, request, (reply) => {
        onDone();
        onReply(reply);
        observe?.(client, forwardEvent(request, reply));
        backpressure.relax();
      });
      onForward();
    } else if (request.name === "no-more-sessions@openssh.com") {
      channels.refuseSessions(client);
      onReply(requestSuccess);
    } else {
      // Keepalives among them: the client asks whether its own connection lives.
      onReply(requestFailure);
    }
  }
}
