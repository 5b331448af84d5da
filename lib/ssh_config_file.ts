/** A configuration file as text, if nobody else could have written it. */

import { messageOf, UsageError } from "./errors.ts";
import { readJudged } from "./judged_file.ts";

/**
 * Reads a file; `undefined` if there is none. A folder has no text.
 *
 * @throws {UsageError} The file cannot be read; or it must be safe, and belongs neither to us nor
 * to root, or others can write it.
 */
export async function readConfigFile(
  file: string,
  { mustBeSafe }: { mustBeSafe: boolean },
): Promise<string | undefined> {
  try {
    const bytes = await readJudged(file, (info) => {
      if (!mustBeSafe || info.isDirectory || isSafe(info)) return;
      throw new UsageError(
        `Bad owner or permissions on ${file}: it must be yours, and nobody else may write it. ` +
          `Try "chmod go-w ${file}".`,
      );
    });
    // A byte order mark stays and is an error, as with ssh.
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    const { IsADirectory, NotADirectory, NotFound } = Deno.errors;
    if (cause instanceof IsADirectory) return "";
    if (cause instanceof NotFound || cause instanceof NotADirectory) return undefined;
    throw new UsageError(
      `The configuration file ${file} cannot be read: ${messageOf(cause)}. ` +
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
