/** Imported for its effect: the C library stays loaded, and no test's leak sanitizer sees that. */

import { loadLibc } from "../../lib/libc.ts";

try {
  loadLibc();
} catch {
  // Not on this system: nobody uses it here.
}
