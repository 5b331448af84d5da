/**
 * ssh2 with our ciphers, long RSA keys and host certificates, which have to be there before it is
 * loaded.
 */

import "./ssh2_ciphers.ts";
import "./ssh2_rsa.ts";
import "./ssh2_certificates.ts";
// @ts-types="@types/ssh2"
import ssh2 from "ssh2";

export { ssh2 };
