/**
 * SecureFileStore on the host's file system.
 *
 * A write fills `.name.<pid>-<random>.tmp` beside its target, fsyncs it, moves it into place with one rename(2) or link(2),
 * and fsyncs the folder: whenever the process dies, the name shows the old content or the new. What a dead writer left is
 * swept by the next write or list in that folder. Sweeping another process's live temporary file (process ids mean
 * nothing across containers) costs that writer a retry, never its content.
 *
 * On Windows neither mode nor owner is looked at (ACLs guard the profile folder) and folders cannot be fsynced.
 */
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { SecureFileError, SecureFileStore } from "../services/SecureFileStore.ts"

/** Where a crash can fall between two states of the disk. */
export type Step = "open" | "write" | "fsync" | "rename" | "link" | "unlink" | "fsyncFolder"

export interface Options {
  /** Called before each step; what it throws stops the operation there, clean-up included. For crash tests. */
  readonly onStep?: (step: Step, path: string) => void
}

const isWindows = process.platform === "win32"
const DEFAULT_MAX_BYTES = 1024 * 1024
/** A link in the last place is an error; opening a FIFO or device returns at once. Zero where the host knows neither. */
const SAFE = (Fs.constants.O_NOFOLLOW ?? 0) | (Fs.constants.O_NONBLOCK ?? 0)
const TEMPORARY = /^\.(.+)\.(\d+)-[0-9a-f]{16}\.tmp$/s
/** A live pid may belong to a later process: past this age, in milliseconds, its temporary file is swept all the same. */
const ABANDONED_MS = 600_000
const MAX_ATTEMPTS = 50

const codeOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : ""

const unsafe = (path: string, why: string): SecureFileError =>
  new SecureFileError({ reason: "Unsafe", path, message: `${path}: ${why}` })

/** What file systems answer that let nobody make a folder: /proc, say. */
const noFolder = (path: string, cause: unknown): SecureFileError =>
  new SecureFileError({ reason: "Io", path, message: `${path}: no folder can be made here (ENOENT)`, cause })

const fromCause = (path: string, cause: unknown): SecureFileError => {
  if (cause instanceof SecureFileError) return cause
  const code = codeOf(cause)
  switch (code) {
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new SecureFileError({ reason: "Denied", path, message: `${path}: not permitted (${code})`, cause })
    case "ELOOP":
      return unsafe(path, "is a symbolic link; put a plain file there")
    case "EEXIST":
      return new SecureFileError({ reason: "Exists", path, message: `${path}: already exists`, cause })
    case "EISDIR":
    case "ENXIO":
      return unsafe(path, "is not a plain file")
    case "ENOTDIR":
      return unsafe(path, "a part of the path is not a folder")
    default:
      return new SecureFileError({ reason: "Io", path, message: `${path}: ${code || "input/output error"}`, cause })
  }
}

/** Refuses what is no plain file of this user; never opens it. */
const checkKind = (path: string, stats: Fs.Stats): void => {
  if (stats.isSymbolicLink()) throw unsafe(path, "is a symbolic link; put a plain file there")
  if (stats.isDirectory()) throw unsafe(path, "is a folder, not a file")
  if (!stats.isFile()) throw unsafe(path, "is not a plain file")
  const user = process.geteuid?.()
  if (user !== undefined && stats.uid !== user) {
    throw unsafe(path, `belongs to user ${stats.uid}, this process runs as user ${user}`)
  }
}

const checkMode = (path: string, stats: Fs.Stats): void => {
  if (isWindows || (stats.mode & 0o077) === 0) return
  const mode = (stats.mode & 0o777).toString(8).padStart(4, "0")
  throw unsafe(path, `group or others have access (mode ${mode}); run: chmod 600 ${path}`)
}

const lstat = async (path: string): Promise<Fs.Stats | undefined> => {
  try {
    return await Fs.promises.lstat(path)
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return undefined
    throw cause
  }
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (cause) {
    return codeOf(cause) !== "ESRCH"
  }
}

