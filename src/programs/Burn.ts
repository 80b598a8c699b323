/**
 * COMPROMISED on disk. In this order, so that a process that is killed at any step leaves a home that is burnt, never half
 * alive: tombstone (durable), list of what is burnt (durable), deletions, and last the tombstone itself. `finish` is what a
 * start does before anything else: it takes up where a killed one stopped.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as HomePaths from "../domain/HomePaths.ts"
import * as Tombstone from "../domain/Tombstone.ts"
import { Crypto } from "../services/Crypto.ts"
import { type SecureFileError, SecureFileStore } from "../services/SecureFileStore.ts"

/** Bytes of a file that is fingerprinted, and of the list. */
const MAX_LENGTH = 1024 * 1024
/** Deletions at a time. */
const AT_ONCE = 8

/** What one home burns. */
export interface Plan {
  readonly tier: Tombstone.Tier
  readonly tombstone: string
  readonly burnt: string
  /** Every file in these folders, whatever it is; not the tombstone. */
  readonly folders: ReadonlyArray<string>
  /** And these. */
  readonly files: ReadonlyArray<string>
  /** Copies of what another home may still use: deleted, but welcome again. */
  readonly copies: ReadonlyArray<string>
}

/**
 * - `Left`: something could not be deleted.
 * - `Returned`: a file that was burnt stands there again.
 */
export class BurnError extends Data.TaggedError("BurnError")<{
  readonly reason: "Left" | "Returned"
  /** One line for people: what, where, what to do. */
  readonly message: string
}> {}

/** The server's home. Folders of credential files may stand elsewhere: `credentials` and `backup` name them. */
export const server = (
  paths: HomePaths.ServerPaths,
  folders: { readonly credentials: string; readonly backup: string | undefined }
): Plan => {
  const { archive, credential } = HomePaths.credentials(folders.credentials)
  const backup = folders.backup === undefined ? [] : [HomePaths.credentials(folders.backup).credential]
  return {
    tier: "server",
    tombstone: paths.tombstone,
    burnt: paths.burnt,
    folders: [paths.identity, paths.devices, archive],
    files: [credential, ...backup, paths.bootstrapKey],
    copies: []
  }
}

/** The llm tier's part: its identity, and the devices that it knows. Conversations, memory and context files are the user's and stay. */
export const llm = (paths: HomePaths.LlmPaths): Plan => ({
  tier: "llm",
  tombstone: paths.tombstone,
  burnt: paths.burnt,
  folders: [paths.identity, paths.devices],
  files: [paths.llmPublicKey],
  copies: []
})

/** A client's home, with the copy of the server's bootstrap key that may stand there. */
export const client = (paths: HomePaths.ClientPaths): Plan => ({
  tier: "client",
  tombstone: paths.tombstone,
  burnt: paths.burnt,
  folders: [paths.identity],
  files: [],
  copies: [HomePaths.server(paths.home).bootstrapKey]
})

/** Paths of all files that a plan burns and that are there now. */
const present = Effect.fnUntraced(function* (plan: Plan) {
  const store = yield* SecureFileStore
  const found = yield* Effect.forEach(plan.folders, (folder) =>
    Effect.map(store.list(folder), (names) => names.map((name) => ({ path: HomePaths.join(folder, name), name })))
  )
  return found.flat().filter(({ path }) => path !== plan.tombstone && path !== plan.burnt)
})

const nameOf = (path: string): string => path.slice(Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1)

/** Fingerprints of all that stands there, by path. What cannot be read has none. */
const known = Effect.fnUntraced(function* (plan: Plan) {
  const store = yield* SecureFileStore
  const { primitives } = yield* Crypto
  const files = [...(yield* present(plan)), ...plan.files.map((path) => ({ path, name: nameOf(path) }))]
  return yield* Effect.forEach(files, ({ name, path }) =>
    Effect.map(
      Effect.orElseSucceed(store.read(path, { maxBytes: MAX_LENGTH }), () => Option.none<Uint8Array>()),
      (bytes) => {
        const marks = Option.isNone(bytes) ? [] : Tombstone.fingerprints(primitives, name, bytes.value)
        if (Option.isSome(bytes)) bytes.value.fill(0)
        return { path, marks }
      }
    )
  )
})

const readList = Effect.fnUntraced(function* (path: string) {
  const store = yield* SecureFileStore
  const bytes = yield* store.read(path, { maxBytes: MAX_LENGTH })
  return Option.getOrElse(
    Option.flatMap(bytes, (content) => Tombstone.decodeList(content)),
    (): ReadonlyArray<string> => []
  )
})

const remember = Effect.fnUntraced(function* (plan: Plan, burnt: ReadonlyArray<string>) {
  const store = yield* SecureFileStore
  const before = yield* readList(plan.burnt)
  const after = Tombstone.merge(before, burnt)
  if (after.length === before.length && burnt.every((each) => before.includes(each))) return
  yield* store.write(plan.burnt, Tombstone.encodeList(after))
})

