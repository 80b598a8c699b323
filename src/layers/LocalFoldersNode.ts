/** Folders of this host as the user names them, relative ones to the current folder. */
import * as NodePath from "node:path"
import * as Layer from "effect/Layer"
import { LocalFolders } from "../services/LocalFolders.ts"
import * as RemoteFilesNode from "./RemoteFilesNode.ts"

export const layer: Layer.Layer<LocalFolders> = Layer.succeed(LocalFolders, {
  open: (folder, { make = false, readOnly = false } = {}) =>
    RemoteFilesNode.make({ base: NodePath.resolve(folder), mustExist: !make, readOnly })
})
