/** The messages of RFC 4254, and ping and pong, as bytes: what is parsed, what is refused, what is rewritten. */

import assert from "node:assert/strict";
import { MalformedDataError, ProtocolError } from "../lib/errors.ts";
import {
  buildMessage,
  concatenate,
  displayText,
  encodeFields,
  type Field,
  Reader,
  utf8String,
} from "../lib/ssh_data.ts";
import {
  MessageType,
  parseMessage,
  rewriteConfirmation,
  rewriteOpen,
  rewriteRecipient,
} from "../lib/wire.ts";

/** A well-formed message, in hexadecimal, and what it says. */
interface Example {
  name: string;
  hex: string;
  parsed: Record<string, unknown>;
  /** From this length on, what follows belongs to a body of unknown shape. */
  restAt?: number;
}

const examples: Example[] = [
  {
    name: "GLOBAL_REQUEST",
    hex: "50 00000005 616263 4078 01 deadbeef",
    parsed: { type: 80, name: "abc@x", wantReply: true, data: bytes("deadbeef") },
    restAt: 11,
  },
  {
    name: "REQUEST_SUCCESS",
    hex: "51 00001f90",
    parsed: { type: 81, data: bytes("00001f90") },
    restAt: 1,
  },
  { name: "REQUEST_FAILURE", hex: "52", parsed: { type: 82, data: bytes("") }, restAt: 1 },
  {
    name: "CHANNEL_OPEN",
    hex: "5a 00000003 612f62 00000007 00200000 00008000 0102",
    parsed: {
      type: 90,
      channelType: "a/b",
      senderChannel: 7,
      initialWindowSize: 0x200000,
      maximumPacketSize: 0x8000,
      data: bytes("0102"),
    },
    restAt: 20,
  },
  {
    name: "CHANNEL_OPEN_CONFIRMATION",
    hex: "5b 00000001 fffffffe 80000000 00000000",
    parsed: {
      type: 91,
      recipientChannel: 1,
      senderChannel: 0xfffffffe,
      initialWindowSize: 0x80000000,
      maximumPacketSize: 0,
      data: bytes(""),
    },
    restAt: 17,
  },
  {
    name: "CHANNEL_OPEN_FAILURE",
    hex: "5c 00000001 00000002 00000002 6e6f 00000002 656e",
    parsed: { type: 92, recipientChannel: 1, reasonCode: 2, description: "no" },
  },
  {
    name: "CHANNEL_WINDOW_ADJUST",
    hex: "5d 00000001 ffffffff",
    parsed: { type: 93, recipientChannel: 1, bytesToAdd: 0xffffffff },
  },
  {
    name: "CHANNEL_DATA",
    hex: "5e 00000001 00000003 00ff80",
    parsed: { type: 94, recipientChannel: 1, dataTypeCode: 0, data: bytes("00ff80") },
  },
  {
    name: "CHANNEL_EXTENDED_DATA",
    hex: "5f 00000001 00000001 00000003 00ff80",
    parsed: { type: 95, recipientChannel: 1, dataTypeCode: 1, data: bytes("00ff80") },
  },
  { name: "CHANNEL_EOF", hex: "60 00000001", parsed: { type: 96, recipientChannel: 1 } },
  { name: "CHANNEL_CLOSE", hex: "61 00000001", parsed: { type: 97, recipientChannel: 1 } },
  {
    name: "CHANNEL_REQUEST",
    hex: "62 00000001 00000003 782e79 00 0a",
    parsed: {
      type: 98,
      recipientChannel: 1,
      requestType: "x.y",
      wantReply: false,
      data: bytes("0a"),
    },
    restAt: 13,
  },
  { name: "CHANNEL_SUCCESS", hex: "63 00000001", parsed: { type: 99, recipientChannel: 1 } },
  { name: "CHANNEL_FAILURE", hex: "64 00000001", parsed: { type: 100, recipientChannel: 1 } },
  { name: "PING", hex: "c0 00000002 6f6b", parsed: { type: 192, data: bytes("6f6b") } },
  { name: "PONG", hex: "c1 00000000", parsed: { type: 193, data: bytes("") } },
];

const modes = bytes("01 00000003 35 00000000 00");

