/** Between a client's login and its first message: who it is, whether it is let in, and the record. */

import type { Endpoints, SocketRecord } from "./access.ts";
import type { Audit, ClientFacts } from "./audit.ts";
import type { Identify } from "./client_program.ts";
import type { Confirmation } from "./confirm.ts";
import type { Peer } from "./transport.ts";

/** A client that has authenticated, at the port, or as a process of ours. */
export type Newcomer =
  & {
    id: number;
    username: string;
    /** The fingerprint of the key that it has shown, if it had to. */
    key?: string;
  }
  & (
    | { endpoints: Endpoints; socket?: SocketRecord }
    | { process: { pid: number; uid: number } | undefined }
  );

/** What the reception is made of. */
export interface ReceptionOptions {
  identify: Identify;
  /** Whether a person is asked. */
  confirmation?: Confirmation;
  audit?: Audit;
}

/** Receives the clients of one host. */
export class Reception {
  readonly #options: ReceptionOptions;

  constructor(options: ReceptionOptions) {
    this.#options = options;
  }

  /**
   * Finds out who it is, and asks whether it is let in.
   *
   * @param signal is aborted when it leaves.
   * @returns what is known of it, and why it is not let in, if it is not.
   */
  async receive(
    newcomer: Newcomer,
    signal: AbortSignal,
  ): Promise<{ facts: ClientFacts; objection?: string }> {
    const { identify, confirmation, audit } = this.#options;
    const { id, username, key } = newcomer;
    const program = await identify(newcomer);
    const [process, ...parents] = program?.processes ?? [];
    const port = "endpoints" in newcomer ? newcomer.endpoints.remotePort : undefined;
    const facts: ClientFacts = {
      ...{ client: id, port, username, key },
      ...{ uid: program?.uid, pid: process?.pid, program: process?.executable?.path },
      parents: process && parents.map(({ name, pid }) => `${name} (${pid})`),
    };
    const objection = await confirmation?.objectionTo({ id, port, program }, signal);
    if (objection !== undefined) audit?.onClientRefused(facts, objection);
    return { facts, objection };
  }

  /** It is let in. */
  onClient(client: Peer, facts: ClientFacts): void {
    this.#options.audit?.onClient(client, facts);
  }

  /** It has left, and all of its channels are closed; `reason` is why we ended it, if we did. */
  onClientLeft(client: Peer, reason: string | undefined): void {
    this.#options.audit?.onClientLeft(client, reason);
  }
}
