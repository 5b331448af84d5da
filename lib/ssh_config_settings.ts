/** The settings of ssh_config(5) that are for one connection: for most keywords the first wins. */

import { configError, lowerCase, type Source } from "./ssh_config_line.ts";
import type { Keyword } from "./ssh_config_keywords.ts";

/** A setting that counts. */
export interface Setting {
  keyword: Keyword;
  values: readonly string[];
  source: Source;
  /** Whether it stands in the system's file. */
  isSystems?: boolean;
  /** Whether the values are names of files in which nothing is expanded. */
  isLiteral?: boolean;
}

type FilesKeyword = "IdentityFile" | "CertificateFile";

/** As many as ssh takes. */
const maximumFiles = 100;

/** Collects settings in the order of the files. */
export class Settings {
  readonly #first = new Map<string, Setting>();
  readonly #files = new Map<string, Setting[]>([["IdentityFile", []], ["CertificateFile", []]]);
  readonly #sealed = new Set<string>();

  /**
   * Adds a setting, unless an earlier one decides. Files of identities and of certificates add up.
   *
   * @throws {UsageError} There are too many files.
   */
  add(setting: Setting): void {
    const { keyword: { name }, values, source, isSystems = false } = setting;
    const files = this.#files.get(name);
    if (files !== undefined) {
      if (this.#sealed.has(name)) return;
      // As with ssh, a file that the system's file names as well is there twice.
      const isSame = (other: Setting) =>
        other.values[0] === values[0] && (other.isSystems ?? false) === isSystems;
      if (files.some(isSame)) return;
      if (files.length === maximumFiles) {
        throw configError(source, `There are more than ${maximumFiles} files. Name fewer.`);
      }
      files.push(setting);
      return;
    }
    // ProxyJump and ProxyCommand exclude each other, except that "ProxyJump none" is about itself.
    const isWay = name === "ProxyJump" && values.length > 0;
    if (isWay && this.#first.has("ProxyCommand")) return;
    if (name === "ProxyCommand" && (this.get("ProxyJump")?.values.length ?? 0) > 0) return;
    if (!this.#first.has(name)) this.#first.set(name, setting);
  }

  /** No more files of a keyword are added. */
  seal(name: FilesKeyword): void {
    this.#sealed.add(name);
  }

  /** The setting of a keyword, which is written as in its manual page. */
  get(name: string): Setting | undefined {
    return this.#first.get(name);
  }

  /** The one value of a keyword. */
  value(name: string): string | undefined {
    return this.get(name)?.values[0];
  }

  /** All files of a keyword, for IdentityFile and CertificateFile. */
  files(name: FilesKeyword): readonly Setting[] {
    return this.#files.get(name) ?? [];
  }

  /** How the host is reached: directly, through jump hosts or by a command. */
  get way(): "direct" | "jump" | "command" {
    if (this.value("ProxyJump") !== undefined) return "jump";
    return lowerCase(this.value("ProxyCommand") ?? "none") === "none" ? "direct" : "command";
  }

  /**
   * Judges what sshshim does not follow, and returns the settings that it passes over.
   *
   * @throws {UsageError} A setting cannot be passed over.
   */
  notFollowed(): (Source & { text: string })[] {
    const notes: (Source & { text: string })[] = [];
    for (const { keyword, values, source } of this.#first.values()) {
      if (keyword.kind === "followed") continue;
      const { name, reason } = keyword;
      if (keyword.kind === "ignored") {
        notes.push({ ...source, text: `${name} is ignored: ${reason}` });
        continue;
      }
      const { off, way = this.way, help = helpWithout(name, off) } = keyword;
      if (way !== this.way || lowerCase(values[0] ?? "") === off) continue;
      throw configError(source, `${name} cannot be followed: ${reason}. ${help}`);
    }
    return notes;
  }
}

function helpWithout(name: string, off: string | undefined): string {
  return off === undefined
    ? "Remove it for this host."
    : `To connect without it, set ${name} to ${off} for this host.`;
}
