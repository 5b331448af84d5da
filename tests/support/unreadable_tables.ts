/**
 * Loaded before the shim: the tables of connections are there, and reading them fails; nor does the
 * kernel tell of single ones.
 */

const { open, dlopen } = Deno;
Deno.open = (path, options) => {
  if (`${path}`.startsWith("/proc/net/tcp")) {
    return Promise.reject(new Deno.errors.PermissionDenied(`${path}`));
  }
  return open(path, options);
};

const netlink = 16;
type AnyFunction = (...values: unknown[]) => unknown;
const openLibrary = dlopen as unknown as (...values: unknown[]) => {
  symbols: Record<string, AnyFunction>;
};
(Deno as { dlopen: AnyFunction }).dlopen = (...values) => {
  const library = openLibrary(...values);
  const { socket } = library.symbols;
  if (socket === undefined) return library;
  const refused: AnyFunction = (family, ...rest) =>
    family === netlink ? -1 : socket(family, ...rest);
  return { ...library, symbols: { ...library.symbols, socket: refused } };
};
