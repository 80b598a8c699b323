/** Folders of this host as careful trees: what comes from a peer is written as carefully at home as on the server. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { FilesError } from "../domain/RemoteFile.ts"
import type { FileTree } from "./FileTree.ts"

export interface OpenOptions {
  /** Makes the folder, and those above it, as the umask says when they are missing. */
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
