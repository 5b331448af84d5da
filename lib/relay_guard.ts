/** What becomes of a peer whose message was wrong, and of one that we have mishandled. */

import { DisconnectReason, MalformedDataError, ProtocolError } from "./errors.ts";
import type { Transport } from "./transport.ts";
import { describeMessage } from "./wire.ts";

/**
 * Runs `handle`. A violation of the protocol ends `transport` and nothing else; whatever else is
 * thrown is a mistake of ours.
 *
 * @returns whether nothing was thrown.
 */
export function guard(
  transport: Transport,
  { payload, handle }: { payload: Uint8Array; handle: () => void },
  onMistake: (stack: string) => void,
): boolean {
  try {
    handle();
    return true;
  } catch (error) {
    if (error instanceof ProtocolError || error instanceof MalformedDataError) {
      const description = `${describeMessage(payload)}: ${error.message}`;
      transport.disconnect(DisconnectReason.protocolError, description);
    } else {
      onMistake(`${(error as Error).stack ?? error}`);
    }
    return false;
  }
}
