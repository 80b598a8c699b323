/**
 * What the assistant can do: tools with typed arguments. A tool says what a call would do before anything is done; who calls
 * it (`Turn`) decides whether that may be done, by the tool's risk and what the model has read. A model decides nothing.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { ToolSpec } from "../domain/Llm.ts"
import type { Risk } from "../domain/ToolPolicy.ts"

/** The call failed, in words that the model reads. */
export class ToolError extends Data.TaggedError("ToolError")<{ readonly message: string }> {}

/** On whose behalf a call is made. */
export interface Caller {
  readonly conversation: string
  /** The message that caused it. */
  readonly messageId: string
  /** The cron job that it runs for. */
  readonly job?: string
}

/** A call that has been understood and can be carried out, once. */
export interface Prepared {
  /** One line for people: what it does. Printable. */
  readonly summary: string
  /** All that it would do, for who decides: the whole text to be written, both names of a move. */
  readonly detail: string
  readonly risk: Risk
  /** The result for the model. */
  readonly run: Effect.Effect<string, ToolError>
}

export interface Tool {
  readonly spec: ToolSpec
  /** Its results may hold text that others than the user have written. */
  readonly untrusted: boolean
  /** Fails where the arguments are none that it takes, in words for the model. Changes nothing. */
  readonly prepare: (argumentsJson: string, caller: Caller) => Effect.Effect<Prepared, ToolError>
}

/** `description` is for the model; `input` a struct whose fields carry descriptions as annotations. */
export const make = <S extends Schema.Decoder<unknown>>(options: {
  readonly name: string
  readonly description: string
  readonly input: S
  readonly untrusted?: boolean
  readonly prepare: (input: S["Type"], caller: Caller) => Effect.Effect<Prepared, ToolError>
}): Tool => {
  const decode = Schema.decodeUnknownResult(Schema.fromJsonString(options.input))
  const { schema } = Schema.toJsonSchemaDocument(options.input)
  return {
    spec: { name: options.name, description: options.description, parameters: { ...schema } },
    untrusted: options.untrusted ?? false,
    prepare: (json, caller) => {
      const input = decode(json.trim() === "" ? "{}" : json)
      if (Result.isFailure(input)) {
        return Effect.fail(
          new ToolError({ message: `the arguments of ${options.name} are wrong: ${input.failure.message}` })
        )
      }
      return options.prepare(input.success, caller)
    }
  }
}

/** The tools that the assistant has; none unless they are given. */
export const ToolBox = Context.Reference<ReadonlyArray<Tool>>("clawchat/programs/ToolBox", { defaultValue: () => [] })
