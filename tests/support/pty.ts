/** A person's terminal: a command under a pseudo-terminal that the test types into. */

import { Buffer } from "node:buffer";
import { fileURLToPath } from "node:url";
import { kept } from "./deadline.ts";
import { pythonProgram } from "./python.ts";
import { RunningProcess } from "./run.ts";
import { Transcript } from "./transcript.ts";

const script = fileURLToPath(new URL("./terminal.py", import.meta.url));

/** Rows and columns, in characters. */
export interface Dimensions {
  rows: number;
  columns: number;
}

/** A command under a pseudo-terminal. Leaving its scope ends it. */
export class Terminal implements AsyncDisposable {
  /** All that the terminal has shown. */
  readonly screen = new Transcript();
  #process: RunningProcess;
  #decoder = new TextDecoder();
  #exit: Promise<number>;

  /** Starts a command. Its environment is the one given, not this process's own. */
  constructor(
    command: string[],
    options: { environment: Record<string, string>; dimensions?: Dimensions },
  ) {
    const { rows, columns } = options.dimensions ?? { rows: 24, columns: 80 };
    this.#process = new RunningProcess(
      [pythonProgram, script, String(rows), String(columns), ...command],
      { environment: options.environment },
    );
    this.#exit = kept(this.#follow());
  }

  /** Types text. */
  async type(text: string): Promise<void> {
    await this.#order({ write: Buffer.from(text).toString("base64") });
  }

  /** Changes the dimensions, as dragging a window's corner does. */
  async resize(dimensions: Dimensions): Promise<void> {
    await this.#order({ resize: [dimensions.rows, dimensions.columns] });
  }

  /**
   * Resolves with the command's exit status; a negative one is the number of the signal that
   * ended it.
   */
  get exit(): Promise<number> {
    return this.#exit;
  }

  /** Ends the command, by SIGKILL if it still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.closeStdin();
    await this.#process[Symbol.asyncDispose]();
    await this.#exit.catch(() => {});
  }

  #order(order: Record<string, unknown>): Promise<void> {
    return this.#process.write(`${JSON.stringify(order)}\n`);
  }

  async #follow(): Promise<number> {
    let position = 0;
    try {
      while (true) {
        const line = await this.#process.stdout.waitFor(/^.*\n/, { from: position });
        position += line[0].length;
        const report: { output?: string; exit?: number } = JSON.parse(line[0]);
        if (report.output !== undefined) {
          const bytes = Buffer.from(report.output, "base64");
          this.screen.append(this.#decoder.decode(bytes, { stream: true }));
        }
        if (report.exit !== undefined) return report.exit;
      }
    } catch (error) {
      throw new Error(`The terminal ended early. ${this.#process.stderr.text}`, { cause: error });
    } finally {
      this.screen.end();
    }
  }
}
