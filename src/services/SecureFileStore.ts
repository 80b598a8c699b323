/** Files that hold secrets or state: 0600 in 0700 folders, each write atomic and durable. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"

/**
 * - `Exists`: an exclusive write found the name taken.
 * - `Unsafe`: a link, FIFO, device or folder stands there, another user owns it, or group or others may read it.
 * - `TooLarge`: more bytes than the caller allows.
 * - `Locked`: another process holds the lock.
 */
export class SecureFileError extends Data.TaggedError("SecureFileError")<{
  readonly reason: "Exists" | "Unsafe" | "TooLarge" | "Locked" | "Denied" | "Io"
  readonly path: string
  /** One line for people: what, where, what to do. */
  readonly message: string
  readonly cause?: unknown
}> {}

export interface ReadOptions {
  /** Bytes; more fails with `TooLarge`. Default 1 MiB. */
  readonly maxBytes?: number
}

/** Paths are absolute. Missing parent folders are made 0700. */
export class SecureFileStore extends Context.Service<
  SecureFileStore,
  {
    /** The content, or none where there is no file. Refuses what is `Unsafe`; never follows a link, never blocks on a FIFO. */
    readonly read: (path: string, options?: ReadOptions) => Effect.Effect<Option.Option<Uint8Array>, SecureFileError>
    /** Replaces the whole file: new sibling (O_EXCL, 0600 whatever the umask), fsync, rename, fsync of the folder. */
    readonly write: (path: string, bytes: Uint8Array) => Effect.Effect<void, SecureFileError>
    /** As `write`, but never replaces: `Exists` when the name is taken, decided atomically by link(2). */
    readonly create: (path: string, bytes: Uint8Array) => Effect.Effect<void, SecureFileError>
    /** Appends to a file (made when missing, 0600) in one write; flushed to the system, not to the disk. */
    readonly append: (path: string, bytes: Uint8Array) => Effect.Effect<void, SecureFileError>
    /** Overwrites with zeros where that can help, removes, fsyncs the folder. Succeeds when nothing was there. */
    readonly burn: (path: string) => Effect.Effect<void, SecureFileError>
    /** Names (not paths) of the regular files in a folder, sorted; empty where there is no folder. */
    readonly list: (folder: string) => Effect.Effect<ReadonlyArray<string>, SecureFileError>
    /** One element whenever the file may have changed, appeared or gone; the first at once. Coalesced. */
    readonly watch: (path: string) => Stream.Stream<void>
    /** Holds an exclusive lock on a file for the scope; `Locked` when another living process has it. */
    readonly lock: (path: string) => Effect.Effect<void, SecureFileError, Scope.Scope>
  }
>()("clawchat/services/SecureFileStore") {}
