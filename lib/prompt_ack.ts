/**
 * An acknowledgment at once, for a server that waits for it: until a session has begun, OpenSSH's
 * leaves Nagle's algorithm on (RFC 9293, section 3.7.4), so that the second of two small answers
 * waits until the first is acknowledged; and a kernel that has nothing to send acknowledges late
 * (RFC 1122, section 4.2.3.2), 40 ms on Linux. So a message goes that carries the acknowledgment.
 */

import { buildMessage } from "./ssh_data.ts";
import type { Peer } from "./transport.ts";

/** SSH_MSG_IGNORE (RFC 4253, section 11.2). */
const ignoreMessage = 2;

/** Sends a message that means nothing. */
export function acknowledgeAtOnce(peer: Pick<Peer, "send">): void {
  peer.send(buildMessage(ignoreMessage, ""));
}
