/** An ssh2 connection as a test's peer: the connection protocol is left to ssh2, unchecked. */

import type ssh2Types from "ssh2";
import { Ssh2Transport } from "../../lib/ssh2_transport.ts";

/** The private part of ssh2 1.17.0 that is used here. */
interface Protocol {
  _onPayload(payload: Uint8Array): unknown;
}

/** Messages of the connection protocol begin here (RFC 4250, section 4.1.1). */
const firstConnectionMessage = 80;

/**
 * Has the peer exchange keys as sshshim does; called like the transport's constructor.
 *
 * @returns what sends any message
 */
export function makePeer(
  connection: ssh2Types.Client | ssh2Types.Connection,
  algorithms: { kex: readonly string[] },
): Ssh2Transport {
  const { _protocol: protocol } = connection as unknown as { _protocol: Protocol };
  const leaveToSsh2 = protocol._onPayload;
  const transport = new Ssh2Transport(connection, algorithms);
  const onPayload = protocol._onPayload;
  protocol._onPayload = (payload) =>
    payload[0]! >= firstConnectionMessage ? leaveToSsh2(payload) : onPayload(payload);
  return transport;
}
