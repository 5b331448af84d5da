/** ssh2 with our ciphers, which have to be there before it is loaded. */

import "./ssh2_ciphers.ts";
// @ts-types="@types/ssh2"
import ssh2 from "ssh2";

export { ssh2 };
