/** What the user asked for: flags, environment, `.env`, YAML and defaults, checked and merged. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { Flags, Role, Values } from "../domain/Settings.ts"

/** Everything that is wrong with the settings at once; no message holds a secret. */
export class SettingsError extends Data.TaggedError("SettingsError")<{
  /** One line each: where, which key, what was expected, what was there. */
  readonly problems: ReadonlyArray<string>
}> {
  override get message(): string {
    return this.problems.join("\n")
  }
}

export interface LoadOptions {
  readonly role: Role
  /** As the user typed them; a flag that was not given must be absent or undefined, never its default. */
  readonly flags?: Flags
}

export interface Loaded {
  readonly settings: Values
  /** The YAML file that was read. */
  readonly configFile: string | undefined
  /** The `.env` files that were read, the strongest first. */
  readonly envFiles: ReadonlyArray<string>
  /** Where each key that is not at its default was given: `environment: CLAWCHAT_SERVER_PORT`. */
  readonly origins: ReadonlyMap<string, string>
  /** One line each; for people, nothing that stops a start. */
  readonly warnings: ReadonlyArray<string>
}

export class Settings extends Context.Service<
  Settings,
  {
    /** Reads the files anew; the environment is the one the process started with. */
    readonly load: (options: LoadOptions) => Effect.Effect<Loaded, SettingsError>
  }
>()("clawchat/services/Settings") {}