const fsyncFolder = async (folder: string): Promise<void> => {
  if (isWindows) return
  const handle = await Fs.promises.open(folder, Fs.constants.O_RDONLY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes a folder and its missing parents 0700, whatever the umask, and durable. */
const ensureFolder = async (folder: string): Promise<void> => {
  for (let attempt = 1; ; attempt++) {
    try {
      await Fs.promises.mkdir(folder, 0o700)
      break
    } catch (cause) {
      const code = codeOf(cause)
      if (code === "EEXIST") {
        if ((await Fs.promises.stat(folder)).isDirectory()) return
        throw unsafe(folder, "is not a folder")
      }
      if (code !== "ENOENT") throw cause
      if (attempt === 2 || Path.dirname(folder) === folder) throw noFolder(folder, cause)
      await ensureFolder(Path.dirname(folder))
    }
  }
  await Fs.promises.chmod(folder, 0o700)
  await fsyncFolder(Path.dirname(folder))
}

/** Windows keeps a name busy while a scanner or reader has it open. */
const renameStubborn = async (from: string, to: string): Promise<void> => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await Fs.promises.rename(from, to)
    } catch (cause) {
      if (!isWindows || attempt === 10 || !["EPERM", "EACCES", "EBUSY"].includes(codeOf(cause))) throw cause
      await new Promise((resolve) => setTimeout(resolve, attempt * 10))
    }
  }
}

/**
 * An exclusive lock that the kernel releases with the process, however it dies: an empty SQLite database held with BEGIN
 * EXCLUSIVE, which is fcntl(2) on POSIX and LockFileEx on Windows. Unlike a file with a pid in it there is nothing stale
 * to clean up, no reused pid to be fooled by, and it holds across containers that share a folder. The file stays when
 * the lock goes: removing it would let two processes lock two files of one name. Nothing else may open the file, since
 * POSIX drops a process's locks when it closes any descriptor of it.
 */
const acquireLock = async (path: string): Promise<() => void> => {
  const { DatabaseSync } = await import("node:sqlite")
  await ensureFolder(Path.dirname(path))
  for (let attempt = 1; ; attempt++) {
    const before = await lstat(path)
    if (before === undefined) {
      try {
        const handle = await Fs.promises.open(
          path,
          Fs.constants.O_CREAT | Fs.constants.O_EXCL | Fs.constants.O_RDWR | SAFE,
          0o600
        )
        await handle.chmod(0o600).finally(() => handle.close())
      } catch (cause) {
        if (codeOf(cause) !== "EEXIST") throw cause
      }
      continue
    }
    checkKind(path, before)
    checkMode(path, before)
    const database = new DatabaseSync(path, { timeout: 0 })
    try {
      database.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE")
    } catch (cause) {
      database.close()
      const busy = typeof cause === "object" && cause !== null && "errcode" in cause && cause.errcode === 5
      throw busy
        ? new SecureFileError({ reason: "Locked", path, message: `${path}: held by another process`, cause })
        : cause
    }
    if ((await lstat(path))?.ino === before.ino) return () => database.close()
    database.close()
    if (attempt === MAX_ATTEMPTS) throw unsafe(path, "keeps changing")
  }
}

