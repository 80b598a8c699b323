/** A language model behind an interface: one request, a stream of events. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import type { FailureReason, LlmMessage, StopReason, ToolCall, ToolSpec, Usage } from "../domain/Llm.ts"

export class LlmError extends Data.TaggedError("LlmError")<{
  readonly reason: FailureReason
  /** One line for people: what happened, what to do. Never holds a key. */
  readonly message: string
  /** With `RateLimited`, where the provider said so. */
  readonly retryAfterMs?: number
}> {}

export interface LlmRequest {
  readonly conversation: string
  /** Stays byte for byte the same from turn to turn as long as nobody edits it, so that providers may cache it. */
  readonly system: string
  /** Begins with the user, ends with the user or with results. Several of the user's may follow each other; a layer joins them where it must. */
  readonly messages: ReadonlyArray<LlmMessage>
  readonly tools?: ReadonlyArray<ToolSpec>
  /** Default: the provider's configured model. */
  readonly model?: string
  readonly maxTokens?: number
  /** The cron job that this is for: its budget counts. */
  readonly job?: string
}

/**
 * Closed union. Every complete stream ends with its one `Done`; calls come only when they are complete, directly before
 * it, so that half an answer executes nothing.
 */
export type LlmEvent =
  | { readonly _tag: "Delta"; readonly text: string }
  | { readonly _tag: "Reasoning"; readonly text: string }
  | { readonly _tag: "Call"; readonly call: ToolCall }
  /** For people: another provider answers, a request is tried again. */
  | { readonly _tag: "Notice"; readonly text: string }
  | {
      readonly _tag: "Done"
      readonly usage: Usage
      readonly stopReason: StopReason
      readonly model: string
      /** Where another than the configured one answered. */
      readonly provider?: string
      /** US dollars, where the model's price is known. */
      readonly cost?: number
    }

export interface LlmInfo {
  readonly provider: string
  readonly model: string
  /** How this provider came to be chosen, for people. */
  readonly chosen: string
}

export interface LlmProviderShape {
  readonly info: LlmInfo
  /**
   * Nothing is sent before the stream is run; each run is one request. Interruption closes the connection to the
   * provider at once. No retries: the caller decides. Text that came before a failure has been emitted.
   */
  readonly stream: (request: LlmRequest) => Stream.Stream<LlmEvent, LlmError>
  /** Names of the models that the provider has, where it can tell. */
  readonly models?: Effect.Effect<ReadonlyArray<string>, LlmError>
}

export class LlmProvider extends Context.Service<LlmProvider, LlmProviderShape>()("clawchat/services/LlmProvider") {
  /** Answers by script: the nth request gets what the function returns for it. Requests can be looked at there. */
  static readonly layerScripted = (
    script: (request: LlmRequest, index: number) => Stream.Stream<LlmEvent, LlmError>
  ): Layer.Layer<LlmProvider> =>
    Layer.effect(
      LlmProvider,
      Effect.sync(() => {
        let index = 0
        return LlmProvider.of({
          info: { provider: "scripted", model: "script-1", chosen: "by the test" },
          stream: (request) => Stream.suspend(() => script(request, index++))
        })
      })
    )
}
