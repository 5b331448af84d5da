import { ControlConnection, type ControlGuest } from "../lib/control_connection.ts";
import { controlMessage, ControlType } from "../lib/control_messages.ts";
import type { ControlStream } from "../lib/control_stream.ts";
import { within } from "./support/deadline.ts";

Deno.test("a forward that is there when its client has left is closed: nobody was told of it", async () => {
  const opening = Promise.withResolvers<{ close: () => Promise<void> }>();
  const asked = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();
  const guest: Partial<ControlGuest> = {
    openForward() {
      asked.resolve();
      return opening.promise;
    },
  };
  const left = Promise.withResolvers<undefined>();
  const messages = [
    controlMessage(ControlType.hello, 4),
    controlMessage(ControlType.openForward, 1, 1, "", 8080, "web.example", 80),
  ];
  const stream: Partial<ControlStream> = {
    read: () => messages.length > 0 ? Promise.resolve(messages.shift()) : left.promise,
    send() {},
    close() {},
  };
  const serving = new ControlConnection(
    stream as ControlStream,
    {
      receive: () => Promise.resolve(guest as ControlGuest),
    } as unknown as ConstructorParameters<typeof ControlConnection>[1],
  ).serve();
  await within(asked.promise, "The forward is not asked for");
  left.resolve(undefined);
  await serving;
  opening.resolve({
    close() {
      closed.resolve();
      return Promise.resolve();
    },
  });
  await within(closed.promise, "The forward is not closed", 5000);
});
