/**
 * What the user has said and nobody has heard yet: one file each in the client's `drafts/`, written before the first attempt
 * to send, removed when its end was seen. Every attempt carries the same id, and the llm tier does what an id asks once, so
 * a process may die anywhere: the next one sends it again.
 *
 * Each process writes in a lane of its own and holds the lane's lock while it lives. The drafts of a lane that nobody holds
 * are the remains of a process that ended: whoever takes the lock takes them over.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Draft from "../domain/Draft.ts"
import * as HomePaths from "../domain/HomePaths.ts"
import { hex } from "../domain/protocol/Cursor.ts"
import { Crypto } from "../services/Crypto.ts"
import { type SecureFileError, SecureFileStore } from "../services/SecureFileStore.ts"
import type { Pairing, Status } from "./ClientIdentity.ts"

/** Processes that may keep drafts on one home at a time. */
const LANES = 16

/**
 * - `Full`: as many are kept as may be.
 * - `Busy`: as many processes keep drafts on this home as may.
 * - `TooLarge`: one may not be so large; what is attached makes it so.
 * - `Io`: the files cannot be read or written.
 */
export class DraftsError extends Data.TaggedError("DraftsError")<{
  readonly reason: "Full" | "Busy" | "TooLarge" | "Io"
  /** One line for people: what, where, what to do. */
  readonly message: string
}> {}

export interface Kept {
  readonly draft: Draft.Draft
  readonly path: string
  /** It was meant for another server than the one that this home is paired with now. */
  readonly foreign: boolean
}

export interface Found {
  /** Not held by anybody before, in order; held by us from now on. */
  readonly kept: ReadonlyArray<Kept>
  /** Files that are no drafts that this program knows. */
  readonly unknown: ReadonlyArray<string>
  /** Drafts that other processes hold. */
  readonly elsewhere: number
}

export interface Drafts {
  /** Durable when it returns. */
  readonly keep: (id: string, request: Draft.Request) => Effect.Effect<Kept, DraftsError>
  /** Nothing of it is sent again. Repeating it is harmless. */
  readonly drop: (kept: Kept) => Effect.Effect<void, DraftsError>
  /** Takes over what processes have left that are gone; each draft is given once. */
  readonly adopt: Effect.Effect<Found, DraftsError>
}

const io = ({ message }: SecureFileError) => new DraftsError({ reason: "Io", message })

const lockOf = (paths: HomePaths.ClientPaths, lane: number): string =>
  HomePaths.join(paths.run, `drafts-${String(lane).padStart(2, "0")}.lock`)

/** Fingerprint of no server: all drafts are for others. */
export const NOBODY = "0".repeat(16)

/** Names the server that a home is paired with, or is about to be. */
export const fingerprint = Effect.fnUntraced(function* (status: Status, pairing: Pairing | undefined) {
  const { primitives } = yield* Crypto
  const server = pairing ?? (status._tag === "Unpaired" ? undefined : status.server)
  return server === undefined ? undefined : hex(primitives.hash(server.serverKey).subarray(0, 8))
})

interface Entry extends Draft.Place {
  readonly path: string
}

const entries = Effect.fnUntraced(function* (store: SecureFileStore["Service"], paths: HomePaths.ClientPaths) {
  const names = yield* store.list(paths.drafts)
  return names.flatMap((name): ReadonlyArray<Entry> => {
    const place = Draft.placeOf(name)
    return place === undefined ? [] : [{ ...place, path: HomePaths.join(paths.drafts, name) }]
  })
})

/** A file that is refused counts as one that is not understood: it must not keep the others back. */
const read = (store: SecureFileStore["Service"], path: string): Effect.Effect<Draft.Content, DraftsError> =>
  store.read(path, { maxBytes: Draft.MAX_DRAFT_BYTES }).pipe(
    Effect.map(Option.match({ onNone: (): Draft.Content => ({ _tag: "Gone" }), onSome: Draft.decode })),
    Effect.catch((error) =>
      error.reason === "Unsafe" || error.reason === "TooLarge"
        ? Effect.succeed<Draft.Content>({ _tag: "Unknown" })
        : Effect.fail(io(error))
    )
  )

