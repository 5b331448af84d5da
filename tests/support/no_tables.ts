/** Loaded before the shim: a Linux that has no tables of its connections, as macOS has none. */

const { openSync } = Deno;
Deno.openSync = (path, options) => {
  if (`${path}`.startsWith("/proc/net/tcp")) throw new Deno.errors.NotFound(`${path}`);
  return openSync(path, options);
};
