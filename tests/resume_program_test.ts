/** The program of `--resume`, in both languages and under every shell that is there. */

import assert from "node:assert/strict";
import { dirname } from "node:path";
import { NotKeptError, writeAll } from "../lib/carrier.ts";
import { programs, resumeCommand } from "../lib/resume_programs.ts";
import { kept } from "./support/deadline.ts";
import { waitUntil } from "./support/processes.ts";
import {
  type Language,
  makeResumeHost,
  newName,
  openStream,
  token,
} from "./support/resume_host.ts";

/** Serves one connection at loopback. */
function listen(): { port: number; accepted: Promise<Deno.TcpConn> } & Disposable {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepted = kept(listener.accept());
  return {
    port: listener.addr.port,
    accepted,
    [Symbol.dispose]: () => listener.close(),
  };
}

function pattern(size: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, at) => (at * 31 + (at >> 8) * 7 + seed) & 255);
}

async function readBytes(
  from: { read(buffer: Uint8Array): Promise<number | null> },
  size: number,
  onBytes?: (count: number) => void,
): Promise<Uint8Array> {
  const result = new Uint8Array(size);
  for (let at = 0; at < size;) {
    const count = await from.read(result.subarray(at));
    assert.notEqual(count, null, `the end after ${at} bytes`);
    at += count!;
    onBytes?.(count!);
  }
  return result;
}

function assertSame(actual: Uint8Array, expected: Uint8Array): void {
  assert.equal(actual.length, expected.length);
  assert.equal(actual.findIndex((byte, at) => byte !== expected[at]), -1);
}

const isGone = (path: string) => Deno.lstat(path).then(() => false, () => true);