/** A well-formed body of each name that is known. */
const knownBodies: { opens: Record<string, Field[]>; requests: Record<string, Field[]> } = {
  opens: {
    "session": [],
    "x11": ["::1", 6010],
    "direct-tcpip": ["example.com", 80, "127.0.0.1", 50000],
    "forwarded-tcpip": ["", 2222, "10.0.0.1", 50000],
    "direct-streamlocal@openssh.com": ["/tmp/s", "", 0],
    "forwarded-streamlocal@openssh.com": ["/tmp/s", ""],
    "auth-agent@openssh.com": [],
    "tun@openssh.com": [1, 0x7fffffff],
  },
  requests: {
    "pty-req": ["xterm", 80, 24, 640, 480, modes],
    "x11-req": [false, "MIT-MAGIC-COOKIE-1", "00ff", 0],
    "env": ["LANG", "C"],
    "shell": [],
    "exec": ["true"],
    "subsystem": ["sftp"],
    "window-change": [80, 24, 0, 0],
    "xon-xoff": [true],
    "signal": ["INT"],
    "break": [1000],
    "exit-status": [255],
    "exit-signal": ["TERM", false, "killed", "en"],
    "auth-agent-req@openssh.com": [],
    "agent-req": [],
    "eow@openssh.com": [],
    "keepalive@openssh.com": [],
  },
};

const knownGlobalBodies: Record<string, Field[]> = {
  "tcpip-forward": ["", 0],
  "cancel-tcpip-forward": ["localhost", 8080],
  "streamlocal-forward@openssh.com": ["/tmp/s"],
  "cancel-streamlocal-forward@openssh.com": ["/tmp/s"],
  "no-more-sessions@openssh.com": [],
};

for (const { name, hex, parsed } of examples) {
  Deno.test(`${name} is parsed`, () => {
    assert.deepEqual(parseMessage(bytes(hex)), parsed);
  });
}

Deno.test("a message may end nowhere but at its end", () => {
  for (const { name, hex, restAt } of examples) {
    const whole = bytes(hex);
    for (let length = 1; length < (restAt ?? whole.length); length++) {
      refuses(whole.subarray(0, length), /truncated/, `${name}, ${length} bytes`);
    }
    if (restAt === undefined) {
      refuses(concatenate([whole, Uint8Array.of(0)]), /after the end/, name);
    } else {
      assert(parseMessage(whole.subarray(0, restAt)), name);
      assert(parseMessage(concatenate([whole, Uint8Array.of(0)])), name);
    }
  }
});

Deno.test("a known body may end nowhere but at its end", () => {
  for (const { name, payload, bodyAt } of knownMessages()) {
    assert(parseMessage(payload), name);
    for (let length = bodyAt; length < payload.length; length++) {
      refuses(payload.subarray(0, length), /truncated/, `${name}, ${length} bytes`);
    }
    refuses(concatenate([payload, Uint8Array.of(0)]), /after the end/, name);
  }
});

Deno.test("a body is handed over as it is", () => {
  for (const { name, payload, body } of knownMessages()) {
    const message = parseMessage(payload) as { data?: Uint8Array };
    assert.deepEqual(message.data, body, name);
  }
});

Deno.test("an unknown name may carry any body, also none", () => {
  const { globalRequest, channelOpen, channelRequest } = MessageType;
  // Names that every object has are names like any other.
  for (
    const name of ["x@example.com", "", "toString", "__proto__", "constructor", "hasOwnProperty"]
  ) {
    for (const body of ["", "00", "ffffffff", "000000ff 00"]) {
      const raw = { raw: bytes(body) };
      for (
        const payload of [
          buildMessage(globalRequest, name, true, raw),
          buildMessage(channelOpen, name, 0, 0, 0, raw),
          buildMessage(channelRequest, 0, name, true, raw),
        ]
      ) {
        const message = parseMessage(payload) as { data?: Uint8Array };
        assert.deepEqual(message.data, raw.raw);
      }
    }
  }
});

Deno.test("a number that nobody assigned is no message", () => {
  const assigned = examples.map(({ parsed }) => parsed.type);
  for (let type = 0; type < 256; type++) {
    if (assigned.includes(type)) continue;
    assert.equal(parseMessage(Uint8Array.of(type)), undefined);
    assert.equal(parseMessage(Uint8Array.of(type, 1, 2, 3)), undefined);
  }
  assert.equal(parseMessage(new Uint8Array()), undefined);
});

