/**
 * Keys, passwords and answers for authentication to one host.
 *
 * What was given once is kept in memory for as long as sshshim runs: an unlocked key, a password.
 * So a later connection needs nobody, unless the server asks for something that changes each time.
 */

import { Answers, type PasswordMemory } from "./credential_answers.ts";
import { type KeyOptions, Keys } from "./credential_keys.ts";
import { type AttemptOptions, type Prompter, Questions } from "./credential_questions.ts";
import type { HostConfig } from "./host_config.ts";
import type { Signer } from "./signer.ts";
import type { CredentialSource } from "./credential_source.ts";

/** What the credentials are taken from. */
export interface CredentialOptions {
  /** For prompts: `user@host`. */
  name: string;
  config:
    & KeyOptions["config"]
    & Pick<HostConfig, "pubkeyAuthentication" | "numberOfPasswordPrompts" | "batchMode">;
  /** A password that was given in advance. */
  password: string | undefined;
  prompter: Prompter;
}

/** The user's credentials for one host. */
export class Credentials {
  readonly #options: CredentialOptions;
  readonly #unlocked = new Map<string, Signer>();
  readonly #password: PasswordMemory = { typed: undefined };

  constructor(options: CredentialOptions) {
    this.#options = options;
  }

  /** The credentials as one attempt to authenticate uses them; closed after the attempt. */
  forAttempt(attempt: AttemptOptions): CredentialSource & { close(): void } {
    const { config, password } = this.#options;
    const { numberOfPasswordPrompts } = config;
    const questions = this.questions(attempt);
    const keys = new Keys({ config, questions, unlocked: this.#unlocked });
    const memory = this.#password;
    const answers = new Answers({ questions, memory, given: password, numberOfPasswordPrompts });
    return {
      numberOfPasswordPrompts,
      bindsToHost: config.pubkeyAuthentication !== "unbound",
      keys: (session) => keys.candidates(session),
      password: (count) => answers.password(count),
      answer: (request) => answers.answer(request),
      newPassword: (prompt) => answers.newPassword(prompt),
      close: () => keys.close(),
    };
  }

  /** What one attempt may ask the person; BatchMode forbids all of it. */
  questions({ mayAsk, ...others }: AttemptOptions): Questions {
    const { name, prompter, config } = this.#options;
    const attempt = { ...others, mayAsk: mayAsk && !config.batchMode };
    return new Questions({ name, prompter, attempt });
  }
}
