/** The files that tell the assistant who it is and whom it serves; people edit them, each turn reads them anew. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ContextFile } from "../domain/ChatRpc.ts"
import * as ContextPrompt from "../domain/ContextPrompt.ts"

/** The folder or its defaults could not be made. */
export class ContextStoreError extends Data.TaggedError("ContextStoreError")<{
  readonly reason: "Denied" | "Io"
  readonly path: string
  /** One line for people: what, where, what to do. */
  readonly message: string
}> {}

export interface ContextSnapshot {
  /** The files joined, in order of priority, each under its heading. */
  readonly text: string
  readonly files: ReadonlyArray<ContextFile>
}

export class ContextStore extends Context.Service<
  ContextStore,
  {
    /** The files as they are now. A file that cannot be used is named in `files` with the reason; it is no failure. */
    readonly read: Effect.Effect<ContextSnapshot>
  }
>()("clawchat/services/ContextStore") {
  /** From names to contents; look-ups happen at each read, so the record may be changed meanwhile. */
  static readonly layerMemory = (
    files: { readonly [name: string]: string | undefined },
    places?: ContextPrompt.Places
  ): Layer.Layer<ContextStore> =>
    Layer.succeed(
      ContextStore,
      ContextStore.of({
        read: Effect.sync(() =>
          ContextPrompt.join(
            ContextPrompt.fileNames.map((name) => {
              const text = files[name]
              return text === undefined
                ? { _tag: "Missing", name }
                : ContextPrompt.fromBytes(name, new TextEncoder().encode(text))
            }),
            places
          )
        )
      })
    )
}