Deno.test("a name with a NUL byte is refused, unless the byte ends it", () => {
  const { globalRequest, channelOpen, channelRequest, channelOpenFailure } = MessageType;
  const built: [string, (text: string) => Uint8Array][] = [
    ["request", (text) => buildMessage(channelRequest, 0, text, false)],
    ["global request", (text) => buildMessage(globalRequest, text, false)],
    ["channel type", (text) => buildMessage(channelOpen, text, 0, 0, 0)],
    ["reason", (text) => buildMessage(channelOpenFailure, 0, 1, text, "")],
    ["command", (text) => buildMessage(channelRequest, 0, "exec", false, text)],
    ["subsystem", (text) => buildMessage(channelRequest, 0, "subsystem", false, text)],
    ["signal", (text) => buildMessage(channelRequest, 0, "signal", false, text)],
    ["variable", (text) => buildMessage(channelRequest, 0, "env", false, text, "C")],
    ["value", (text) => buildMessage(channelRequest, 0, "env", false, "LANG", text)],
    ["terminal", (text) => buildMessage(channelRequest, 0, "pty-req", true, text, 0, 0, 0, 0, "")],
    ["x11 protocol", (text) => buildMessage(channelRequest, 0, "x11-req", true, true, text, "", 0)],
    ["x11 cookie", (text) => buildMessage(channelRequest, 0, "x11-req", true, true, "", text, 0)],
    ["host", (text) => buildMessage(channelOpen, "direct-tcpip", 0, 0, 0, text, 0, "", 0)],
    ["originator", (text) => buildMessage(channelOpen, "direct-tcpip", 0, 0, 0, "", 0, text, 0)],
    ["bind address", (text) => buildMessage(globalRequest, "tcpip-forward", true, text, 0)],
    [
      "path",
      (text) => buildMessage(globalRequest, "streamlocal-forward@openssh.com", true, text),
    ],
  ];
  for (const [name, build] of built) {
    for (const text of ["a\0b", "\0a", "\0\0", "a\0\0"]) refuses(build(text), /NUL/, name);
    for (const text of ["", "a", "a\0", "\0"]) assert(parseMessage(build(text)), name);
  }
  const message = parseMessage(buildMessage(channelRequest, 0, "shell\0", false));
  assert.equal((message as { requestType?: string }).requestType, "shell");
});

Deno.test("data may hold every byte value", () => {
  const all = Uint8Array.from({ length: 256 }, (_, value) => value);
  const { channelData, channelExtendedData } = MessageType;
  for (
    const payload of [
      buildMessage(channelData, 5, all),
      buildMessage(channelExtendedData, 5, 1, all),
    ]
  ) {
    assert.deepEqual((parseMessage(payload) as { data?: Uint8Array }).data, all);
  }
});

Deno.test("data of every size around the limits is parsed", () => {
  for (const size of [0, 1, 2, 255, 256, 32767, 32768, 32769, 65535, 65536, 200_000]) {
    const data = new Uint8Array(size).fill(size);
    const message = parseMessage(buildMessage(MessageType.channelData, 5, data));
    assert.deepEqual(message, { type: 94, recipientChannel: 5, dataTypeCode: 0, data });
  }
});

Deno.test("a length that reaches beyond the message is refused", () => {
  for (const length of ["00000001", "00000100", "7fffffff", "80000000", "fffffffb", "ffffffff"]) {
    refuses(bytes(`5e 00000001 ${length}`), /truncated/);
    refuses(bytes(`5f 00000001 00000001 ${length}`), /truncated/);
    refuses(bytes(`62 00000001 ${length}`), /truncated/);
    refuses(bytes(`62 00000001 00000004 65786563 00 ${length}`), /truncated/);
    refuses(bytes(`5a ${length}`), /truncated/);
    refuses(bytes(`50 ${length}`), /truncated/);
    refuses(bytes(`5c 00000001 00000001 ${length}`), /truncated/);
    refuses(bytes(`5c 00000001 00000001 00000000 ${length}`), /truncated/);
  }
});

Deno.test("terminal modes are parsed as sshd does, which ends the connection where they break off", () => {
  const pty = (hex: string) =>
    buildMessage(MessageType.channelRequest, 0, "pty-req", true, "vt100", 80, 24, 0, 0, bytes(hex));
  for (
    const hex of [
      "",
      "00",
      "01 00000003 00",
      "01 00000003",
      "80 00009600 81 00009600 00",
      "9f 00000000 00",
      // Opcodes from 160 on end the list, and so does 0: what follows is not looked at.
      "a0",
      "a0 01",
      "ff 0102",
      "00 01 02",
    ]
  ) assert(parseMessage(pty(hex)), hex);
  for (const hex of ["01", "01 00", "01 000000", "01 00000003 05", "9f 0000", "80 009600"]) {
    refuses(pty(hex), /truncated/, hex);
  }
});

Deno.test("a name keeps its bytes, whatever their encoding", () => {
  const raw = Uint8Array.from({ length: 255 }, (_, index) => index + 1);
  const payload = buildMessage(MessageType.channelRequest, 3, raw, true);
  const message = parseMessage(payload) as { requestType: string };
  assert.deepEqual(buildMessage(MessageType.channelRequest, 3, message.requestType, true), payload);
  const long = "x".repeat(100_000);
  const request = parseMessage(buildMessage(MessageType.channelRequest, 3, long, true));
  assert.equal((request as { requestType?: string }).requestType, long);
});

Deno.test("text for people is UTF-8 in a message", () => {
  assert.deepEqual(encodeFields(utf8String("é€")), bytes("00000005 c3a9 e282ac"));
  assert.equal(displayText(utf8String("é€😀")), "é€😀");
  assert.equal(displayText("\xff"), "\ufffd");
});

