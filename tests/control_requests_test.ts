/** Requests of our own at the control socket: what is answered, what is refused, and to whom. */

import assert from "node:assert/strict";
import type { Answer } from "../lib/control_connection.ts";
import { controlMessage, ControlType, messageIn, unixSocketPort } from "../lib/control_messages.ts";
import { onControlRequest, type SteeredHost } from "../lib/control_requests.ts";
import { logMemory } from "../lib/log_memory.ts";
import { concatenate, displayText, Reader, utf8String } from "../lib/ssh_data.ts";
import { shimTarget } from "./support/behind.ts";
import { faultsOf } from "./support/json_schema.ts";
import { freePort } from "./support/ports.ts";
import { startShim } from "./support/shim.ts";
import { startSshd } from "./support/sshd.ts";

/** Whoever speaks at a control socket as he likes. */
class RawClient implements Disposable {
  readonly #connection: Deno.UnixConn;
  #pending: Uint8Array = new Uint8Array();

  private constructor(connection: Deno.UnixConn) {
    this.#connection = connection;
  }

  static async connect(path: string): Promise<RawClient> {
    const client = new RawClient(await Deno.connect({ transport: "unix", path }));
    await client.next();
    await client.send(controlMessage(ControlType.hello, 4));
    return client;
  }

  async send(bytes: Uint8Array): Promise<void> {
    for (let sent = 0; sent < bytes.length;) {
      sent += await this.#connection.write(bytes.subarray(sent));
    }
  }

