/**
 * All that serves hosts, loaded when hosts are served and not before: with ssh2 it is most of the
 * program, and whatever else the program does has no use for it.
 */

export { findAdmission } from "./admission.ts";
export { readUpstreamConfig, takeEnvironmentPassword } from "./hosts.ts";
export { loadLocalHostKeys } from "./local_host_keys.ts";
export { Shims } from "./shims.ts";