Deno.test("fields are built as RFC 4251 writes them", () => {
  assert.deepEqual(
    buildMessage(80, "ab", true, false, 0, 0xffffffff, bytes("00ff"), { raw: bytes("aabb") }),
    bytes("50 00000002 6162 01 00 00000000 ffffffff 00000002 00ff aabb"),
  );
  assert.deepEqual(encodeFields(), new Uint8Array());
});

Deno.test("every byte but zero is true", () => {
  for (const value of [1, 2, 0x80, 0xff]) {
    assert.equal(new Reader(Uint8Array.of(value)).boolean(), true);
  }
  assert.equal(new Reader(Uint8Array.of(0)).boolean(), false);
});

Deno.test("a reader starts where it is told and works on views", () => {
  const outer = bytes("ffff 00000001 61 ee");
  const reader = new Reader(outer.subarray(1), 1);
  assert.equal(reader.text(), "a");
  assert.throws(() => reader.end(), MalformedDataError);
  assert.deepEqual(reader.rest(), bytes("ee"));
  reader.end();
  assert.deepEqual(reader.rest(), bytes(""));
  assert.throws(() => reader.boolean(), MalformedDataError);
});

Deno.test("a rewritten recipient changes four bytes and no other", () => {
  for (const { hex, parsed } of examples) {
    if (parsed.recipientChannel === undefined) continue;
    const payload = bytes(hex);
    rewriteRecipient(payload, 0x01020304);
    assert.deepEqual(payload.subarray(0, 5), bytes(`${hex.slice(0, 2)} 01020304`));
    assert.deepEqual(payload.subarray(5), bytes(hex).subarray(5));
  }
});

Deno.test("a rewritten open changes its three numbers and no other byte", () => {
  for (const type of ["", "a", "session", "direct-streamlocal@openssh.com"]) {
    const body = { raw: bytes("0102030405060708") };
    const payload = buildMessage(MessageType.channelOpen, type, 1, 2, 3, body);
    rewriteOpen(payload, {
      senderChannel: 0xfffffffd,
      initialWindowSize: 0xfffffffe,
      maximumPacketSize: 0xffffffff,
    });
    assert.deepEqual(
      payload,
      buildMessage(MessageType.channelOpen, type, 0xfffffffd, 0xfffffffe, 0xffffffff, body),
    );
  }
});

Deno.test("a rewritten confirmation changes its four numbers and no other byte", () => {
  const payload = bytes("5b 00000001 00000002 00000003 00000004 aabbcc");
  rewriteConfirmation(payload, {
    recipientChannel: 0x11121314,
    senderChannel: 0x21222324,
    initialWindowSize: 0x31323334,
    maximumPacketSize: 0x41424344,
  });
  assert.deepEqual(payload, bytes("5b 11121314 21222324 31323334 41424344 aabbcc"));
});

Deno.test("a message within a larger buffer is rewritten in its own bytes", () => {
  const buffer = new Uint8Array(40).fill(0xee);
  const payload = buffer.subarray(7, 7 + 13);
  payload.set(bytes("5e 00000001 00000004 01020304"));
  rewriteRecipient(payload, 9);
  assert.deepEqual(payload, bytes("5e 00000009 00000004 01020304"));
  assert(buffer.subarray(0, 7).every((value) => value === 0xee));
  assert(buffer.subarray(20).every((value) => value === 0xee));
});

/** The messages whose bodies are known, and where each body begins. */
function* knownMessages(): Generator<
  { name: string; payload: Uint8Array; body: Uint8Array; bodyAt: number }
> {
  const { channelOpen, channelRequest, globalRequest } = MessageType;
  const heads: [Record<string, Field[]>, (name: string) => Uint8Array][] = [
    [knownBodies.opens, (name) => buildMessage(channelOpen, name, 1, 2, 3)],
    [knownBodies.requests, (name) => buildMessage(channelRequest, 1, name, true)],
    [knownGlobalBodies, (name) => buildMessage(globalRequest, name, true)],
  ];
  for (const [bodies, buildHead] of heads) {
    for (const [name, fields] of Object.entries(bodies)) {
      const head = buildHead(name);
      const body = encodeFields(...fields);
      yield { name, payload: concatenate([head, body]), body, bodyAt: head.length };
    }
  }
}

function refuses(payload: Uint8Array, reason: RegExp, label = ""): void {
  assert.throws(() => parseMessage(payload), (error) => {
    assert(error instanceof ProtocolError, `${label}: ${error}`);
    assert.match(error.message, reason, label);
    return true;
  }, label);
}

function bytes(hex: string): Uint8Array {
  const digits = hex.replaceAll(" ", "");
  return Uint8Array.from(
    { length: digits.length / 2 },
    (_, at) => parseInt(digits.slice(at * 2, at * 2 + 2), 16),
  );
}
