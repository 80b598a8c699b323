/** What the catalogues of commands are made of: the root with the flags that every command takes, and a few kinds of flags. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"

export const text = (name: string, metavar: string, description: string) =>
  Flag.String(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.optional)
export const number = (name: string, metavar: string, description: string) =>
  Flag.Int(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.optional)
export const on = (name: string, description: string) =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withDefault(false))

export const json = on("json", "Print one JSON value")
export const timeout = Flag.Finite("timeout").pipe(
  Flag.withMetavar("SECONDS"),
  Flag.withDescription("How long to try before giving up"),
  Flag.withDefault(20),
  Flag.map((seconds) => Math.max(0.1, seconds) * 1000)
)

export const root = Command.make("clawchat").pipe(
  Command.withDescription("A private line between a person and an AI assistant on a machine of their own"),
  Command.withSharedFlags({
    home: text("home", "FOLDER", "Folder of all state (else CLAWCHAT_HOME)"),
    config: text("config", "FILE", "YAML configuration (else CLAWCHAT_CONFIG)")
  })
)

/** Runs a verb with its own flags and the shared ones. */
export const verb =
  <Input extends object, A, E, R>(load: () => Promise<(input: Input & Globals) => Effect.Effect<A, E, R>>) =>
  (input: Input) =>
    Effect.gen(function* () {
      const globals = yield* root
      const run = yield* Effect.promise(load)
      return yield* run({ ...input, ...globals })
    })
export type Globals = Effect.Success<typeof root>