/** The first two steps; durable when it returns. From here on every start burns what is left. */
export const begin = Effect.fn("Burn.begin")(function* (
  plan: Plan,
  about: Pick<Tombstone.Tombstone, "cause" | "llmKey">
) {
  const store = yield* SecureFileStore
  const burnt = (yield* known(plan)).flatMap(({ marks }) => marks)
  const at = yield* Clock.currentTimeMillis
  yield* store.write(plan.tombstone, Tombstone.encode({ tier: plan.tier, at, burnt, ...about }))
  yield* remember(plan, burnt)
})

/** Deletes; answers what it could not. Repeating it is harmless. */
export const destroy = Effect.fn("Burn.destroy")(function* (plan: Plan) {
  const store = yield* SecureFileStore
  const listed = yield* Effect.result(present(plan))
  const paths = Result.isSuccess(listed) ? listed.success.map(({ path }) => path) : []
  const done = yield* Effect.forEach(
    [...paths, ...plan.files, ...plan.copies],
    (path) => Effect.result(store.burn(path)),
    {
      concurrency: AT_ONCE
    }
  )
  const failures = done.flatMap((each) => (Result.isFailure(each) ? [each.failure.message] : []))
  return Result.isFailure(listed) ? [listed.failure.message, ...failures] : failures
})

/** Removes the tombstone: nothing is owed any more. */
export const lift = (plan: Plan): Effect.Effect<void, SecureFileError, SecureFileStore> =>
  SecureFileStore.use((store) => store.burn(plan.tombstone))

/** Whether a tombstone of this tier stands. */
export const stands = (plan: Pick<Plan, "tombstone" | "tier">) =>
  SecureFileStore.use((store) =>
    Effect.map(
      store.read(plan.tombstone, { maxBytes: 4 * MAX_LENGTH }),
      Option.exists((bytes) => isOf(plan.tier, Tombstone.decode(bytes)))
    )
  )

/** One that cannot be understood is whoever's finds it. */
const isOf = (tier: Tombstone.Tier, state: Tombstone.State): boolean =>
  state._tag === "Standing" && Option.match(state.tombstone, { onNone: () => true, onSome: (it) => it.tier === tier })

/**
 * What a start does first: finishes what a tombstone asks for, and answers it. `before` runs when everything is deleted and
 * the tombstone still stands: what it does is repeated if the process dies in it. Fails with `Left` while anything stays.
 */
export const finish = Effect.fn("Burn.finish")(function* <E = never, R = never>(
  plan: Plan,
  before: (tombstone: Option.Option<Tombstone.Tombstone>) => Effect.Effect<void, E, R>
) {
  const store = yield* SecureFileStore
  const bytes = yield* store.read(plan.tombstone, { maxBytes: 4 * MAX_LENGTH })
  if (Option.isNone(bytes)) return Option.none<Tombstone.Tombstone>()
  const state = Tombstone.decode(bytes.value)
  if (state._tag === "Done") {
    yield* lift(plan)
    return Option.none<Tombstone.Tombstone>()
  }
  if (!isOf(plan.tier, state)) {
    return yield* new BurnError({
      reason: "Left",
      message: `${plan.tombstone} says that another tier's keys are being burnt on this home: start that one first`
    })
  }
  const marks = Option.match(state.tombstone, { onNone: () => [], onSome: ({ burnt }) => burnt })
  yield* remember(plan, marks)
  const left = yield* destroy(plan)
  const [first] = left
  if (first !== undefined) {
    return yield* new BurnError({
      reason: "Left",
      message: `COMPROMISED is not complete, ${left.length} of its files cannot be deleted (${first}): remove them and start again`
    })
  }
  yield* before(state.tombstone)
  yield* lift(plan)
  return state.tombstone
})

/** Refuses a home on which something that was burnt stands again: it came from a backup, and whoever stole it has it too. */
export const refuseReturned = Effect.fn("Burn.refuseReturned")(function* (plan: Plan) {
  const burnt = new Set(yield* readList(plan.burnt))
  if (burnt.size === 0) return
  const returned = (yield* known(plan)).filter(({ marks }) => marks.some((mark) => burnt.has(mark)))
  const [first] = returned
  if (first === undefined) return
  const more = returned.length === 1 ? "" : ` (and ${returned.length - 1} more)`
  return yield* new BurnError({
    reason: "Returned",
    message: `${first.path}${more} was burnt by COMPROMISED and has come back, from a backup perhaps: remove it, for whoever stole it has it too`
  })
})

/** Waits until one of these fingerprints is on the list of what was burnt, whichever process puts it there. */
export const burnt = Effect.fn("Burn.burnt")(function* (plan: Pick<Plan, "burnt">, marks: ReadonlyArray<string>) {
  const store = yield* SecureFileStore
  yield* store.watch(plan.burnt).pipe(
    Stream.mapEffect(() => Effect.orElseSucceed(readList(plan.burnt), (): ReadonlyArray<string> => [])),
    Stream.filter((list) => marks.some((mark) => list.includes(mark))),
    Stream.take(1),
    Stream.runDrain
  )
})
