/** ssh2 with our ciphers and long RSA keys, which have to be there before it is loaded. */

import "./ssh2_ciphers.ts";
import "./ssh2_rsa.ts";
// @ts-types="@types/ssh2"
import ssh2 from "ssh2";

export { ssh2 };
