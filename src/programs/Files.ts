/** Answers the Files procedures from the tree below the base path. */
import * as Effect from "effect/Effect"
import { FilesRpc } from "../domain/FilesRpc.ts"
import { RemoteFiles } from "../services/RemoteFiles.ts"

/** Handlers of `FilesRpc`; authentication is the connection's. */
export const layer = FilesRpc.toLayer(
  Effect.gen(function* () {
    const files = yield* RemoteFiles
    return FilesRpc.of({
      "Files.List": ({ path, ...options }) => files.list(path, options),
      "Files.Stat": ({ path }) => files.stat(path)
    })
  })
)
