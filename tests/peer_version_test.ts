/** What a peer's identification tells. */

import assert from "node:assert/strict";
import { payloadBytesOf, takesWarmSession } from "../lib/peer_version.ts";

const versions: readonly [version: string, takesLarge: boolean, takesWarm: boolean][] = [
  ["OpenSSH_9.2p1 Debian-2+deb12u7", true, true],
  ["OpenSSH_10.0", true, true],
  ["OpenSSH_for_Windows_9.5", false, true],
  ["OpenSSH_sshshim_0.1", true, false],
  ["OpenSSH_", false, false],
  ["dropbear_2022.83", false, false],
  ["tinyssh_noversion", false, false],
  ["ssh2js1.17.0srv", false, false],
  ["paramiko_3.0", false, false],
  ["AsyncSSH_2.10.1", false, false],
  ["Go", false, false],
  ["not OpenSSH_9.2", false, false],
  ["", false, false],
];

for (const [version, takesLarge, takesWarm] of versions) {
  Deno.test(`"${version}" takes ${takesLarge ? "large" : "usual"} messages, and ${takesWarm ? "a" : "no"} warm session`, () => {
    assert.equal(payloadBytesOf(version), takesLarge ? 255 * 1024 : 34_000);
    assert.equal(takesWarmSession(version), takesWarm);
  });
}