  /** The next message; `undefined` at the end. */
  async next(): Promise<{ type: number; reader: Reader } | undefined> {
    for (;;) {
      const message = messageIn(this.#pending, 1e8);
      if (message) {
        this.#pending = this.#pending.subarray(4 + message.length);
        const reader = new Reader(message);
        return { type: reader.uint32(), reader };
      }
      const buffer = new Uint8Array(65_536);
      const count = await this.#connection.read(buffer).catch(() => null);
      if (count === null) return undefined;
      this.#pending = concatenate([this.#pending, buffer.subarray(0, count)]);
    }
  }

  /** Makes a request of JSON. @returns the answer, or the reason of a failure. */
  async ask(id: number, text: string): Promise<{ isRefused: boolean; text: string }> {
    await this.send(controlMessage(ControlType.own, id, utf8String(text)));
    const { type, reader } = (await this.next())!;
    assert.equal(reader.uint32(), id);
    if (type === ControlType.failure) {
      return { isRefused: true, text: displayText(reader.text()) };
    }
    assert.equal(type, ControlType.ownAnswer);
    assert.equal(reader.uint32(), 1);
    return { isRefused: false, text: displayText(reader.text()) };
  }

  [Symbol.dispose](): void {
    this.#connection.close();
  }
}

const refused: [text: string, reason: RegExp][] = [
  ["", /no JSON/],
  ["{", /no JSON/],
  ["[".repeat(100_000), /no JSON/],
  ["\xff\xfe", /no JSON/],
  ["null", /has to be an object/],
  ["7", /has to be an object/],
  ['"status"', /has to be an object/],
  ["[]", /has to be an object/],
  ['["status"]', /has to be an object/],
  ["{}", /has to be an object with a "request" that is a text/],
  ['{"request":7}', /has to be an object with a "request" that is a text/],
  ['{"request":["status"]}', /has to be an object with a "request" that is a text/],
  ['{"request":"dance"}', /There is no request "dance" in this version/],
  ['{"request":"__proto__"}', /There is no request/],
  ['{"request":"constructor"}', /There is no request/],
  ['{"request":"toString"}', /There is no request/],
  ['{"request":"\\u001b[2J\\n"}', /There is no request "\\x1b\[2J\\n" in/],
  [`{"request":"${"x".repeat(5000)}"}`, /There is no request "x{39}…" in/],
  ['{"request":"status","measures":"yes"}', /"measures" has to be true or false/],
  ['{"request":"status","findsPrograms":1}', /"findsPrograms" has to be true or false/],
  ['{"request":"logs","follows":{}}', /"follows" has to be true or false/],
  ['{"request":"kill"}', /"client" has to be the number/],
  ['{"request":"kill","client":"1"}', /"client" has to be the number/],
  ['{"request":"kill","client":1.5}', /"client" has to be the number/],
  ['{"request":"kill","client":1e300}', /"client" has to be the number/],
  ['{"request":"kill","client":99}', /There is no client 99/],
];

Deno.test("what is no request of ours is refused with the reason, and harms nobody", async (t) => {
  await using sshd = await startSshd();
  await using shim = await startShim(sshd);
  const target = shimTarget({ shim, sshd });
  await using session = target.startSsh("echo ready; cat");
  await session.stdout.waitFor(/ready/);
  const path = shim.banner.controlPath!;

  await t.step("wrong JSON, wrong types, unknown requests", async () => {
    using client = await RawClient.connect(path);
    for (const [index, [text, reason]] of refused.entries()) {
      const answer = await client.ask(index, text);
      assert(answer.isRefused, text);
      assert.match(answer.text, reason);
    }
  });
  await t.step("what a later version adds is passed over", async () => {
    using client = await RawClient.connect(path);
    const { isRefused, text } = await client.ask(
      0xffffffff,
      '{"request":"status","since":{"of":[1]},"measures":null}',
    );
    assert(!isRefused);
    assert.equal(JSON.parse(text).process.pid, shim.pid);
  });
  await t.step("messages that are none end whoever sends them", async () => {
    const messages = [
      crypto.getRandomValues(new Uint8Array(5000)),
      Uint8Array.of(0xff, 0xff, 0xff, 0xff),
      Uint8Array.of(0, 0, 0, 0),
      Uint8Array.of(0, 0, 0, 8, 0x53, 0x53, 0, 1, 0, 0, 0, 1),
      controlMessage(ControlType.hello, 5),
    ];
    for (const bytes of messages) {
      using client = await RawClient.connect(path);
      await client.send(bytes).catch(() => {/* It was ended before it was all sent. */});
      // Random bytes may be the beginning of a long message.
      if (bytes.length !== 5000 || bytes[0]! > 0) assert.equal(await client.next(), undefined);
    }
  });
  await t.step("whoever asks and asks and takes no answer is ended", async () => {
    using client = await RawClient.connect(path);
    const message = controlMessage(
      ControlType.own,
      1,
      utf8String('{"request":"status","measures":false,"findsPrograms":false}'),
    );
    const many = concatenate(Array.from({ length: 500 }, () => message));
    let isEnded = false;
    while (!isEnded) await client.send(many).catch(() => isEnded = true);
  });

  await session.write("still there\n");
  await session.stdout.waitFor(/still there/);
  await session.closeStdin();
  assert.equal((await session.drained()).code, 0);
  assert(!shim.log.text.includes("internal error"));
});

Deno.test("requests and their answers are as the schema describes them", async (t) => {
  const [schema, status] = await Promise.all(
    ["requests", "status"].map(async (name) =>
      JSON.parse(
        await Deno.readTextFile(new URL(`../.github/${name}.schema.json`, import.meta.url)),
      )
    ),
  );
  const others = { "status.schema.json": status };
  await using sshd = await startSshd();
  await using shim = await startShim(sshd);
  await using session = shimTarget({ shim, sshd }).startSsh("echo ready; cat");
  await session.stdout.waitFor(/ready/);
  using client = await RawClient.connect(shim.banner.controlPath!);
  const asked = new Set<string>();
  const check = async (request: { request: string } & Record<string, unknown>) => {
    asked.add(request.request);
    const { isRefused, text } = await client.ask(asked.size, JSON.stringify(request));
    assert(!isRefused, text);
    const answer = JSON.parse(text);
    assert.deepEqual(faultsOf({ request, answer }, schema, others), []);
    return answer;
  };
  const end = (path: string) => [path, unixSocketPort];
  const folder = `${sshd.folder}/forward`;
  for (
    const [kind, listen, connect] of [
      [1, ["127.0.0.1", freePort()], ["127.0.0.1", 1]],
      [1, end(`${folder}-1`), end(`${folder}-2`)],
      [2, ["127.0.0.1", 0], ["127.0.0.1", 1]],
      [3, ["127.0.0.1", freePort()], ["", 0]],
    ] as const
  ) {
    await client.send(controlMessage(ControlType.openForward, 1, kind, ...listen, ...connect));
    const { type } = (await client.next())!;
    assert([ControlType.ok, ControlType.remotePort].some((it) => it === type), `${kind}`);
  }

  await t.step("each of them is", async () => {
    const { clients } = await check({ request: "status" });
    assert.equal((await check({ request: "forwards" })).forwards.length, 4);
    assert((await check({ request: "logs" })).lines.length > 0);
    await check({ request: "wait" });
    await check({ request: "kill", client: clients[0].id });
    await check({ request: "reconnect" });
    await check({ request: "stop" });
    assert.equal(asked.size, schema.oneOf.length);
  });
  await t.step("what is not is noticed", () => {
    for (
      const wrong of [
        { request: { request: "stop" }, answer: { state: "ready" } },
        { request: { request: "kill" }, answer: { client: 1 } },
        { request: { request: "logs" }, answer: { lines: ["a"] } },
        { request: { request: "dance" }, answer: {} },
      ]
    ) {
      assert.notDeepEqual(faultsOf(wrong, schema, others), [], JSON.stringify(wrong));
    }
  });
});

Deno.test("ssh's own requests for information have answers as ssh gives them", async () => {
  await using sshd = await startSshd();
  await using shim = await startShim(sshd);
  await using session = shimTarget({ shim, sshd }).startSsh("echo ready; cat");
  await session.stdout.waitFor(/ready/);
  using client = await RawClient.connect(shim.banner.controlPath!);
  const inform = async (name: string) => {
    await client.send(controlMessage(ControlType.info, 7, name));
    const { type, reader } = (await client.next())!;
    assert.equal(reader.uint32(), 7);
    if (type === ControlType.failure) return displayText(reader.text());
    assert.equal(type, ControlType.infoAnswer);
    assert.equal(reader.uint32(), 0);
    return displayText(reader.text());
  };
  const connection = await inform("connection");
  assert.match(connection, new RegExp(`^Connection information for .* pid ${shim.pid}$`, "m"));
  assert.match(connection, new RegExp(`^  connected to 127.0.0.1 port ${sshd.port}$`, "m"));
  assert.match(connection, /^ +kexalgorithm \S+\n +hostkeyalgorithm ssh-ed25519\n +cipher \S+$/m);
  const channels = await inform("channels");
  assert.match(channels, /^The following connections are open:$/m);
  assert.match(channels, /^ +#0 client-session \(live i6 o0\): echo ready; cat$/m);
  assert.match(await inform("dances"), /no such information/);
  await session.closeStdin();
  assert.equal((await session.drained()).code, 0);
});

Deno.test("of the log, lines are left out and counted while a client does not take them", async () => {
  const answers: { lines: string[]; droppedLines: number }[] = [];
  let untakenBytes = 0;
  const answer: Answer = {
    send(text, { isLast }) {
      assert(!isLast);
      answers.push(JSON.parse(text));
    },
    get untakenBytes() {
      return untakenBytes;
    },
  };
  const left = new AbortController();
  const log = (text: string) => logMemory.add({ host: "slow", text });
  log("before");
  await onControlRequest(
    { name: "slow" } as SteeredHost,
    '{"request":"logs","follows":true}',
    { answer, signal: left.signal },
  );
  log("one");
  untakenBytes = 1024 * 1024;
  log("two");
  log("three");
  untakenBytes = 0;
  log("four");
  left.abort();
  log("five");
  assert.equal(answers[0]!.lines.at(-1), "before");
  assert.deepEqual(answers.slice(1), [
    { lines: ["one"], droppedLines: 0 },
    { lines: ["four"], droppedLines: 2 },
  ]);
});
