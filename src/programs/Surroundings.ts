/** What the assistant's other parts have to do with each answer. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/** What surrounds a turn; nothing unless it is given. */
export const Surroundings = Context.Reference<{
  /** What goes before a question, and changes too often for the system prompt; its source is the user's own notes. */
  readonly material: Effect.Effect<string>
  /** Told of each complete exchange, before its end is told to the client. */
  readonly finished: (exchange: Finished) => Effect.Effect<void>
}>("clawchat/programs/Surroundings", {
  defaultValue: () => ({ material: Effect.succeed(""), finished: () => Effect.void })
})

export interface Finished {
  readonly conversation: string
  readonly messageId: string
  readonly question: string
  readonly answer: string
  /** Milliseconds since 1970: when the question was asked. */
  readonly created: number
  readonly job: string | undefined
  /** Text that others than the user may have written was before the model. */
  readonly tainted: boolean
}
