/** ssh2 with our ciphers, and the host keys that it lacks: both have to be there before it is. */

import "./ssh2_ciphers.ts";
import "./ssh2_host_keys.ts";
import "./ssh2_certificates.ts";
// @ts-types="@types/ssh2"
import ssh2 from "ssh2";

export { ssh2 };
