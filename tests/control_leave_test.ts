import assert from "node:assert/strict";
import {
  ControlConnection,
  type ControlGuest,
  type ControlHost,
} from "../lib/control_connection.ts";
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

Deno.test("a client of proxy mode that leaves while it waits to be let in is not waited for", async () => {
  const left = Promise.withResolvers<undefined>();
  const asked = Promise.withResolvers<void>();
  const messages = [
    controlMessage(ControlType.hello, 4),
    controlMessage(ControlType.proxy, 1),
  ];
  const stream: Partial<ControlStream> = {
    read: () => messages.length > 0 ? Promise.resolve(messages.shift()) : left.promise,
    send() {},
    close() {},
  };
  const host: Pick<ControlHost, "receive"> = {
    receive: (_peer, signal) => {
      asked.resolve();
      return new Promise((_resolve, reject) =>
        signal.addEventListener("abort", () => reject(new Error("it has left")))
      );
    },
  };
  const serving = new ControlConnection(stream as ControlStream, host as ControlHost).serve();
  await within(asked.promise, "Nobody is asked");
  left.resolve(undefined);
  await within(serving, "The client is still waited for", 5000);
});

Deno.test("what a client of proxy mode sends before it is let in is not lost", async () => {
  const letIn = Promise.withResolvers<ControlGuest>();
  const asked = Promise.withResolvers<void>();
  const first = Promise.withResolvers<[Uint8Array, Uint8Array | undefined]>();
  const early = Uint8Array.of(0, 0, 0, 2, 0, 80);
  const messages = [
    controlMessage(ControlType.hello, 4),
    new Uint8Array([...controlMessage(ControlType.proxy, 1), ...early.subarray(0, 2)]),
    early.subarray(2),
  ];
  const stream: Partial<ControlStream> = {
    read: () => Promise.resolve(messages.shift()),
    send() {},
    close() {},
  };
  const host: Pick<ControlHost, "receive"> = {
    receive: () => {
      asked.resolve();
      return letIn.promise;
    },
  };
  const serving = new ControlConnection(stream as ControlStream, host as ControlHost).serve();
  await within(asked.promise, "Nobody is asked");
  const guest: Partial<ControlGuest> = {
    async serveProxy(_stream, { bytes, next }) {
      first.resolve([bytes, await next]);
    },
  };
  letIn.resolve(guest as ControlGuest);
  await serving;
  assert.deepEqual(await first.promise, [early.subarray(0, 2), early.subarray(2)]);
});
