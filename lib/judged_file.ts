/** Files that are read only if what they are, whose they are and who may write them is right. */

/**
 * Reads a file.
 *
 * @param judge throws where the file must not be read.
 */
export async function readJudged(
  file: string,
  judge: (info: Deno.FileInfo) => void,
): Promise<Uint8Array> {
  // By its name first, because opening a named pipe would wait for its other end.
  judge(await Deno.stat(file));
  using handle = await Deno.open(file, { read: true });
  // Then the open file, which nobody can exchange for another.
  judge(await handle.stat());
  return new Uint8Array(await new Response(handle.readable).arrayBuffer());
}
