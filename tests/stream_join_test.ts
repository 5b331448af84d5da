/** Streams joined to a connection: each end, and what comes after it. */

import assert from "node:assert/strict";
import { NotRunningError } from "../lib/errors.ts";
import { join } from "../lib/stream_join.ts";
import { readAll, type Service, startService, writeAll } from "./support/services.ts";

const encoder = new TextEncoder();

/** An input that has a text, and then ends or never does. */
function inputOf(content: string, { ends }: { ends: boolean }) {
  let rest = encoder.encode(content);
  return {
    read(buffer: Uint8Array): Promise<number | null> {
      if (rest.length === 0) return ends ? Promise.resolve(null) : new Promise(() => {});
      const count = Math.min(rest.length, buffer.length, 3);
      buffer.set(rest.subarray(0, count));
      rest = rest.subarray(count);
      return Promise.resolve(count);
    },
  };
}

async function joined(
  { port }: Service,
  content: string,
  options: { ends: boolean },
): Promise<string> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  let output = "";
  const write = (bytes: Uint8Array) => {
    output += new TextDecoder().decode(bytes);
    return Promise.resolve();
  };
  await join(connection, { input: inputOf(content, options), output: { write } });
  return output;
}

Deno.test("the end of the input is passed on, and what comes after it is not lost", async () => {
  await using service = startService(async (connection) => {
    const all = await readAll(connection);
    await writeAll(connection, encoder.encode(`${all.length} bytes came`));
  });
  assert.equal(await joined(service, "0123456789", { ends: true }), "10 bytes came");
});

Deno.test("the end of the connection ends it, whatever the input does", async () => {
  await using service = startService(async (connection) => {
    await writeAll(connection, encoder.encode("good bye"));
  });
  assert.equal(await joined(service, "", { ends: false }), "good bye");
});

Deno.test("whoever takes no output ends it", async () => {
  await using service = startService((connection) => writeAll(connection, encoder.encode("words")));
  using connection = await Deno.connect({ hostname: "127.0.0.1", port: service.port });
  const write = () => Promise.reject(new Deno.errors.BrokenPipe("nobody reads"));
  await assert.rejects(
    join(connection, { input: inputOf("", { ends: false }), output: { write } }),
    Deno.errors.BrokenPipe,
  );
});

Deno.test("a broken connection is told", async () => {
  const connection = {
    read: () => Promise.reject(new Deno.errors.ConnectionReset("reset (os error 104)")),
    write: () => Promise.reject(new Deno.errors.BrokenPipe("broken")),
    closeWrite: () => Promise.resolve(),
  };
  await assert.rejects(
    join(connection, {
      input: inputOf("nobody reads this", { ends: true }),
      output: { write: () => Promise.resolve() },
    }),
    (error) => {
      assert(error instanceof NotRunningError);
      assert.equal(error.message, "The connection is broken: reset");
      return true;
    },
  );
});