const make = (options: Options): SecureFileStore["Service"] => {
  const step = (name: Step, path: string): void => options.onStep?.(name, path)
  /** Temporary files that this process is writing. */
  const live = new Set<string>()
  /** The last operation on each path, so that writes land in the order in which they were asked for. */
  const tails = new Map<string, Promise<unknown>>()

  const inOrder = <A>(path: string, run: () => Promise<A>): Effect.Effect<A, SecureFileError> =>
    Effect.uninterruptible(
      Effect.tryPromise({
        try: () => {
          const before = tails.get(path) ?? Promise.resolve()
          const mine = before.then(run, run)
          tails.set(path, mine)
          const forget = () => {
            if (tails.get(path) === mine) tails.delete(path)
          }
          mine.then(forget, forget)
          return mine
        },
        catch: (cause) => fromCause(path, cause)
      })
    )

  const isAbandoned = async (folder: string, name: string): Promise<boolean> => {
    const parts = TEMPORARY.exec(name)
    if (parts === null || live.has(Path.join(folder, name))) return false
    const pid = Number(parts[2])
    if (pid === process.pid || !isAlive(pid)) return true
    const stats = await lstat(Path.join(folder, name))
    return stats !== undefined && Date.now() - stats.mtimeMs > ABANDONED_MS
  }

  const sweep = async (folder: string, names: ReadonlyArray<string>): Promise<void> => {
    for (const name of names) {
      if (await isAbandoned(folder, name)) await Fs.promises.unlink(Path.join(folder, name)).catch(() => {})
    }
  }

  /** A durable temporary sibling with the content, moved into place by `place`. */
  const writeWith = async (
    path: string,
    bytes: Uint8Array,
    place: (temporary: string) => Promise<void>
  ): Promise<void> => {
    const folder = Path.dirname(path)
    await ensureFolder(folder)
    await sweep(folder, await Fs.promises.readdir(folder))
    for (let attempt = 1; ; attempt++) {
      const name = `.${Path.basename(path)}.${process.pid}-${Crypto.randomBytes(8).toString("hex")}.tmp`
      const temporary = Path.join(folder, name)
      live.add(temporary)
      try {
        step("open", temporary)
        const handle = await Fs.promises.open(
          temporary,
          Fs.constants.O_WRONLY | Fs.constants.O_CREAT | Fs.constants.O_EXCL | SAFE,
          0o600
        )
        try {
          if (!isWindows) await handle.chmod(0o600)
          step("write", temporary)
          await handle.writeFile(bytes)
          step("fsync", temporary)
          await handle.sync()
        } finally {
          await handle.close()
        }
        await place(temporary)
        step("fsyncFolder", folder)
        await fsyncFolder(folder)
        return
      } catch (cause) {
        step("unlink", temporary)
        await Fs.promises.unlink(temporary).catch(() => {})
        if (codeOf(cause) !== "ENOENT" || attempt === MAX_ATTEMPTS) throw cause
      } finally {
        live.delete(temporary)
      }
    }
  }

  const write = async (path: string, bytes: Uint8Array): Promise<void> => {
    const standing = await lstat(path)
    if (standing !== undefined) checkKind(path, standing)
    await writeWith(path, bytes, async (temporary) => {
      step("rename", path)
      await renameStubborn(temporary, path)
    })
  }

  const create = async (path: string, bytes: Uint8Array): Promise<void> => {
    if ((await lstat(path)) !== undefined) throw Object.assign(new Error("exists"), { code: "EEXIST" })
    await writeWith(path, bytes, async (temporary) => {
      try {
        step("link", path)
        await Fs.promises.link(temporary, path)
      } catch (cause) {
        // Android and FAT have no hard links: there, creators take turns.
        if (!["EPERM", "EACCES", "ENOTSUP", "ENOSYS", "EOPNOTSUPP"].includes(codeOf(cause))) throw cause
        const release = await acquireLock(Path.join(Path.dirname(path), ".create.lock"))
        try {
          if ((await lstat(path)) !== undefined) throw Object.assign(new Error("exists"), { code: "EEXIST" })
          return await renameStubborn(temporary, path)
        } finally {
          release()
        }
      }
      step("unlink", temporary)
      await Fs.promises.unlink(temporary).catch(() => {})
    })
  }

  const read = async (path: string, maxBytes: number): Promise<Option.Option<Uint8Array>> => {
    const seen = await lstat(path)
    if (seen === undefined) return Option.none()
    checkKind(path, seen)
    let handle: Fs.promises.FileHandle
    try {
      handle = await Fs.promises.open(path, Fs.constants.O_RDONLY | SAFE)
    } catch (cause) {
      if (codeOf(cause) === "ENOENT") return Option.none()
      throw cause
    }
    try {
      const stats = await handle.stat()
      checkKind(path, stats)
      checkMode(path, stats)
      const tooLarge = () =>
        new SecureFileError({ reason: "TooLarge", path, message: `${path}: more than ${maxBytes} bytes` })
      if (stats.size > maxBytes) throw tooLarge()
      // One byte beyond the stated size shows a file that grows; a fresh buffer can be wiped without harm to others.
      let buffer = new Uint8Array(Math.min(stats.size, maxBytes) + 1)
      let length = 0
      for (;;) {
        const { bytesRead } = await handle.read(buffer, length, buffer.length - length)
        if (bytesRead === 0) return Option.some(buffer.slice(0, length))
        length += bytesRead
        if (length > maxBytes) throw tooLarge()
        if (length === buffer.length) {
          const wider = new Uint8Array(Math.min(length * 2, maxBytes + 1))
          wider.set(buffer)
          buffer.fill(0)
          buffer = wider
        }
      }
    } finally {
      await handle.close()
    }
  }

  const append = async (path: string, bytes: Uint8Array): Promise<void> => {
    const flags = Fs.constants.O_WRONLY | Fs.constants.O_APPEND | SAFE
    const seen = await lstat(path)
    let handle: Fs.promises.FileHandle
    if (seen === undefined) {
      await ensureFolder(Path.dirname(path))
      try {
        handle = await Fs.promises.open(path, flags | Fs.constants.O_CREAT | Fs.constants.O_EXCL, 0o600)
        if (!isWindows) await handle.chmod(0o600)
      } catch (cause) {
        if (codeOf(cause) !== "EEXIST") throw cause
        return append(path, bytes)
      }
    } else {
      checkKind(path, seen)
      handle = await Fs.promises.open(path, flags)
    }
    try {
      const stats = await handle.stat()
      checkKind(path, stats)
      checkMode(path, stats)
      const { bytesWritten } = await handle.write(bytes)
      if (bytesWritten !== bytes.length) throw Object.assign(new Error("short write"), { code: "ENOSPC" })
    } finally {
      await handle.close()
    }
  }

  const burn = async (path: string): Promise<void> => {
    const folder = Path.dirname(path)
    const names = await Fs.promises.readdir(folder).catch((cause) => {
      if (codeOf(cause) === "ENOENT") return []
      throw cause
    })
    // A crashed write may have left the same secret under a temporary name.
    const mine = names.filter((name) => TEMPORARY.exec(name)?.[1] === Path.basename(path))
    for (const name of mine) if (await isAbandoned(folder, name)) await erase(Path.join(folder, name))
    await erase(path)
    if (names.length > 0) {
      step("fsyncFolder", folder)
      await fsyncFolder(folder)
    }
  }

  /** Zeros help on a plain disk and not on a journal or flash; a link or FIFO is removed, never opened. */
  const erase = async (path: string): Promise<void> => {
    const seen = await lstat(path)
    if (seen === undefined) return
    if (seen.isDirectory()) throw unsafe(path, "is a folder, not a file")
    if (seen.isFile()) {
      const handle = await Fs.promises.open(path, Fs.constants.O_WRONLY | SAFE).catch(() => undefined)
      if (handle !== undefined) {
        try {
          const stats = await handle.stat()
          const owned = process.geteuid === undefined || stats.uid === process.geteuid()
          step("write", path)
          if (stats.isFile() && owned) await handle.writeFile(new Uint8Array(stats.size))
          step("fsync", path)
          await handle.sync()
        } finally {
          await handle.close()
        }
      }
    }
    step("unlink", path)
    await Fs.promises.unlink(path).catch((cause) => {
      if (codeOf(cause) !== "ENOENT") throw cause
    })
  }

  const list = async (folder: string): Promise<ReadonlyArray<string>> => {
    let entries: ReadonlyArray<Fs.Dirent>
    try {
      entries = await Fs.promises.readdir(folder, { withFileTypes: true })
    } catch (cause) {
      if (codeOf(cause) === "ENOENT") return []
      throw cause
    }
    const names = entries.filter((entry) => entry.isFile()).map((entry) => entry.name)
    await sweep(folder, names)
    return names.filter((name) => !TEMPORARY.test(name) && name !== ".create.lock").sort()
  }

  const attempt = <A>(path: string, run: () => Promise<A>): Effect.Effect<A, SecureFileError> =>
    Effect.tryPromise({ try: run, catch: (cause) => fromCause(path, cause) })

  return SecureFileStore.of({
    read: (path, readOptions) => attempt(path, () => read(path, readOptions?.maxBytes ?? DEFAULT_MAX_BYTES)),
    write: (path, bytes) => inOrder(path, () => write(path, bytes)),
    create: (path, bytes) => inOrder(path, () => create(path, bytes)),
    append: (path, bytes) => inOrder(path, () => append(path, bytes)),
    burn: (path) => inOrder(path, () => burn(path)),
    list: (folder) => attempt(folder, () => list(folder)),
    watch: (path) =>
      Stream.callback<void>(
        (queue) =>
          Effect.acquireRelease(
            Effect.sync(() => new Watcher(path, () => Queue.offerUnsafe(queue, undefined))),
            (watcher) => Effect.sync(() => watcher.close())
          ),
        { bufferSize: 1, strategy: "sliding" }
      ),
    lock: (path) =>
      Effect.acquireRelease(
        attempt(path, () => acquireLock(path)),
        (release) => Effect.sync(release)
      ).pipe(Effect.asVoid)
  })
}

