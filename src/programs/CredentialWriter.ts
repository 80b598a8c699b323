/**
 * Keeps a fresh `.sec` file where the user looks for it and remembers all that are still good.
 *
 * Each file is written twice, the same sealed bytes: first to `archive/<connection id>.sec`, which is the server's own
 * record of the secret and is reopened with the bootstrap key at the next start, then to `clawchat-current.sec`. So
 * nothing is ever handed out that a restart would forget, and no secret lies on disk outside its envelope. Reopening
 * costs one key derivation a file; a file lives 11 minutes, so there are two or three, and never more than `MAX_LIVE`.
 *
 * A burnt file goes from where the user would take it; its archived twin stays until it expires, for until then it must
 * be recognised: it still admits the device that it enrolled, and anyone else who brings it raises an alarm. What is
 * burnt is the device records' to say (`services/Devices`).
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as CredentialFile from "../domain/CredentialFile.ts"
import type { LiveCredential } from "../domain/Device.ts"
import * as HomePaths from "../domain/HomePaths.ts"
import { fromHex, hex } from "../domain/protocol/Cursor.ts"
import type { Crypto } from "../services/Crypto.ts"
import { type SecureFileError, SecureFileStore } from "../services/SecureFileStore.ts"
import type { BootstrapKey } from "./BootstrapKey.ts"
import * as CredentialFiles from "./CredentialFiles.ts"

/** Unexpired files; a further one puts out the oldest. */
const MAX_LIVE = 16
const SUFFIX = ".sec"
/** Milliseconds until a write that failed is tried again. */
const RETRY_MS = 30_000
/** Milliseconds between two looks for expired files. */
const CLEANUP_MS = 60_000

export interface IssueOptions {
  /** The folder of credential files, absolute. */
  readonly folder: string
  readonly key: BootstrapKey
  readonly kdf?: CredentialFile.Kdf
  /** Gets a copy of each current file, sealed as it is, under the same name; its failure is only logged. */
  readonly backupFolder?: string
}

export interface Issued {
  readonly path: string
  readonly content: CredentialFile.CredentialFile
  readonly bytes: Uint8Array
}

const backupPath = (folder: string): string => HomePaths.credentials(folder).credential

const archivePath = (folder: string, connectionId: string): string =>
  HomePaths.join(HomePaths.credentials(folder).archive, connectionId + SUFFIX)

/** Makes and writes one file, archive first. For a home without a running server; a running one has its writer. */
export const issue = Effect.fn("CredentialWriter.issue")(function* (
  { folder, key, kdf, backupFolder }: IssueOptions,
  options: CredentialFiles.MakeOptions
) {
  const store = yield* SecureFileStore
  const content = yield* CredentialFiles.make(options)
  const bytes = yield* CredentialFiles.seal(content, key, kdf)
  const path = HomePaths.credentials(folder).credential
  yield* store.create(archivePath(folder, content.connection_id), bytes)
  yield* store.write(path, bytes)
  if (backupFolder !== undefined) {
    yield* store
      .write(backupPath(backupFolder), bytes)
      .pipe(Effect.catch((error) => Effect.logWarning(`No backup of the credential file: ${error.message}`)))
  }
  return { path, content, bytes } satisfies Issued
})

export interface Options extends IssueOptions {
  /** What to write into the next file: ports and addresses change, so it is asked each time. */
  readonly content: Effect.Effect<CredentialFiles.MakeOptions>
  /** A file's content with what is true by now of where the server is. */
  readonly relocated?: (content: CredentialFile.CredentialFile) => Effect.Effect<CredentialFile.CredentialFile>
  /** Called with each new file, for the record. */
  readonly issued?: (issued: Issued) => Effect.Effect<void>
  /** Clients now connected. */
  readonly connected: SubscriptionRef.SubscriptionRef<number>
  /** Period of rewriting, ms; default 10 minutes. */
  readonly rotationMs?: number
  /** Period of cleaning up, ms; default one minute. */
  readonly cleanupMs?: number
}

export interface CredentialWriter {
  /** Writes a file at once and then every period while nobody is connected; cleans up; never ends. */
  readonly run: Effect.Effect<never>
  /** A new file now, whoever is connected: `sec new`, or a device that asks for the next one. */
  readonly renew: Effect.Effect<Issued, SecureFileError>
  /**
   * Writes the current file anew if the server is not where it says: under its id and secret, so that copies of it stay
   * good.
   */
  readonly relocate: Effect.Effect<void, SecureFileError>
  /** Takes the current file away if it is this credential's (16 bytes). The next comes with the next period. */
  readonly burn: (credentialId: Uint8Array) => Effect.Effect<void, SecureFileError>
  /** Takes all files away and forgets them: after COMPROMISED. */
  readonly burnAll: Effect.Effect<void, SecureFileError>
  /** Files that are not expired, burnt ones among them. */
  readonly live: Effect.Effect<ReadonlyArray<LiveCredential>>
  /** The same, now and after each change. */
  readonly changes: Stream.Stream<ReadonlyArray<LiveCredential>>
}

const liveOf = (content: CredentialFile.CredentialFile): LiveCredential => ({
  id: fromHex(content.connection_id) ?? new Uint8Array(0),
  psk: content.shared_secret,
  validFrom: content.valid_from,
  validUntil: content.valid_until
})

const isOver = (file: LiveCredential, now: number): boolean => now > file.validUntil + CredentialFile.CLOCK_SKEW_MS

/**
 * Reads the archive and cleans it: what expired, or does not open with today's key and so can admit nobody, is removed;
 * what another hand put there (a link, wrong modes) stays and is named in the log.
 */
