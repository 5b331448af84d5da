/** A command in place of what clients ask for, as `command=` in authorized_keys has it. */

/** Whoever logs in runs this command. */
export async function forceCommand({ folder }: { folder: string }, command: string): Promise<void> {
  const file = `${folder}/authorized_keys`;
  const lines = await Deno.readTextFile(file);
  const forced = `command="${command.replaceAll('"', '\\"')}" `;
  await Deno.writeTextFile(file, lines.replaceAll(/^(?=\S)/gm, forced));
}
