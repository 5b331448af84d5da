/** The way through the shim alone, for what has no counterpart on a direct connection. */

import { clientEnvironment, type Ground, makeTarget, type Target } from "./both.ts";

/** The shim as a target; its folder is the server's, which ends with it. */
export function shimTarget({ shim, sshd }: Pick<Ground, "shim" | "sshd">): Target {
  return makeTarget({
    mode: "shim",
    host: shim.host,
    port: shim.port,
    knownHostsFile: shim.knownHostsFile,
    username: sshd.username,
    keyFile: sshd.keyFile,
    folder: sshd.folder,
    environment: clientEnvironment(sshd.folder),
  });
}
