/** CRON.md in the context folder: read with care, replaced whole. */
import * as path from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { cronDefault } from "../domain/CronDefault.ts"
import { CronFiles, CronFilesError } from "../services/CronFiles.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"
import * as TextFile from "./TextFile.ts"

/** Bytes of a file; a longer one is refused. */
const MAX_BYTES = 8 * 1024 * 1024
/** How often a change is made anew because the file had changed. */
const MAX_TRIES = 5
/** An editor that writes in several steps is let finish. */
const CALM = "200 millis"

/** `afterRead` is called between reading and replacing, for tests of what happens there. */
const make = Effect.fnUntraced(function* (options: { readonly folder: string; readonly afterRead?: () => void }) {
  const store = yield* SecureFileStore
  const turn = yield* Semaphore.make(1)
  const file = path.join(options.folder, "CRON.md")

  const fromCause = (error: unknown): CronFilesError => {
    const { message, path: at, reason } = TextFile.faultOf(file, error)
    return new CronFilesError({ reason, path: at, message })
  }
  const find = () => TextFile.find(file, MAX_BYTES)
  const textOf = (found: TextFile.Found | undefined) => TextFile.textOf(file, found)
  const replace = (seen: TextFile.Found | undefined, text: string) =>
    TextFile.replace(file, seen, text, {
      maxBytes: MAX_BYTES,
      ...(options.afterRead === undefined ? {} : { afterWrite: options.afterRead })
    })

  const attempt = <A>(run: () => Promise<A>) => Effect.tryPromise({ try: run, catch: fromCause })

  const update = <E>(change: (text: string) => Result.Result<string, E>) =>
    Effect.gen(function* () {
      for (let tries = 0; tries < MAX_TRIES; tries++) {
        const seen = yield* attempt(find)
        const text = yield* Effect.try({ try: () => textOf(seen), catch: fromCause })
        const next = change(text)
        if (Result.isFailure(next)) return yield* Effect.fail(next.failure)
        if (next.success === text) return text
        // Not cut off between writing and clearing up.
        if (yield* Effect.uninterruptible(attempt(() => replace(seen, next.success)))) return next.success
      }
      const message = `${file} is being edited by someone else: close it there, then try again`
      return yield* new CronFilesError({ reason: "Changed", path: file, message })
    }).pipe(turn.withPermits(1))

  // The default is made once, at the start, and only where nothing stands: a dangling link stays.
  yield* attempt(() => TextFile.createMissing(file, cronDefault))

  return CronFiles.of({
    path: file,
    read: Effect.flatMap(attempt(find), (found) => Effect.try({ try: () => textOf(found), catch: fromCause })),
    update,
    changes: Stream.merge(Stream.succeed(undefined), Stream.debounce(store.watch(file), CALM))
  })
})

/** CRON.md in `folder` (absolute); the folder and a first file are made where they are missing. */
export const layer = (options: {
  readonly folder: string
  readonly afterRead?: () => void
}): Layer.Layer<CronFiles, CronFilesError, SecureFileStore> => Layer.effect(CronFiles, make(options))
