/** Folders of this host as careful trees: what comes from a peer is written as carefully at home as on the server. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { FilesError } from "../domain/RemoteFile.ts"
import type { FileTree } from "./FileTree.ts"

export interface OpenOptions {
  /** Makes the folder (0700) when it is missing. */
  readonly make?: boolean
  /** Every change fails with `ReadOnly`. */
  readonly readOnly?: boolean
}

export class LocalFolders extends Context.Service<
  LocalFolders,
  {
    /**
     * The tree below a folder of this host; links on the way to the folder itself are followed, once. `NotFound` when it
     * is missing and not to be made. What it holds open closes with the scope.
     */
    readonly open: (folder: string, options?: OpenOptions) => Effect.Effect<FileTree, FilesError, Scope.Scope>
  }
>()("clawchat/services/LocalFolders") {}

/** Trees by folder, for tests; others are not found. */
export const layerMemory = (folders: Readonly<Record<string, FileTree>>): Layer.Layer<LocalFolders> =>
  Layer.succeed(LocalFolders, {
    open: (folder) => {
      const tree = Object.hasOwn(folders, folder) ? folders[folder] : undefined
      return tree === undefined
        ? Effect.fail(new FilesError({ reason: "NotFound", message: `${JSON.stringify(folder)}: no such folder` }))
        : Effect.succeed(tree)
    }
  })