const reload = Effect.fnUntraced(function* (folder: string, key: BootstrapKey) {
  const store = yield* SecureFileStore
  const { archive } = HomePaths.credentials(folder)
  const live: Array<LiveCredential> = []
  for (const name of yield* store.list(archive)) {
    if (!name.endsWith(SUFFIX)) continue
    const path = HomePaths.join(archive, name)
    const file = yield* Effect.result(CredentialFiles.load(path, key))
    if (Result.isSuccess(file)) {
      live.push(liveOf(file.success))
      continue
    }
    const { message, reason } = file.failure
    if (reason._tag === "Permissions" || reason._tag === "Unreadable") {
      yield* Effect.logWarning(message)
      continue
    }
    // A clock that was set back is no reason to forget a file that is out there.
    if (reason._tag === "NotYetValid") {
      const early = yield* Effect.result(
        Effect.flatMap(CredentialFiles.read(path), (bytes) => CredentialFiles.open(bytes, key, path))
      )
      if (Result.isSuccess(early)) live.push(liveOf(early.success))
      continue
    }
    if (reason._tag !== "Expired") yield* Effect.logWarning(`${message}; it was removed`)
    yield* store.burn(path)
  }
  return live.sort((a, b) => a.validFrom - b.validFrom)
})

/** A writer that knows the unexpired files of earlier runs. */
export const make = Effect.fn("CredentialWriter.make")(function* (options: Options) {
  const context = yield* Effect.context<Crypto | SecureFileStore>()
  const store = yield* SecureFileStore
  const { folder, key, connected } = options
  const rotationMs = options.rotationMs ?? CredentialFile.ROTATION_MS
  const files = yield* SubscriptionRef.make<ReadonlyArray<LiveCredential>>(yield* reload(folder, key))
  const one = yield* Semaphore.make(1)
  let current: CredentialFile.CredentialFile | undefined

  const alone = <A, E>(effect: Effect.Effect<A, E>) => one.withPermit(Effect.uninterruptible(effect))

  const forget = Effect.fnUntraced(function* (gone: (file: LiveCredential, index: number) => boolean) {
    const all = yield* SubscriptionRef.get(files)
    const dropped = all.filter(gone)
    if (dropped.length === 0) return
    for (const file of dropped) {
      const id = hex(file.id)
      if (id === current?.connection_id) yield* removeCurrent
      yield* store.burn(archivePath(folder, id))
    }
    yield* SubscriptionRef.set(
      files,
      all.filter((file) => !dropped.includes(file))
    )
  })

  const removeCurrent = Effect.gen(function* () {
    yield* store.burn(HomePaths.credentials(folder).credential)
    if (options.backupFolder !== undefined) yield* store.burn(backupPath(options.backupFolder))
    current = undefined
  })

  const renew = alone(
    Effect.gen(function* () {
      const issued = yield* issue(options, { rotationMs, ...(yield* options.content) })
      current = issued.content
      const all = yield* SubscriptionRef.updateAndGet(files, (known) => [...known, liveOf(issued.content)])
      yield* forget((_, index) => index < all.length - MAX_LIVE)
      yield* options.issued?.(issued) ?? Effect.void
      return issued
    }).pipe(Effect.provide(context))
  )

  const relocate = alone(
    Effect.gen(function* () {
      if (current === undefined || options.relocated === undefined) return
      const content = yield* options.relocated(current)
      if (JSON.stringify(CredentialFile.toJson(content)) === JSON.stringify(CredentialFile.toJson(current))) return
      const bytes = yield* CredentialFiles.seal(content, key, options.kdf)
      yield* store.write(archivePath(folder, content.connection_id), bytes)
      yield* store.write(HomePaths.credentials(folder).credential, bytes)
      if (options.backupFolder !== undefined) yield* Effect.ignore(store.write(backupPath(options.backupFolder), bytes))
      current = content
    }).pipe(Effect.provide(context))
  )

  const cleanup = alone(
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      yield* forget((file) => isOver(file, now))
    })
  )

  const nobodyConnected = SubscriptionRef.changes(connected).pipe(
    Stream.filter((count) => count === 0),
    Stream.take(1),
    Stream.runDrain
  )

  const rotate = Effect.gen(function* () {
    const written = yield* Effect.result(renew)
    if (Result.isSuccess(written)) {
      yield* Effect.logInfo(`Credential file ${written.success.path} written`)
      yield* Effect.sleep(rotationMs)
    } else {
      yield* Effect.logError(`No new credential file: ${written.failure.message}`)
      yield* Effect.sleep(RETRY_MS)
    }
    yield* nobodyConnected
  })

  const tidy = cleanup.pipe(
    Effect.catch((error) => Effect.logWarning(`Expired credential files stay: ${error.message}`)),
    Effect.schedule(Schedule.spaced(options.cleanupMs ?? CLEANUP_MS))
  )

  const live = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    return (yield* SubscriptionRef.get(files)).filter((file) => !isOver(file, now))
  })

  return {
    run: Effect.andThen(
      Effect.all([Effect.forever(rotate), tidy], { concurrency: "unbounded", discard: true }),
      Effect.never
    ),
    renew,
    relocate,
    burn: (credentialId) =>
      alone(Effect.suspend(() => (hex(credentialId) === current?.connection_id ? removeCurrent : Effect.void))),
    burnAll: alone(
      Effect.gen(function* () {
        yield* removeCurrent
        yield* forget(() => true)
      })
    ),
    live,
    changes: SubscriptionRef.changes(files)
  } satisfies CredentialWriter
})
