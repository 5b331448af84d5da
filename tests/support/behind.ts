/** The ways through the shim alone, for what has no counterpart on a direct connection. */

import { clientEnvironment, type Ground, makeTarget, type Target } from "./both.ts";

/** The shim's port as a target; its folder is the server's, which ends with it. */
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

/** The same by its control socket. */
export function laneTarget(ground: Pick<Ground, "shim" | "sshd">): Target {
  const { controlPath } = ground.shim.banner;
  if (controlPath === undefined) throw new Error("the shim has no control socket");
  return makeTarget({ ...shimTarget(ground), mode: "lane", controlPath });
}
