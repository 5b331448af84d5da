/** What it means that a server has refused all there was to try. */

import { AuthenticationError } from "./errors.ts";
import type { Failure } from "./userauth_messages.ts";

/**
 * @param name for messages: `user@host:port`.
 * @param isJump whether it is on the way to another host: of the options only `-F` counts for it.
 * @param tried the keys and methods.
 */
export function refusalOf(
  { methods, isPartial }: Failure,
  { name, isJump, tried: names }: { name: string; isJump: boolean; tried: readonly string[] },
): AuthenticationError {
  const tried = names.length > 0 ? `Tried: ${names.join(", ")}` : "Nothing to try";
  const wanted = methods.join(", ") || "nothing";
  const state = isPartial ? `accepted that but still wants: ${wanted}` : `accepts: ${wanted}`;
  const isPassword = names.length > 0 &&
    names.every((it) => it === "password" || it === "keyboard-interactive");
  const advice = isPassword
    ? "Check the user name, the password, and whatever else the server asks for."
    : `Check the user name, and name another key with ${
      isJump ? "IdentityFile in ssh's configuration" : "-i FILE"
    } or let ssh-agent have it.`;
  return new AuthenticationError(
    `${name} refused authentication. ${tried}; the server ${state}. ${advice}`,
  );
}
