/** The page of metrics: real figures of the real program, in the format that Prometheus reads. */

import assert from "node:assert/strict";
import { metricsText } from "../lib/metrics_text.ts";
import type { ShimStatus } from "../lib/status.ts";
import { shimTarget } from "./support/behind.ts";
import { startInnerShim } from "./support/inner_shim.ts";
import { startGround } from "./support/both.ts";
import { logIn, serverArguments } from "./support/login.ts";
import { parseOpenMetrics } from "./support/openmetrics.ts";
import { startService } from "./support/services.ts";
import type { Shim } from "./support/shim.ts";
import { startSshd } from "./support/sshd.ts";

/** Where the program says that its metrics are. */
async function urlOf({ log }: Shim): Promise<string> {
  return (await log.waitFor(/"url":"(http:[^"]+)"/))[1]!;
}

/** All values of a page, by name and labels. */
function valuesOf(page: string): Map<string, number> {
  return new Map([...parseOpenMetrics(page).values()].flatMap(({ samples }) => [...samples]));
}

async function get(url: string): Promise<string> {
  const response = await fetch(url);
  const body = await response.text();
  assert.equal(response.status, 200, body);
  assert.match(response.headers.get("content-type")!, /^application\/openmetrics-text; version=1/);
  return body;
}

Deno.test("the page has what was done, to the byte", async () => {
  await using ground = await startGround({
    sshd: { config: ["MaxSessions 100"] },
    shim: { arguments: ["-v", "--metrics", "127.0.0.1:0"] },
  });
  const target = shimTarget(ground);
  const url = await urlOf(ground.shim);
  await target.ssh("cat; echo over", { stdin: "twelve bytes" });
  await using client = target.startSsh("echo ready; cat");
  await client.stdout.waitFor(/ready/);
  const page = await get(url);
  // Commands are for the status alone.
  assert(!`${page}${ground.shim.log.text}`.includes("echo over"));
  const host = `host="${ground.sshd.host}"`;
  const values = valuesOf(page);
  const expected = {
    [`sshshim_upstream_state{${host},state="ready"}`]: 1,
    [`sshshim_upstream_state{${host},state="waiting"}`]: 0,
    [`sshshim_relayed_bytes_total{direction="to_host",${host}}`]: 12,
    [`sshshim_relayed_bytes_total{direction="to_client",${host}}`]: 12 + "over\nready\n".length,
    [`sshshim_clients{carrier="port",${host}}`]: 1,
    [`sshshim_clients_accepted_total{${host}}`]: 2,
    [`sshshim_channels{${host},type="session"}`]: 1,
    [`sshshim_channels_opened_total{${host},type="session"}`]: 2,
    [`sshshim_channels_refused_total{${host},type="session"}`]: 0,
    [`sshshim_reconnections_total{${host}}`]: 0,
  };
  assert.deepEqual(
    Object.fromEntries(Object.keys(expected).map((key) => [key, values.get(key)])),
    expected,
    page,
  );
  assert(values.get("sshshim_process_resident_memory_bytes")! > 10_000_000);
  const startedAt = values.get("sshshim_process_start_timestamp_seconds")! * 1000;
  assert(Math.abs(Date.now() - startedAt) < 3_600_000);
  const manual = await Deno.readTextFile(new URL("../.github/MONITORING.md", import.meta.url));
  for (const [name, { type, unit, help }] of parseOpenMetrics(page)) {
    assert(name.startsWith("sshshim_") && type !== "unknown" && help !== undefined, name);
    assert(manual.includes(`| \`${name}${type === "counter" ? "_total" : ""}\` `), name);
    assert.equal(unit, /_(seconds|bytes)$/.exec(name)?.[1], name);
  }
});

Deno.test("the page is read by GET, at its path, and under a name of loopback alone", async () => {
  await using ground = await startGround({ shim: { arguments: ["--metrics", "127.0.0.1:0"] } });
  const url = new URL(await urlOf(ground.shim));
  const ask = async (path: string, { host = url.host, method = "GET" } = {}) => {
    using connection = await Deno.connect({ hostname: url.hostname, port: Number(url.port) });
    const request = `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
    await connection.write(new TextEncoder().encode(request));
    const answer = await new Response(connection.readable).text();
    return Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);
  };
  assert.equal(await ask("/metrics"), 200);
  assert.equal(await ask("/metrics", { host: `localhost:${url.port}` }), 200);
  assert.equal(await ask("/metrics", { host: "evil.example" }), 403);
  assert.equal(await ask("/metrics", { host: "127.0.0.1.evil.example" }), 403);
  assert.equal(await ask("/metrics", { method: "POST" }), 405);
  assert.equal(await ask("/"), 404);
});

Deno.test("a port of metrics that is taken is told before anything is served", async () => {
  await using sshd = await startSshd();
  await using taken = startService(() => Promise.resolve());
  const { isIn, status, log } = await logIn([
    ...serverArguments(sshd),
    ...["-i", sshd.keyFile, "--metrics", `127.0.0.1:${taken.port}`],
  ], { folder: sshd.folder });
  assert.deepEqual([isIn, status], [false, 6], log);
  assert.match(log, new RegExp(`metrics cannot be served at 127.0.0.1:${taken.port}: .*in use`));
});

Deno.test("several hosts are one page, and a host of any name is one label", async () => {
  await using sshd = await startSshd();
  await using inner = await startInnerShim(sshd);
  const status = await inner.shim.status();
  const odd: ShimStatus = { ...status, name: 'a"b\\c\nd' };
  const values = valuesOf(metricsText([status, odd]));
  for (const name of [sshd.host, 'a\\"b\\\\c\\nd']) {
    assert.equal(values.get(`sshshim_upstream_state{host="${name}",state="ready"}`), 1);
  }
  const process = [...values.keys()].filter((key) => key.startsWith("sshshim_process_"));
  assert.deepEqual(process, [
    "sshshim_process_start_timestamp_seconds",
    "sshshim_process_resident_memory_bytes",
  ]);
});

Deno.test("whatever clients and hosts do, no label is of their choice", async () => {
  await using sshd = await startSshd();
  await using inner = await startInnerShim(sshd);
  await using client = inner.target.startSsh("echo ready; cat");
  await client.stdout.waitFor(/ready/);
  const status = await inner.shim.status();
  const [one] = status.clients;
  const channel = { ...one!.channels[0]!, type: "made-up@example.com" };
  const totals = { ...status.totals, channels: [{ type: "other", opened: 1, refused: 0 }] };
  const values = valuesOf(
    metricsText([{ ...status, totals, clients: [{ ...one!, channels: [channel] }] }]),
  );
  assert.equal(values.get(`sshshim_channels{host="${sshd.host}",type="other"}`), 1);
  assert(![...values.keys()].some((key) => key.includes("made-up") || key.includes("ready;")));
});
