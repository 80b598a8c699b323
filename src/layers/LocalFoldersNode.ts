/** Folders of this host as the user names them, relative ones to the current folder. */
import * as NodePath from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { FilesError, type Reason } from "../domain/RemoteFile.ts"
import { LocalFolders } from "../services/LocalFolders.ts"
import * as Folders from "./Folders.ts"
import { fromCause } from "./HostErrors.ts"
import * as RemoteFilesNode from "./RemoteFilesNode.ts"

const WHY: Partial<Record<Reason, string>> = {
  NotFound: "no such folder",
  NotAFolder: "not a folder that can be read",
  Denied: "permission denied"
}

/** A server does not tell where its base is; who named a folder here is told which it was. */
const named = (folder: string, { message, reason }: FilesError): FilesError =>
  new FilesError({ reason, message: `${JSON.stringify(folder)}: ${WHY[reason] ?? message}` })

export const layer: Layer.Layer<LocalFolders> = Layer.succeed(LocalFolders, {
  open: (folder, { make = false, readOnly = false } = {}) => {
    const base = NodePath.resolve(folder)
    const making = Effect.try({
      try: () => (make ? Folders.make(base, false) : undefined),
      catch: (cause) => fromCause([], cause)
    })
    return making.pipe(
      Effect.andThen(RemoteFilesNode.make({ base, mustExist: true, readOnly })),
      Effect.mapError((error) => named(base, error))
    )
  }
})
