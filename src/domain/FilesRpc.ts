/**
 * Files below the server's base path, as a device asks for them. Bulk bytes go on streams of their own: see TransferFrame.
 * All of it is the contract of services/FileTree.ts, said over the line.
 */

import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import * as RemoteFile from "./RemoteFile.ts"
import * as RemotePath from "./RemotePath.ts"

/** Things in the trash that one answer tells of: the latest ones. */
export const MAX_TRASH_LENGTH = 5000

/** Characters: bounded here, judged by RemotePath. */
const Path = Schema.String.check(Schema.isMaxLength(RemotePath.MAX_PATH_LENGTH))
const Limit = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: RemoteFile.MAX_PAGE_LENGTH }))
const TrashId = Schema.String.check(Schema.isMaxLength(256))

/**
 * What may stand at the target: `fail`: nothing. `replace`: nothing, or a file. `rename`: anything, and a free name is
 * taken. `{ version }`: a file of that version.
 */
export const Conflict = Schema.Union([
  Schema.Literals(["fail", "replace", "rename"]),
  Schema.Struct({ version: RemoteFile.Version })
])

const error = RemoteFile.FilesError

/** One page of a folder. */
export const List = Rpc.make("List", {
  payload: { path: Path, cursor: Schema.optionalKey(Path), limit: Schema.optionalKey(Limit) },
  success: RemoteFile.Page,
  error
})

/** One file, folder or link. */
export const Stat = Rpc.make("Stat", { payload: { path: Path }, success: RemoteFile.Stat, error })

/** One page of a tree, which may hold nothing although more pages follow. */
const Find = Rpc.make("Find", {
  payload: {
    path: Path,
    /** Levels below the folder; all of them when absent. */
    depth: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: RemoteFile.MAX_DEPTH }))),
    cursor: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(RemoteFile.MAX_WALKED_LENGTH))),
    limit: Schema.optionalKey(Limit)
  },
  success: RemoteFile.Walk,
  error
})

const Du = Rpc.make("Du", { payload: { path: Path }, success: RemoteFile.Usage, error })

/** With `parents`, missing folders on the way are made and a folder that is there is fine. */
const Mkdir = Rpc.make("Mkdir", {
  payload: { path: Path, parents: Schema.optionalKey(Schema.Boolean) },
  success: RemoteFile.Stat,
  error
})

/** Gives a file of this version another time and mode (`& 0755 | 0600`), and leaves its content alone. */
const Touch = Rpc.make("Touch", {
  payload: {
    path: Path,
    version: RemoteFile.Version,
    mtimeMs: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: RemoteFile.MAX_TIME_MS })),
    mode: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0o777 }))
  },
  success: RemoteFile.Stat,
  error
})

/** Into the trash, unless `forever`; folders that hold something only with `recursive`. */
const Remove = Rpc.make("Remove", {
  payload: {
    path: Path,
    recursive: Schema.optionalKey(Schema.Boolean),
    forever: Schema.optionalKey(Schema.Boolean)
  },
  error
})

const target = { from: Path, to: Path, conflict: Schema.optionalKey(Conflict) }

/** `to` is the new path itself, not a folder to move into. */
const Move = Rpc.make("Move", { payload: target, success: RemoteFile.Stat, error })

const Copy = Rpc.make("Copy", { payload: target, success: RemoteFile.Stat, error })

/** The hash of a whole file, read for this. */
const Digest = Rpc.make("Digest", {
  payload: { path: Path },
  success: Schema.Struct({
    size: Schema.Int,
    version: RemoteFile.Version,
    /** The root of its BlockTree: 64 hexadecimal digits. */
    root: Schema.String
  }),
  error
})

/** The latest `MAX_TRASH_LENGTH` things in the trash, oldest first. */
const TrashList = Rpc.make("TrashList", { success: Schema.Array(RemoteFile.Trashed), error })

/** Puts it back where it was, or at `to`, replacing nothing. */
const TrashRestore = Rpc.make("TrashRestore", {
  payload: { id: TrashId, to: Schema.optionalKey(Path) },
  success: RemoteFile.Stat,
  error
})

/** Deletes one thing, or everything in the trash; how many went. */
const TrashEmpty = Rpc.make("TrashEmpty", {
  payload: { id: Schema.optionalKey(TrashId) },
  success: Schema.Int,
  error
})

/** Tags are `Files.List`, `Files.Stat`, ...: unique over all groups. */
export class FilesRpc extends RpcGroup.make(
  List,
  Stat,
  Find,
  Du,
  Mkdir,
  Touch,
  Remove,
  Move,
  Copy,
  Digest,
  TrashList,
  TrashRestore,
  TrashEmpty
).prefix("Files.") {}
