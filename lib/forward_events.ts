/** What is told of the requests for remote forwards. */

import { describePlace, type Place, readGrantedPort, readPlace } from "./forward_place.ts";
import type { RelayEvent } from "./relay_events.ts";
import { type GlobalReply, type GlobalRequest, MessageType } from "./wire.ts";

/** What came of a request for a remote forward, or for its end. */
export function forwardEvent({ name, data }: GlobalRequest, reply: GlobalReply): RelayEvent {
  const isGranted = reply.type === MessageType.requestSuccess;
  const asked = readPlace(name.includes("streamlocal") ? "streamlocal" : "tcpip", data);
  const isAnyPort = asked.kind === "tcpip" && asked.bindPort === 0 && !name.startsWith("cancel-");
  const bindPort = isAnyPort && isGranted ? readGrantedPort(reply.data) : undefined;
  const place = describePlace(bindPort === undefined ? asked : { ...asked, bindPort } as Place);
  const granted = name.startsWith("cancel-") ? "forward-close" : "forward-open";
  return { event: isGranted ? granted : "forward-refused", request: name, place };
}