Deno.test("the programs have nothing that a shell would take for its own", () => {
  for (const program of Object.values(programs)) assert.doesNotMatch(program, /['!\\`]/);
  for (const word of resumeCommand().split(/' ?/)) assert.ok(word.length < 1000);
  assert.doesNotMatch(resumeCommand(), /[\n!\\]/);
  assert.ok(resumeCommand().length < 32_000);
});

for (const language of Object.keys(programs) as Language[]) {
  Deno.test(`${language}: bytes pass both ways, and with the end nothing is left`, async () => {
    using sshd = listen();
    await using host = await makeResumeHost(language, sshd.port);
    const { stream, path, carriers } = await openStream(host);
    using server = await sshd.accepted;
    await stream.write(new TextEncoder().encode("to the server"));
    assert.equal(new TextDecoder().decode(await readBytes(server, 13)), "to the server");
    await server.write(new TextEncoder().encode("to the client"));
    assert.equal(new TextDecoder().decode(await readBytes(stream, 13)), "to the client");
    const [folder, socket] = await Promise.all([Deno.lstat(host.sockets), Deno.lstat(path)]);
    assert.equal(folder.mode! & 0o777, 0o700);
    assert.equal(socket.mode! & 0o077, 0);
    await stream.write(new TextEncoder().encode("the last"));
    stream.close();
    assert.equal(new TextDecoder().decode(await readBytes(server, 8)), "the last");
    assert.equal(await server.read(new Uint8Array(1)), null);
    await waitUntil("the socket is gone", () => isGone(path));
    await waitUntil("its folder is gone", () => isGone(host.sockets));
    await carriers[0]!.cut();
  });

  Deno.test(`${language}: megabytes pass exactly both ways while carriers are cut`, async () => {
    const size = 12_000_000;
    using sshd = listen();
    await using host = await makeResumeHost(language, sshd.port);
    const { stream, carriers } = await openStream(host);
    using server = await sshd.accepted;
    const [up, down] = [pattern(size, 1), pattern(size, 2)];
    let isDone = false;
    const sent = Promise.all([writeAll(stream, up), writeAll(server, down)]);
    let count = 0;
    const onBytes = (bytes: number) => void (count += bytes);
    const received = Promise.all([
      readBytes(server, size, onBytes),
      readBytes(stream, size, onBytes),
    ]);
    const cutting = (async () => {
      for (let cuts = 1; !isDone && count < 2 * size; cuts++) {
        await waitUntil("some bytes", () => Promise.resolve(count > cuts * 1_700_000 || isDone));
        if (isDone) break;
        const before = carriers.length;
        await carriers.at(-1)!.cut();
        await waitUntil("the next carrier", () => Promise.resolve(carriers.length > before));
      }
    })();
    await sent;
    const [atServer, atClient] = await received;
    isDone = true;
    await cutting;
    assertSame(atServer!, up);
    assertSame(atClient!, down);
    assert.ok(carriers.length > 2, `${carriers.length} carriers`);
    stream.close();
    assert.equal(await server.read(new Uint8Array(1)), null);
    await Promise.all(carriers.map((carrier) => carrier.cut()));
  });

  Deno.test(`${language}: what the server sent before its end comes, over a cut too`, async () => {
    using sshd = listen();
    await using host = await makeResumeHost(language, sshd.port);
    const { stream, path, carriers } = await openStream(host);
    const server = await sshd.accepted;
    await carriers[0]!.cut();
    await server.write(pattern(100_000, 3));
    server.close();
    assertSame(await readBytes(stream, 100_000), pattern(100_000, 3));
    assert.equal(await stream.read(new Uint8Array(1)), null);
    stream.close();
    await waitUntil("the socket is gone", () => isGone(path));
    await Promise.all(carriers.map((carrier) => carrier.cut()));
  });

  Deno.test(`${language}: who does not know the token gains nothing and harms nobody`, async () => {
    using sshd = listen();
    await using host = await makeResumeHost(language, sshd.port);
    const { stream, path, carriers } = await openStream(host);
    using server = await sshd.accepted;
    const wrong = { kind: "attach", path, token: "f".repeat(32), has: 0 } as const;
    await assert.rejects(host.open(wrong), NotKeptError);
    // A count that cannot be.
    await assert.rejects(host.open({ ...wrong, token, has: 1 }), NotKeptError);
    // Those that say nothing take no place from others for long.
    const silent = [];
    for (let index = 0; index < 3; index++) {
      silent.push(await Deno.connect({ transport: "unix", path }));
    }
    await carriers[0]!.cut();
    await server.write(new TextEncoder().encode("still here"));
    assert.equal(new TextDecoder().decode(await readBytes(stream, 10)), "still here");
    for (const connection of silent) connection.close();
    stream.close();
    assert.equal(await server.read(new Uint8Array(1)), null);
    await Promise.all(carriers.map((carrier) => carrier.cut()));
  });

  Deno.test(`${language}: without a carrier it ends after its time and leaves nothing`, async () => {
    using sshd = listen();
    await using host = await makeResumeHost(language, sshd.port);
    const request = { kind: "new", name: newName(), token, seconds: 1 } as const;
    const carrier = await host.open(request);
    using server = await sshd.accepted;
    await carrier.cut();
    assert.equal(await server.read(new Uint8Array(1)), null);
    await waitUntil("its folder is gone", () => isGone(host.sockets));
    const { path } = carrier.answer;
    await assert.rejects(host.open({ kind: "attach", path, token, has: 0 }), NotKeptError);
  });

  Deno.test(`${language}: sockets that nobody serves any more are removed`, async () => {
    using sshd = listen();
    await using host = await makeResumeHost(language, sshd.port);
    await Deno.mkdir(host.sockets, { mode: 0o700 });
    const left = `${host.sockets}/${newName()}`;
    Deno.listen({ transport: "unix", path: left }).close();
    if (await isGone(left)) await Deno.writeTextFile(left, "");
    const { stream, carriers } = await openStream(host);
    using server = await sshd.accepted;
    stream.close();
    assert.equal(await server.read(new Uint8Array(1)), null);
    await Promise.all(carriers.map((carrier) => carrier.cut()));
    await waitUntil("the socket is gone", () => isGone(left));
  });

  Deno.test(`${language}: nothing is loaded from the folder in which it happens to run`, async () => {
    using sshd = listen();
    await using host = await makeResumeHost(language, sshd.port);
    const folder = dirname(host.sockets);
    for (const name of ["_socket.py", "select.py", "POSIX.pm", "Socket.pm", "Fcntl.pm"]) {
      await Deno.writeTextFile(`${folder}/${name}`, "no program");
    }
    const request = { kind: "new", name: newName(), token, seconds: 60 } as const;
    const command = `cd ${folder} && ${resumeCommand()}`;
    const { connection, cut } = await host.open(request, { command });
    using _server = await sshd.accepted;
    await connection.write(Uint8Array.of(88, 0, 0, 0, 0));
    while (await connection.take() !== null);
    await cut();
  });

  Deno.test(`${language}: it runs under each login shell`, async (test) => {
    for (const shell of ["bash", "dash", "zsh", "fish", "tcsh", "bsd-csh"]) {
      const words = [`/usr/bin/${shell}`];
      await test.step({
        name: shell,
        fn: async () => {
          using sshd = listen();
          await using host = await makeResumeHost(language, sshd.port);
          const { stream, carriers } = await openStream(host, { shell: words });
          using server = await sshd.accepted;
          await carriers[0]!.cut();
          await server.write(new TextEncoder().encode("after a cut"));
          assert.equal(new TextDecoder().decode(await readBytes(stream, 11)), "after a cut");
          stream.close();
          await stream.whenClosed;
          assert.equal(await server.read(new Uint8Array(1)), null);
          assert.ok(await isGone(host.sockets));
          await Promise.all(carriers.map((carrier) => carrier.cut()));
        },
      });
    }
  });
}
