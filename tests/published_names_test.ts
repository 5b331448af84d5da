/** The files by which ssh finds shims: whose they are, and what they say. */

import assert from "node:assert/strict";
import { configText, isSafeName, nameFor } from "../lib/published_config.ts";
import { claimName, faultOf, healNames, type NameRequest } from "../lib/published_files.ts";

function request(name: string, more: Partial<NameRequest> = {}): NameRequest {
  return {
    name,
    isExact: false,
    listen: () => Promise.resolve(Deno.listen({ hostname: "127.0.0.1", port: 0 })),
    ...more,
  };
}

async function makeFolder() {
  const path = await Deno.makeTempDir({ prefix: "names-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

function filesIn(folder: string): string[] {
  return Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
}

const facts = { address: "127.0.0.1", user: "me", hostKeys: ["ssh-ed25519 AAAA"] };

Deno.test("of shims that start together with one name each has its own, until it ends", async () => {
  await using folder = await makeFolder();
  const claims = await Promise.all([1, 2, 3].map(() => claimName(folder.path, request("prod"))));
  assert.deepEqual(claims.map(({ name }) => name.name).sort(), ["prod", "prod-2", "prod-3"]);
  for (const { name } of claims) name.publish(facts);
  const live = await healNames(folder.path);
  assert.deepEqual(
    live.map(({ port }) => port).sort(),
    claims.map(({ listener }) => listener.addr.port).sort(),
  );
  for (const { name, listener } of claims) {
    const { mode } = await Deno.stat(name.configFile);
    assert.equal(mode! & 0o777, 0o600);
    name.remove();
    name.remove();
    assert.equal(name.publish(facts), undefined);
    listener.close();
  }
  assert.deepEqual(filesIn(folder.path), [".lock"]);
});

Deno.test("a name that was asked for and is in use is refused, and so is a further one", async () => {
  await using folder = await makeFolder();
  const { listener, name } = await claimName(folder.path, request("prod", { as: "p" }));
  await assert.rejects(
    claimName(folder.path, request("prod", { isExact: true })),
    /The name prod is taken by the sshshim of prod\.shim, process \d+\. .*--name/,
  );
  await assert.rejects(claimName(folder.path, request("b", { as: "p" })), /name p is taken.*--as/);
  name.remove();
  listener.close();
  assert.deepEqual(filesIn(folder.path), [".lock"]);
});

Deno.test("what a killed shim left goes at the next start, and nothing else does", async () => {
  await using folder = await makeFolder();
  const module = new URL("../lib/published_files.ts", import.meta.url);
  const script = `
    const { claimName } = await import(${JSON.stringify(module.href)});
    const listen = () => Promise.resolve(Deno.listen({ hostname: "127.0.0.1", port: 0 }));
    const { name } = await claimName(Deno.args[0], { name: "prod", isExact: true, listen });
    name.publish({ address: "127.0.0.1", user: "me", hostKeys: [] });
    console.log("here");
    await new Promise((resolve) => setTimeout(resolve, 1e9));`;
  await Deno.writeTextFile(`${folder.path}/own.conf`, "Host own\n");
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "-A", "-", folder.path],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(script));
  await writer.close();
  const reader = child.stdout.getReader();
  await reader.read();
  assert.deepEqual((await healNames(folder.path)).map(({ name }) => name), ["prod"]);
  child.kill("SIGKILL");
  await child.status;
  await reader.cancel();
  assert.deepEqual(await healNames(folder.path), []);
  assert.deepEqual(filesIn(folder.path), [".lock", "own.conf"]);
});

Deno.test("a file of somebody else's keeps its name", async () => {
  await using folder = await makeFolder();
  await Deno.writeTextFile(`${folder.path}/prod.conf`, "Host prod\n");
  const { listener, name } = await claimName(folder.path, request("prod"));
  assert.equal(name.name, "prod-2");
  name.remove();
  listener.close();
  assert.equal(await Deno.readTextFile(`${folder.path}/prod.conf`), "Host prod\n");
});

Deno.test("a folder that others can write in, or of another user, is not used", () => {
  const own = { uid: 1000, mode: 0o40700, isDirectory: true };
  const given = { uid: 1000, folder: "/f" };
  assert.equal(faultOf(own, given), undefined);
  assert.match(faultOf({ ...own, mode: 0o40770 }, given)!, /chmod 700 "\/f"/);
  assert.match(faultOf({ ...own, uid: 1 }, given)!, /another user, uid 1/);
  assert.match(faultOf({ ...own, isDirectory: false }, given)!, /not a folder/);
  // As on Windows.
  assert.equal(
    faultOf({ uid: null, mode: null, isDirectory: true }, { ...given, uid: null }),
    undefined,
  );
});

Deno.test("whatever a host is called, its name is safe for ssh and every file system", () => {
  const names = {
    "prod": "prod",
    "::1": "0--1",
    "fe80::1%eth0": "fe80--1-eth0",
    "prod.example.com.": "prod.example.com",
    "con": "0con",
    "*": "0-",
    "größe": "gr--e",
  };
  for (const [alias, name] of Object.entries(names)) {
    assert.equal(nameFor(alias), name);
    assert(isSafeName(nameFor(alias)), alias);
  }
  for (const name of ["", "a b", "*", "a?", "!a", "-a", ".a", "a/b", "a\nb", "nul", "a."]) {
    assert(!isSafeName(name), name);
  }
});

Deno.test("paths are written as ssh reads them, on every system", () => {
  const text = (knownHostsFile: string, os: string) =>
    configText({ ...facts, name: "a", as: "b", pid: 1, port: 2, knownHostsFile }, os);
  assert.match(text("/home/a b/k%", "linux"), /UserKnownHostsFile "\/home\/a b\/k%%"\n/);
  assert.match(text("/Users/a/k", "darwin"), /UserKnownHostsFile \/Users\/a\/k\n/);
  assert.match(text("C:\\Users\\a b\\k", "windows"), /UserKnownHostsFile "C:\/Users\/a b\/k"\n/);
  assert.throws(() => text('/a"b', "linux"), /cannot name/);
  assert.match(text("/k", "linux"), /^Match originalhost b !exec "printenv SSHSHIM_UPSTREAM"$/m);
  assert.match(text("/k", "windows"), /!exec "if not defined SSHSHIM_UPSTREAM exit 1"$/m);
});
