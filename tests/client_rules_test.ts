/** What the relay does where a client's key is for some things only: message by message. */

import assert from "node:assert/strict";
import {
  ClientRules,
  everything,
  forcedCommand,
  type KeyPermissions,
} from "../lib/client_rules.ts";
import { parseKeyOptions } from "../lib/key_options.ts";
import { encodeFields, Reader, utf8String } from "../lib/ssh_data.ts";
import { MessageType } from "../lib/wire.ts";
import { World } from "./support/memory.ts";
import { run, runChecked } from "./support/run.ts";

const {
  channelOpen,
  channelOpenFailure,
  channelRequest,
  channelSuccess,
  channelFailure,
  globalRequest,
  requestFailure,
  requestSuccess,
} = MessageType;

function permissionsOf(options: string): KeyPermissions {
  const parsed = parseKeyOptions(options);
  assert(typeof parsed !== "string", String(parsed));
  return parsed.permissions;
}

/** A client whose key has these options, and what it was refused. */
function scene(options: string) {
  const world = new World();
  const refusals: string[] = [];
  const rules = new ClientRules(permissionsOf(options), (what) => void refusals.push(what));
  return { world, client: world.client("scoped", rules), refusals };
}

const pty = ["xterm", 80, 24, 0, 0, ""] as const;

Deno.test("a refused request reaches nobody, and is answered in its turn", () => {
  const { world, client, refusals } = scene("no-pty");
  const channel = world.open(client);
  channel.up(channelRequest, "pty-req", true, ...pty);
  channel.expectDown(channelFailure);
  // Behind two that upstream owes answers to.
  channel.up(channelRequest, "env", true, "A", "1");
  channel.up(channelRequest, "pty-req", true, ...pty);
  channel.up(channelRequest, "pty-req", true, ...pty);
  channel.up(channelRequest, "shell", true);
  channel.up(channelRequest, "pty-req", true, ...pty);
  channel.expectUp(channelRequest);
  channel.expectUp(channelRequest);
  world.expectQuiet(client);
  channel.down(channelSuccess);
  channel.expectDown(channelSuccess);
  channel.expectDown(channelFailure);
  channel.expectDown(channelFailure);
  world.expectQuiet(client);
  channel.down(channelSuccess);
  channel.expectDown(channelSuccess);
  channel.expectDown(channelFailure);
  channel.up(channelRequest, "pty-req", false, ...pty);
  channel.expectAlive();
  assert.deepEqual(refusals, ["requests of type pty-req"]);
  world.expectQuiet(client);
});

Deno.test("a client that asks on and on for what is refused is ended alone", () => {
  const { world, client } = scene("restrict");
  const channel = world.open(client);
  channel.up(channelRequest, "env", true, "A", "1");
  channel.expectUp(channelRequest);
  for (let count = 0; count <= 1000; count++) channel.up(channelRequest, "invented", true);
  client.expectEnded(/too many requests/);
});

Deno.test("what is not known is refused to a key that is for some things only", () => {
  for (
    const options of [
      ...["restrict", "no-pty", "no-port-forwarding", 'command="x"', 'permitopen="h:1"'],
      ...['permitlisten="1"', "no-agent-forwarding", "no-X11-forwarding"],
    ]
  ) {
    const { world, client, refusals } = scene(options);
    for (
      const [type, body] of [
        ["tun@openssh.com", encodeFields(1, 2)],
        ["x11", encodeFields("127.0.0.1", 1)],
        ["auth-agent@openssh.com", encodeFields()],
        ["forwarded-tcpip", encodeFields("127.0.0.1", 1, "127.0.0.1", 2)],
        ["invented@example.com", Uint8Array.of(1)],
      ] as const
    ) {
      client.say(channelOpen, type, 7, 1000, 1000, { raw: body });
      assert.equal(client.expectOn(channelOpenFailure, 7).reasonCode, 1);
    }
    const channel = world.open(client);
    channel.up(channelRequest, "invented", true);
    channel.expectDown(channelFailure);
    channel.up(channelRequest, "invented", false);
    for (const name of ["eow@openssh.com", "window-change", "signal", "break"]) {
      const bodies: Record<string, Uint8Array> = {
        "window-change": encodeFields(1, 2, 3, 4),
        signal: encodeFields("TERM"),
        break: encodeFields(1),
      };
      channel.up(channelRequest, name, false, { raw: bodies[name] ?? new Uint8Array() });
      assert.equal(channel.expectUp(channelRequest).requestType, name);
    }
    channel.expectAlive();
    world.expectQuiet(client);
    assert.deepEqual(refusals, [
      "channels of type tun@openssh.com",
      "channels of type another kind",
      "requests of type another kind",
    ]);
  }
});