/**
 * Watches the folder, not the file, so a rename into place is seen; while the folder is missing, the nearest one above
 * it. Falls back to looking every two seconds when the host has no watches left.
 */
class Watcher {
  readonly #path: string
  readonly #onChange: () => void
  #watcher: Fs.FSWatcher | undefined
  #closed = false

  constructor(path: string, onChange: () => void) {
    this.#path = path
    this.#onChange = onChange
    this.#arm()
  }

  #arm(): void {
    this.#watcher?.close()
    this.#watcher = undefined
    let folder = Path.dirname(this.#path)
    let name = Path.basename(this.#path)
    for (;;) {
      try {
        this.#watcher = Fs.watch(folder, { persistent: false }, (_, changed) => this.#handle(folder, name, changed))
        this.#watcher.on("error", () => this.#rearm())
      } catch (cause) {
        const above = Path.dirname(folder)
        if (above === folder || !["ENOENT", "ENOTDIR"].includes(codeOf(cause))) {
          this.#watcher = undefined
          Fs.watchFile(this.#path, { persistent: false, interval: 2000 }, this.#onChange)
          break
        }
        name = Path.basename(folder)
        folder = above
        continue
      }
      // What was missing may have appeared before the watch stood.
      if (folder === Path.dirname(this.#path) || !Fs.existsSync(Path.join(folder, name))) break
      this.#watcher.close()
      folder = Path.dirname(this.#path)
      name = Path.basename(this.#path)
    }
    this.#onChange()
  }

  #rearm(): void {
    if (!this.#closed) this.#arm()
  }

  #handle(folder: string, name: string, changed: string | null): void {
    if (this.#closed) return
    const isFolderItself = changed === null || changed === Path.basename(folder)
    if (folder !== Path.dirname(this.#path)) {
      if (isFolderItself || changed === name) this.#rearm()
    } else if (isFolderItself) this.#rearm()
    else if (changed === name) this.#onChange()
  }

  close(): void {
    this.#closed = true
    this.#watcher?.close()
    Fs.unwatchFile(this.#path, this.#onChange)
  }
}

/** Builds the store with a hook on every step; `layer` is the one for programs. */
export const layerWith = (options: Options): Layer.Layer<SecureFileStore> =>
  Layer.sync(SecureFileStore, () => make(options))

export const layer: Layer.Layer<SecureFileStore> = layerWith({})