/** As they were given: by lane exactly, between lanes by the clock. */
const inOrder = (list: ReadonlyArray<readonly [Entry, Kept]>): ReadonlyArray<Kept> => {
  const latest = new Map<number, number>()
  const timed = list.map(([{ lane, seq }, kept]) => {
    // A clock that was set back does not change the order within a lane.
    const at = Math.max(latest.get(lane) ?? 0, kept.draft.created)
    latest.set(lane, at)
    return { at, lane, seq, kept }
  })
  return timed.sort((a, b) => a.at - b.at || a.lane - b.lane || a.seq - b.seq).map(({ kept }) => kept)
}

/** Opens the drafts of a home, for the scope; `server` as `fingerprint` gives it. */
export const open = Effect.fn("Drafts.open")(function* (paths: HomePaths.ClientPaths, server: string) {
  const store = yield* SecureFileStore
  const scope = yield* Effect.scope
  const held = new Set<number>()
  const given = new Set<string>()

  const hold = (lane: number): Effect.Effect<boolean, DraftsError, Scope.Scope> =>
    Effect.suspend(() => {
      if (held.has(lane)) return Effect.succeed(true)
      return Effect.matchEffect(store.lock(lockOf(paths, lane)), {
        onFailure: (error) => (error.reason === "Locked" ? Effect.succeed(false) : Effect.fail(io(error))),
        onSuccess: () => {
          held.add(lane)
          return Effect.succeed(true)
        }
      })
    })

  let own = 0
  while (!(yield* hold(own))) {
    if (++own === LANES) {
      return yield* new DraftsError({
        reason: "Busy",
        message: `${LANES} chats keep messages on this home already: end one of them`
      })
    }
  }
  let seq = (yield* Effect.mapError(entries(store, paths), io)).reduce(
    (last, entry) => (entry.lane === own ? Math.max(last, entry.seq) : last),
    0
  )

  const keep: Drafts["keep"] = Effect.fn("Drafts.keep")(function* (id, request) {
    const created = yield* Clock.currentTimeMillis
    const draft: Draft.Draft = { version: 1, id, created, server, request }
    const bytes = Draft.encode(draft)
    if (bytes.length > Draft.MAX_DRAFT_BYTES) {
      return yield* new DraftsError({
        reason: "TooLarge",
        message: `with what is attached it has ${bytes.length} bytes, and at most ${Draft.MAX_DRAFT_BYTES} are kept`
      })
    }
    const there = yield* Effect.mapError(entries(store, paths), io)
    const total = there.reduce((sum, entry) => sum + entry.bytes, bytes.length)
    if (there.length >= Draft.MAX_DRAFTS || total > Draft.MAX_DRAFTS_BYTES) {
      const mib = (total / 1024 ** 2).toFixed(1)
      return yield* new DraftsError({
        reason: "Full",
        message: `${there.length} messages are kept already (${mib} MiB with this one, at most ${Draft.MAX_DRAFTS} and ${Draft.MAX_DRAFTS_BYTES / 1024 ** 2} MiB): wait for the line, or drop some with clawchat drafts rm`
      })
    }
    const path = HomePaths.join(paths.drafts, Draft.nameOf({ lane: own, seq: ++seq, bytes: bytes.length, id }))
    given.add(path)
    yield* Effect.mapError(store.create(path, bytes), io)
    return { draft, path, foreign: false } satisfies Kept
  })

  const drop: Drafts["drop"] = Effect.fn("Drafts.drop")(({ path }) => Effect.mapError(store.burn(path), io))

  const adopt: Drafts["adopt"] = Effect.gen(function* () {
    const before = yield* Effect.mapError(entries(store, paths), io)
    for (const lane of new Set(before.map((entry) => entry.lane))) yield* hold(lane)
    const list: Array<readonly [Entry, Kept]> = []
    const unknown: Array<string> = []
    let elsewhere = 0
    // What a lane holds may have changed before we had its lock.
    for (const entry of yield* Effect.mapError(entries(store, paths), io)) {
      const { lane, path } = entry
      if (!held.has(lane)) elsewhere++
      if (!held.has(lane) || given.has(path)) continue
      const content = yield* read(store, path)
      if (content._tag === "Gone") {
        yield* Effect.mapError(store.burn(path), io)
      } else if (content._tag === "Unknown") {
        unknown.push(path)
      } else {
        given.add(path)
        const { draft } = content
        list.push([entry, { draft, path, foreign: draft.server !== server }])
      }
    }
    return { kept: inOrder(list), unknown, elsewhere } satisfies Found
  }).pipe(Effect.provideService(Scope.Scope, scope))

  const drafts: Drafts = { keep, drop, adopt }
  return drafts
})
