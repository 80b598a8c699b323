/** Files that hold secrets or state: 0600 in 0700 folders, each write atomic and durable. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

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
    /** Names (not paths) of the regular files in a folder, sorted; empty where there is no folder. Never what a crashed write left. */
    readonly list: (folder: string) => Effect.Effect<ReadonlyArray<string>, SecureFileError>
    /** One element whenever the file may have changed, appeared or gone; the first at once. Coalesced. */
    readonly watch: (path: string) => Stream.Stream<void>
    /** Holds an exclusive lock on a file for the scope; `Locked` when another living process has it. */
    readonly lock: (path: string) => Effect.Effect<void, SecureFileError, Scope.Scope>
  }
>()("clawchat/services/SecureFileStore") {}

const DEFAULT_MAX_BYTES = 1024 * 1024

/**
 * A store in memory. One value is one disk: give the same value to two programs, or to a program before and after its
 * crash, with `Layer.succeed(SecureFileStore, disk)`.
 */
export const makeMemory: Effect.Effect<SecureFileStore["Service"]> = Effect.sync(() => {
  const files = new Map<string, Uint8Array>()
  const locks = new Set<string>()
  const watchers = new Map<string, Set<() => void>>()
  const fail = (reason: SecureFileError["reason"], path: string, why: string) =>
    new SecureFileError({ reason, path, message: `${path}: ${why}` })
  const put = (path: string, bytes: Uint8Array): void => {
    files.set(path, bytes)
    notify(path)
  }
  const notify = (path: string): void => {
    for (const onChange of watchers.get(path) ?? []) onChange()
  }
  const isFolder = (path: string): boolean => {
    for (const name of files.keys()) if (name.startsWith(`${path}/`)) return true
    return false
  }
  const guarded = <A>(path: string, run: () => A): Effect.Effect<A, SecureFileError> =>
    Effect.suspend(() =>
      isFolder(path) ? Effect.fail(fail("Unsafe", path, "is a folder, not a file")) : Effect.sync(run)
    )

  return SecureFileStore.of({
    read: (path, options) =>
      guarded(path, () => files.get(path)).pipe(
        Effect.flatMap((bytes) => {
          const maxBytes = options?.maxBytes ?? DEFAULT_MAX_BYTES
          if (bytes === undefined) return Effect.succeed(Option.none())
          return bytes.length > maxBytes
            ? Effect.fail(fail("TooLarge", path, `more than ${maxBytes} bytes`))
            : Effect.succeed(Option.some(bytes.slice()))
        })
      ),
    write: (path, bytes) => guarded(path, () => put(path, bytes.slice())),
    create: (path, bytes) =>
      Effect.suspend(() =>
        files.has(path) || isFolder(path)
          ? Effect.fail(fail("Exists", path, "already exists"))
          : Effect.sync(() => put(path, bytes.slice()))
      ),
    append: (path, bytes) =>
      guarded(path, () => {
        const before = files.get(path) ?? new Uint8Array(0)
        const after = new Uint8Array(before.length + bytes.length)
        after.set(before)
        after.set(bytes, before.length)
        put(path, after)
      }),
    burn: (path) =>
      guarded(path, () => {
        files.get(path)?.fill(0)
        if (files.delete(path)) notify(path)
      }),
    list: (folder) =>
      Effect.sync(() => {
        const prefix = `${folder}/`
        const names = Array.from(files.keys(), (path) => (path.startsWith(prefix) ? path.slice(prefix.length) : ""))
        return names.filter((name) => name !== "" && !name.includes("/")).sort()
      }),
    watch: (path) =>
      Stream.callback<void>(
        (queue) =>
          Effect.acquireRelease(
            Effect.sync(() => {
              const onChange = () => {
                Queue.offerUnsafe(queue, undefined)
              }
              const those = watchers.get(path) ?? new Set()
              watchers.set(path, those.add(onChange))
              onChange()
              return () => those.delete(onChange)
            }),
            (forget) => Effect.sync(forget)
          ),
        { bufferSize: 1, strategy: "sliding" }
      ),
    lock: (path) =>
      Effect.acquireRelease(
        Effect.suspend(() =>
          locks.has(path)
            ? Effect.fail(fail("Locked", path, "held by another process"))
            : Effect.sync(() => locks.add(path))
        ),
        () => Effect.sync(() => locks.delete(path))
      ).pipe(Effect.asVoid)
  })
})

/** An empty store in memory. */
export const layerMemory: Layer.Layer<SecureFileStore> = Layer.effect(SecureFileStore, makeMemory)