Deno.test("a key whose options restrict nothing passes what is not known", () => {
  for (
    const options of [
      "",
      'environment="A=1"',
      "pty",
      'from="*"',
      "restrict,pty,port-forwarding,agent-forwarding,X11-forwarding",
    ]
  ) {
    const { world, client } = scene(options);
    world.open(client, { type: "invented@example.com", downstream: 1 }).expectAlive();
    const channel = world.open(client, { downstream: 2 });
    channel.up(channelRequest, "invented", false);
    assert.equal(channel.expectUp(channelRequest).requestType, "invented");
  }
});

Deno.test("remote forwards are refused without asking upstream, and what stands can be ended", () => {
  const { world, client } = scene('permitlisten="8080"');
  const ask = (name: string, ...fields: (string | number)[]) =>
    client.say(globalRequest, name, true, { raw: encodeFields(...fields) });
  for (
    const [name, ...fields] of [
      ["tcpip-forward", "localhost", 8081],
      ["tcpip-forward", "localhost", 0],
      ["streamlocal-forward@openssh.com", "/tmp/s"],
    ] as const
  ) {
    ask(name, ...fields);
    client.expect(requestFailure);
  }
  world.expectQuiet(client);
  ask("tcpip-forward", "localhost", 8080);
  world.upstream.expect(globalRequest);
  world.upstream.say(requestSuccess);
  client.expect(requestSuccess);
  ask("cancel-tcpip-forward", "localhost", 8080);
  world.upstream.expect(globalRequest);
  world.upstream.say(requestSuccess);
  client.expect(requestSuccess);
});

Deno.test("whatever starts a program starts the forced one, with its variables before it", () => {
  const { world, client } = scene('command="run me",environment="A=1",environment="B=x y"');
  for (
    const [name, asked, ...fields] of [
      ["shell", undefined],
      ["exec", "ls", "ls"],
      ["exec", "", ""],
      ["subsystem", "sftp", "sftp"],
    ] as const
  ) {
    const channel = world.open(client);
    channel.up(channelRequest, name, true, ...fields);
    for (const [variable, value] of [["A", "1"], ["B", "x y"]] as const) {
      const request = channel.expectUp(channelRequest);
      assert.deepEqual([request.requestType, request.wantReply], ["env", false]);
      assert.deepEqual(request.data, encodeFields(variable, value));
    }
    const request = channel.expectUp(channelRequest);
    assert.deepEqual([request.requestType, request.wantReply], ["exec", true]);
    assert.equal(new Reader(request.data).text(), forcedCommand("run me", asked));
    channel.down(channelSuccess);
    channel.expectDown(channelSuccess);
    channel.close();
  }
  const channel = world.open(client);
  channel.up(channelRequest, "exec", true, "'".repeat(20_000));
  channel.expectDown(channelFailure);
});

Deno.test("a key without options is not restricted by any", () => {
  assert.deepEqual(permissionsOf(""), everything);
});

/** Every byte but NUL, which a request cannot have. */
const everyByte = String.fromCharCode(...Array.from({ length: 255 }, (_, index) => index + 1));

Deno.test("what was asked for arrives byte by byte in each shell, and runs nothing", async (t) => {
  const samples = [
    everyByte,
    "'; touch pwned; '",
    "$(touch pwned)`touch pwned`",
    '"; touch pwned; "',
    "\\'; touch pwned #",
    "a\ntouch pwned\n#x",
    "",
    utf8String("\u20ac"),
  ];
  for (const shell of ["sh", "dash", "bash", "busybox sh", "zsh", "ksh"]) {
    const command = [...shell.split(" "), "-c"];
    // Not every machine has the later ones.
    const isThere = await run([...command, "true"]).then(({ code }) => code === 0, () => false);
    if (!isThere && !["sh", "dash", "bash"].includes(shell)) continue;
    await t.step(shell, async () => {
      const folder = await Deno.makeTempDir({ prefix: "forced-" });
      try {
        for (const asked of samples) {
          const words = forcedCommand('printf %s "$SSH_ORIGINAL_COMMAND"', asked);
          assert.match(words, /^[\x20-\x7e]*$/);
          const { code, stdout, stderr } = await run([...command, words], { folder });
          assert.deepEqual([code, stderr.length], [0, 0]);
          assert.equal(String.fromCharCode(...stdout), asked);
        }
        assert.equal(await runChecked(["ls", folder]), "");
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    });
  }
});

Deno.test("nothing of what was asked for means anything to a shell, whichever it is", () => {
  const [, encoded] = /printf %b '([^']*)'\)"; export SSH_ORIGINAL_COMMAND; x$/.exec(
    forcedCommand("x", everyByte),
  )!;
  assert.match(encoded!, /^(?:[A-Za-z0-9 _.,:=@/+-]|\\0[0-7]{3})*$/);
});
