/** Named pipes, where there are such: on Windows. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { byPipes, connectTo, findControlPlaces, takeControlPlace } from "../lib/control_place.ts";
import { connectToPipe, NamedPipe } from "../lib/named_pipe.ts";

const tests: Record<string, (file: string, folder: string) => Promise<void>> = {
  async "bytes pass in both directions, and both sides see the end"(file) {
    const pipe = await NamedPipe.listen(file);
    const here = await connectToPipe(file);
    const there = await pipe.accept();
    assert(here && there);
    const sent = crypto.getRandomValues(new Uint8Array(60_000));
    for (const [from, to] of [[here, there], [there, here]] as const) {
      const [received] = await Promise.all([readBytes(to, sent.length), writeBytes(from, sent)]);
      assert.deepEqual(received, sent);
    }
    await writeBytes(there, sent.subarray(0, 100));
    there.close();
    assert.deepEqual(await readBytes(here, 100), sent.subarray(0, 100));
    assert.equal(await isAtEnd(here), true);
    here.close();
    pipe.close();
    assert.equal(await pipe.accept(), undefined);
  },

  async "who waits for the next connection is told of the end"(file) {
    const pipe = await NamedPipe.listen(file);
    const next = pipe.accept();
    pipe.close();
    assert.equal(await next, undefined);
  },

  async "nobody is there without a file, or where a file is left over"(file) {
    assert.equal(await connectToPipe(file), undefined);
    const pipe = await NamedPipe.listen(file);
    pipe.close();
    assert.equal(await connectToPipe(file), undefined);
    for (
      const strange of ["", "\\\\.\\pipe\\other", "\\\\server\\pipe\\sshshim-1", "x".repeat(9)]
    ) {
      await Deno.writeTextFile(file, strange);
      assert.equal(await connectToPipe(file), undefined, strange);
    }
  },

  async "only the user whose process it is may open one"(file) {
    const pipe = await NamedPipe.listen(file);
    const name = (await Deno.readTextFile(file)).trimEnd();
    assert.match(accessTo(name), /^D:P\(A;;[^;]+;;;[^;()]+\)$/);
    pipe.close();
    await drain(pipe);
  },

  async "a place is taken by a pipe, found, and left over when it has gone"(_file, folder) {
    const take = () => takeControlPlace({ folder, name: "prod" }, (path) => NamedPipe.listen(path));
    const first = await take();
    const [found] = findControlPlaces(folder);
    assert.equal(found?.path, first.place.path);
    const connection = await connectTo(found!);
    assert(connection);
    connection.close();
    const second = await take();
    assert.equal(second.place.path, join(folder, "prod-2.ctl"));
    for (const { listener } of [first, second]) {
      listener.close();
      await drain(listener);
    }
    const third = await take();
    assert.equal(third.place.path, first.place.path);
    third.listener.close();
    await drain(third.listener);
  },
};

Deno.test("on Windows, and nowhere else, a pipe stands for a socket", () => {
  assert.equal(byPipes, Deno.build.os === "windows");
});

if (byPipes) {
  for (const [name, test] of Object.entries(tests)) {
    Deno.test(name, async () => {
      const folder = await Deno.makeTempDir();
      try {
        await test(join(folder, "prod.ctl"), folder);
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    });
  }
}

/** Takes what has arrived before the end. */
async function drain(pipe: NamedPipe): Promise<void> {
  for (let connection; (connection = await pipe.accept()) !== undefined;) connection.close();
}

interface Bytes {
  read(buffer: Uint8Array): Promise<number | null>;
  write(data: Uint8Array): Promise<number>;
}

async function readBytes(from: Bytes, count: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(count);
  for (let at = 0; at < count;) {
    const read = await from.read(bytes.subarray(at));
    assert(read !== null, "the end came early");
    at += read;
  }
  return bytes;
}

async function writeBytes(to: Bytes, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await to.write(bytes.subarray(at));
}

async function isAtEnd(from: Bytes): Promise<boolean> {
  try {
    return await from.read(new Uint8Array(1)) === null;
  } catch {
    return true;
  }
}

/** Who may open a pipe, in the words of SDDL. */
function accessTo(name: string): string {
  const kernel = Deno.dlopen("kernel32.dll", {
    CreateFileW: {
      parameters: ["buffer", "u32", "u32", "pointer", "u32", "u32", "pointer"],
      result: "pointer",
    },
    CloseHandle: { parameters: ["pointer"], result: "i32" },
  });
  const security = Deno.dlopen("advapi32.dll", {
    GetKernelObjectSecurity: {
      parameters: ["pointer", "u32", "buffer", "u32", "buffer"],
      result: "i32",
    },
    ConvertSecurityDescriptorToStringSecurityDescriptorW: {
      parameters: ["buffer", "u32", "u32", "buffer", "pointer"],
      result: "i32",
    },
  });
  const wide = Uint16Array.from(`${name}\0`, (unit) => unit.charCodeAt(0));
  const readControl = 0x2_0000;
  const pipe = kernel.symbols.CreateFileW(wide, readControl, 0, null, 3, 0, null);
  const descriptor = new Uint8Array(1024);
  const length = new Uint32Array(1);
  assert(security.symbols.GetKernelObjectSecurity(pipe, 4, descriptor, 1024, length) !== 0);
  const out = new BigUint64Array(1);
  const convert = security.symbols.ConvertSecurityDescriptorToStringSecurityDescriptorW;
  assert(convert(descriptor, 1, 4, out, null) !== 0);
  kernel.symbols.CloseHandle(pipe);
  const view = new Deno.UnsafePointerView(Deno.UnsafePointer.create(out[0]!)!);
  let text = "";
  for (let at = 0; view.getUint16(at) !== 0; at += 2) {
    text += String.fromCharCode(view.getUint16(at));
  }
  kernel.close();
  security.close();
  return text;
}
