/** Forwards as ssh writes them. */

import assert from "node:assert/strict";
import { type ForwardSpec, parseForwardSpec } from "../lib/forward_spec.ts";

const here = Deno.cwd();
const nowhere = { host: "", port: 0 };

const understood: [kind: ForwardSpec["kind"], text: string, listen: unknown, connect: unknown][] = [
  ["local", "80:host:443", { host: "", port: 80 }, { host: "host", port: 443 }],
  ["local", "0:host:443", { host: "", port: 0 }, { host: "host", port: 443 }],
  ["local", ":80:host:443", { host: "*", port: 80 }, { host: "host", port: 443 }],
  ["local", "*:80:host:443", { host: "*", port: 80 }, { host: "host", port: 443 }],
  ["local", "localhost:80:host:443", { host: "localhost", port: 80 }, { host: "host", port: 443 }],
  ["local", "[::1]:80:[::2]:443", { host: "::1", port: 80 }, { host: "::2", port: 443 }],
  ["local", "80:/run/a.sock", { host: "", port: 80 }, { path: "/run/a.sock" }],
  ["local", "127.0.0.1:80:/run/a.sock", { host: "127.0.0.1", port: 80 }, { path: "/run/a.sock" }],
  ["local", "./a.sock:host:80", { path: `${here}/a.sock` }, { host: "host", port: 80 }],
  ["local", "/a\\:b:host:80", { path: "/a:b" }, { host: "host", port: 80 }],
  ["local", "/a.sock:./b.sock", { path: "/a.sock" }, { path: "./b.sock" }],
  ["remote", "/a.sock:./b.sock", { path: "/a.sock" }, { path: `${here}/b.sock` }],
  ["remote", "80:host:443", { host: "", port: 80 }, { host: "host", port: 443 }],
  ["remote", "8080", { host: "", port: 8080 }, nowhere],
  ["remote", "0", { host: "", port: 0 }, nowhere],
  ["remote", "*:8080", { host: "*", port: 8080 }, nowhere],
  ["dynamic", "1080", { host: "", port: 1080 }, nowhere],
  ["dynamic", "[::1]:1080", { host: "::1", port: 1080 }, nowhere],
  ["local", "80:häuser.example:1", { host: "", port: 80 }, {
    ...{ host: "h\xc3\xa4user.example", port: 1 },
  }],
];

const refused: [kind: ForwardSpec["kind"], text: string][] = [
  ["local", ""],
  ["local", "80"],
  ["local", "80:host"],
  ["local", "80:host:0"],
  ["local", "80::443"],
  ["local", "65536:host:443"],
  ["local", "80:host:65536"],
  ["local", "80:host:443:1:2"],
  ["local", "x:host:443"],
  ["local", "[::1:80:host:443"],
  ["local", "[::1]80:host:443"],
  ["local", "/a.sock:80:host:443"],
  ["remote", "/a.sock"],
  ["dynamic", "/a.sock"],
  ["dynamic", "80:host:443"],
  ["dynamic", "host"],
];

Deno.test("forwards are understood as ssh understands them", () => {
  for (const [kind, text, listen, connect] of understood) {
    assert.deepEqual(parseForwardSpec(kind, text), { kind, listen, connect }, text);
  }
});

Deno.test("what is no forward is refused", () => {
  for (const [kind, text] of refused) assert.equal(parseForwardSpec(kind, text), undefined, text);
});
