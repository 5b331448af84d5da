/** A configuration file as text, if nobody else could have written it. */

import { UsageError } from "./errors.ts";

/**
 * Reads a file; null if there is none. A folder has no text.
 *
 * @throws {UsageError} The file cannot be read; or it must be safe, and belongs neither to us nor
 * to root, or others can write it.
 */
export async function readConfigFile(
  file: string,
  { mustBeSafe }: { mustBeSafe: boolean },
): Promise<string | null> {
  try {
    using handle = await Deno.open(file);
    // The open file is judged, which nobody can exchange for another.
    const info = await handle.stat();
    if (info.isDirectory) return "";
    if (mustBeSafe && !isSafe(info)) {
      throw new UsageError(
        `Bad owner or permissions on ${file}: it must be yours, and nobody else may write it. ` +
          `Try "chmod go-w ${file}".`,
      );
    }
    const bytes = await new Response(handle.readable).arrayBuffer();
    // A byte order mark stays and is an error, as with ssh.
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    const { NotADirectory, NotFound } = Deno.errors;
    if (cause instanceof NotFound || cause instanceof NotADirectory) return null;
    throw new UsageError(
      `The configuration file ${file} cannot be read: ${(cause as Error).message}. ` +
        `Make it readable, or name another one with -F.`,
      { cause },
    );
  }
}

function isSafe({ uid, mode }: Deno.FileInfo): boolean {
  // Windows tells neither.
  if (uid === null || mode === null) return true;
  return (uid === 0 || uid === Deno.uid()) && (mode & 0o022) === 0;
}
