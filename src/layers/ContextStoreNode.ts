/** Context files in a folder. People edit them with what they like, so only reading is careful: bounded, never blocking. */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { contextDefaults } from "../domain/ContextDefaults.ts"
import * as ContextPrompt from "../domain/ContextPrompt.ts"
import { ContextStore, ContextStoreError } from "../services/ContextStore.ts"
import * as Folders from "./Folders.ts"
import { codeOf, head } from "./TextFile.ts"

const ignored = (name: string, note: string, bytes = 0): ContextPrompt.Found => ({ _tag: "Ignored", name, bytes, note })

const find = async (folder: string, name: string): Promise<ContextPrompt.Found> => {
  try {
    const found = await head(path.join(folder, name), ContextPrompt.maxFileBytes)
    if (found === "Missing") return { _tag: "Missing", name }
    if (found === "Link") return ignored(name, "is a link; put the text itself here")
    if (found === "Other") return ignored(name, "is not a regular file")
    return ContextPrompt.fromBytes(name, found.bytes, found.size)
  } catch (error) {
    return ignored(name, `cannot be read (${codeOf(error)})`)
  }
}

/** Writes the defaults that are missing; whatever stands at a name, a dangling link too, stays. */
const writeDefaults = async (folder: string) => {
  Folders.make(folder)
  for (const name of ContextPrompt.fileNames) {
    try {
      await fs.writeFile(path.join(folder, name), contextDefaults[name], { flag: "wx", mode: 0o600 })
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error
    }
  }
}

/**
 * The files in `folder` (absolute). The folder and missing files are made once, at the start: a file removed later stays
 * away until the next.
 */
export const layer = (options: {
  readonly folder: string
  readonly places?: ContextPrompt.Places | undefined
}): Layer.Layer<ContextStore, ContextStoreError> =>
  Layer.effect(
    ContextStore,
    Effect.tryPromise({
      try: () => writeDefaults(options.folder),
      catch: (error) => {
        const code = codeOf(error)
        return new ContextStoreError({
          reason: code === "EACCES" || code === "EPERM" || code === "EROFS" ? "Denied" : "Io",
          path: options.folder,
          message: `cannot make the context files in ${options.folder} (${code}): choose another folder with CLAWCHAT_CONTEXT_DIR`
        })
      }
    }).pipe(
      Effect.as(
        ContextStore.of({
          read: Effect.promise(() =>
            Promise.all(ContextPrompt.fileNames.map((name) => find(options.folder, name)))
          ).pipe(
            Effect.map((found) => ContextPrompt.join(found, options.places)),
            Effect.withSpan("ContextStore.read")
          )
        })
      )
    )
  )
