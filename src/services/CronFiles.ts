/** CRON.md, which people edit with what they like while the program may change it too. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"

/**
 * - `Unsafe`: a link, a FIFO, a folder stands there, or what is no UTF-8 text, or too much of it.
 * - `Changed`: it was edited while it was to be rewritten, each time it was tried.
 */
export class CronFilesError extends Data.TaggedError("CronFilesError")<{
  readonly reason: "Denied" | "Unsafe" | "Changed" | "Io"
  readonly path: string
  /** One line for people: what, where, what to do. */
  readonly message: string
}> {}

export class CronFiles extends Context.Service<
  CronFiles,
  {
    /** For messages. */
    readonly path: string
    /** As it is now; empty where there is no file. */
    readonly read: Effect.Effect<string, CronFilesError>
    /**
     * Replaces the text by what `change` makes of it, atomically; what somebody else wrote meanwhile is never lost, `change`
     * is asked again with that. Equal text is not written. Gives the new text.
     */
    readonly update: <E>(
      change: (text: string) => Result.Result<string, E>
    ) => Effect.Effect<string, CronFilesError | E>
    /** One element whenever the file may have changed; the first at once. */
    readonly changes: Stream.Stream<void>
  }
>()("clawchat/services/CronFiles") {
  static readonly layerMemory = (initial: string): Layer.Layer<CronFiles> =>
    Layer.effect(
      CronFiles,
      Effect.map(makeMemory(initial), (memory) => memory.files)
    )
}

/** A file in memory; `write` is somebody else's hand. */
export const makeMemory = (initial: string) =>
  Effect.gen(function* () {
    const file = yield* SubscriptionRef.make(initial)
    return {
      files: CronFiles.of({
        path: "CRON.md",
        read: SubscriptionRef.get(file),
        update: (change) =>
          Effect.gen(function* () {
            const text = yield* Effect.fromResult(change(yield* SubscriptionRef.get(file)))
            yield* SubscriptionRef.set(file, text)
            return text
          }),
        changes: Stream.map(SubscriptionRef.changes(file), () => undefined)
      }),
      write: (text: string) => SubscriptionRef.set(file, text)
    }
  })
