/** What transfers tell while they run, and what they are told: plain objects that go to a log as they are. */
import type * as Effect from "effect/Effect"
import type { FilesError, Kind } from "../domain/RemoteFile.ts"
import type { Reason, TransferError } from "../domain/TransferError.ts"
import type { FileTree, TouchOptions } from "../services/FileTree.ts"
import type { TransportError, TransportStream } from "../services/Transport.ts"

export type Rule = "ask" | "skip" | "overwrite" | "rename"

/** What is to be moved: a path here and a path there, whole and with names. A folder is only made. */
export interface Item {
  readonly from: string
  readonly to: string
  /** `file` when absent. */
  readonly kind?: "file" | "folder"
  /** Of the file at `from`, where they are known: many small files then go faster, and what is the same is not asked for. */
  readonly size?: number
  readonly mtimeMs?: number
  /** Nothing stood at `to` when the caller looked: it is not looked at again, though what is there now is met with the rule. False: something did. */
  readonly isNew?: boolean
  /** Permission bits at `from`, where the caller has seen others at `to`: with `overwrite` they are set though all else is the same. */
  readonly mode?: number
}

/** Something else stands at the target. */
export interface Conflict {
  readonly item: Item
  readonly source: { readonly size: number | undefined; readonly mtimeMs: number }
  readonly target: { readonly kind: Kind; readonly size: number; readonly mtimeMs: number }
}

/** `stop` ends the whole transfer. */
export type Answer = "skip" | "overwrite" | "rename" | "stop"

export interface Options {
  /** A fresh stream of bulk priority; asked again after the line was lost. */
  readonly open: Effect.Effect<TransportStream, TransportError>
  /** This host's disk: the target folder for `get`, the source folder for `put`. */
  readonly local: FileTree
  readonly conflict: Rule
  /** Asked one at a time. Without it `ask` is `skip`. */
  readonly ask?: (conflict: Conflict) => Effect.Effect<Answer>
  /** Compares contents where size and time are the same; otherwise such a file counts as the same. */
  readonly checksum?: boolean
  /** The root of a file of the server (`Files.Digest`), in hexadecimal: files of the same size are then compared by content. */
  readonly digest?: (path: string) => Effect.Effect<string, TransferError>
  /**
   * Gives a file of the server another time and mode (`Files.Touch`): with `overwrite`, where the content is the same already.
   * Left as it is when absent.
   */
  readonly touch?: (path: string, to: TouchOptions) => Effect.Effect<unknown, FilesError | TransferError>
  /** Asked for large files that take the place of others: whether to send only what changed. Never when absent. */
  readonly delta?: Effect.Effect<boolean>
  /** Tries in a row, a second apart, to go on after the line was lost, nothing having arrived meanwhile; 5. */
  readonly retries?: number
  /** Milliseconds that the server may be silent when it is its turn; then all fails with `Idle`. 60,000. */
  readonly idleMs?: number
}

export type Side = "here" | "server"

interface Way {
  readonly from: string
  readonly to: string
}

/**
 * - `Started`, `Progress`: only of files of more than one piece. `bytes` of `size` are there; `size` is null where nobody knows it.
 * - `Comparing`: both ends read and hash the whole file, of more than one piece, before anything is sent.
 * - `Resuming`: so many bytes were there from another time.
 * - `Done`: `root` is the BlockTree's, in hexadecimal; `moved` went over the line; `to` is what it is really called.
 * - `Same`: the same content was there; with `touched`, under another time or mode, which is the source's now, or (false)
 *   which it keeps because nobody may change it. `Skipped`: something else was, and the rule said so.
 * - `Failed`: this one, because of a file on one side, if it says which; the others go on.
 */
export type Event =
  | ({ readonly _tag: "Started"; readonly size: number | null } & Way)
  | ({ readonly _tag: "Comparing"; readonly size: number } & Way)
  | ({ readonly _tag: "Resuming"; readonly offset: number } & Way)
  | ({ readonly _tag: "Progress"; readonly bytes: number; readonly size: number | null } & Way)
  | ({ readonly _tag: "Done"; readonly size: number; readonly root: string; readonly moved: number } & Way)
  | ({ readonly _tag: "Same"; readonly size: number; readonly touched?: boolean } & Way)
  | ({ readonly _tag: "Skipped" } & Way)
  | { readonly _tag: "Folder"; readonly to: string }
  | ({ readonly _tag: "Failed"; readonly reason: Reason; readonly message: string; readonly side?: Side } & Way)
  | { readonly _tag: "Reconnecting"; readonly message: string }
