/** A display of the X Window System on this machine's side: its name, and the way to it. */

/** What a name may consist of; ssh takes no other. */
const nameShape = /^[A-Za-z0-9:/._][-A-Za-z0-9:/._]*$/;

/** Where displays listen that are on this machine, as paths and in Linux's abstract namespace. */
const socketPath = "/tmp/.X11-unix/X";

/** Display N of another machine is at TCP port 6000 + N. */
const firstPort = 6000;

/** A display. */
export interface Display {
  /** By which xauth knows it. */
  authorityName: string;
  screen: number;
  /** Where to connect, in the order in which it is tried. */
  addresses: (Deno.ConnectOptions | Deno.UnixConnectOptions & { transport: "unix" })[];
}

/** Reads the value of DISPLAY, as ssh does; `undefined` where it names no display. */
export function parseDisplay(value: string): Display | undefined {
  if (!nameShape.test(value)) return undefined;
  const [, host, numberText, screenText = "0"] = /^(.*):(\d+)(?:\.(\d+))?$/.exec(value) ?? [];
  // On macOS it may be the path of a socket, which ssh at the port knows.
  if (host === undefined || host.startsWith("/")) return undefined;
  const [number, screen] = [Number(numberText), Number(screenText)];
  // To xauth a display at "localhost" is one of this machine.
  const authorityName = host === "localhost" ? value.replace("localhost", "unix") : value;
  if (isHere(host)) {
    const paths = [`${socketPath}${number}`, `\0${socketPath}${number}`];
    const addresses = paths.map((path) => ({ transport: "unix" as const, path }));
    return { authorityName, screen, addresses };
  }
  const port = firstPort + number;
  return port > 65_535
    ? undefined
    : { authorityName, screen, addresses: [{ hostname: host, port }] };
}

/** @throws {Error} where nobody is there. */
export async function connectToDisplay({ addresses }: Display): Promise<Deno.Conn> {
  let failure: unknown;
  for (const address of addresses) {
    try {
      if ("transport" in address && address.transport === "unix") {
        return await Deno.connect(address);
      }
      const connection = await Deno.connect(address as Deno.ConnectOptions);
      connection.setNoDelay();
      return connection;
    } catch (error) {
      failure ??= error;
    }
  }
  throw failure;
}

function isHere(host: string): boolean {
  return host === "" || host === "unix" || host === ":";
}
