/** Loaded into the shim by a test: at each SIGWINCH it makes mistakes that nothing catches. */

import { EventEmitter } from "node:events";

Deno.addSignalListener("SIGWINCH", () => {
  void Promise.reject(new TypeError("a promise that nobody watches"));
  setTimeout(() => {
    throw new RangeError("a throw that nobody catches");
  });
  setTimeout(() => new EventEmitter().emit("error", new Error("an event that nobody hears")));
  void Promise.reject("no error at all");
});
