/** What a channel is for, as its messages say it: to be shown, and short. */

import { shownBytes } from "./shown_text.ts";
import { Reader } from "./ssh_data.ts";
import type { RunsStatus } from "./status.ts";
import type { ChannelOpen, ChannelRequest } from "./wire.ts";

/** Room for brackets and the port beside an address, in characters. */
const longestAddress = 180;

/** Where a forwarded connection leads, or for one that upstream opens, where it came in. */
export function targetOf({ channelType, data }: ChannelOpen): string | undefined {
  const reader = new Reader(data);
  switch (channelType) {
    case "direct-tcpip":
    case "forwarded-tcpip": {
      const address = shownBytes(reader.bytes(), longestAddress);
      return `${address.includes(":") ? `[${address}]` : address}:${reader.uint32()}`;
    }
    case "direct-streamlocal@openssh.com":
    case "forwarded-streamlocal@openssh.com":
      return shownBytes(reader.bytes());
    default:
      return undefined;
  }
}

/** What a session is to run, if that is what is asked for. */
export function runsOf({ requestType, data }: ChannelRequest): RunsStatus | undefined {
  switch (requestType) {
    case "shell":
      return { kind: "shell" };
    case "exec":
      return { kind: "command", text: shownBytes(new Reader(data).bytes()) };
    case "subsystem":
      return { kind: "subsystem", text: shownBytes(new Reader(data).bytes()) };
    default:
      return undefined;
  }
}
