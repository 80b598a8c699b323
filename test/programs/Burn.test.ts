/**
 * COMPROMISED on disk and in its order, against a process that dies at any change of the disk: a start afterwards finds
 * either nothing begun, or it leaves nothing of the old behind.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import * as FastCheck from "fast-check"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import { hex, text, utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as Tombstone from "../../src/domain/Tombstone.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as Burn from "../../src/programs/Burn.ts"
import * as Compromise from "../../src/programs/Compromise.ts"
import * as Identity from "../../src/programs/Identity.ts"
import * as ServerCompromise from "../../src/programs/ServerCompromise.ts"
import { SecureFileError, SecureFileStore } from "../../src/services/SecureFileStore.ts"
import type { LastWords } from "../../src/services/Transport.ts"
import { Disk } from "./CredentialSupport.ts"

type Store = SecureFileStore["Service"]

const HOME = "/var/lib/clawchat"
const paths = HomePaths.server(HOME)
const llmPaths = HomePaths.llm(HOME)
const plan = Burn.server(paths, { credentials: paths.security, backup: "/backup" })
const secret = (byte: number): string => hex(new Uint8Array(32).fill(byte))
const llmKey = CryptoNode.primitives.keyPair(new Uint8Array(32).fill(9)).publicKey
const id = "ab".repeat(16)

/** A server's home with a secret in every place where one may be; `mine` are the user's own files. */
const home = (): { readonly disk: Disk; readonly mine: ReadonlyArray<string> } => {
  const disk = new Disk()
  const put = (path: string, content: string) => disk.files.set(path, utf8(content))
  put(paths.staticKey, `${secret(1)}\n`)
  put(paths.portSeed, `${secret(2)}\n`)
  put(paths.lastPort, "50000\n")
  put(HomePaths.join(paths.devices, `${id}.json`), JSON.stringify({ id, psk: secret(3) }))
  put(paths.llmLink, JSON.stringify({ version: 1, id, psk: secret(4) }))
  put(paths.llmPublicKey, `${hex(llmKey)}\n`)
  put(paths.nonces, "n".repeat(38))
  put(paths.bootstrapKey, `${secret(5)}\n`)
  put(paths.credential, `sealed ${secret(6)}`)
  put(HomePaths.join(paths.archive, `${"cd".repeat(16)}.sec`), `sealed ${secret(6)}`)
  put("/backup/clawchat-current.sec", `sealed ${secret(6)}`)
  // What a later version keeps there is burnt too.
  put(HomePaths.join(paths.identity, "relay.key"), secret(7))
  const mine = [
    HomePaths.join(paths.data, "letter.txt"),
    paths.configFile,
    HomePaths.join(llmPaths.context, "SOUL.md"),
    llmPaths.database
  ]
  for (const path of mine) put(path, "the user's")
  return { disk, mine }
}
const SECRETS = [1, 2, 3, 4, 5, 6, 7].map(secret)

/** Old secrets that stand in any file. */
const secretsOn = (disk: Disk): ReadonlyArray<string> =>
  SECRETS.filter((one) => [...disk.files.values()].some((bytes) => text(bytes)?.includes(one) === true))

/** A store whose process is killed when it begins change number `at` (from 0) of the disk: nothing after it happens. */
const dying = (store: Store, at: number, dead: Deferred.Deferred<void>, log: Array<string> = []): Store => {
  let changes = 0
  const change = <A, E>(what: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      if (changes >= at) return Effect.andThen(Deferred.succeed(dead, undefined), Effect.never)
      changes++
      log.push(what)
      return effect
    })
  return {
    ...store,
    write: (path, bytes) => change(`write ${path}`, store.write(path, bytes)),
    create: (path, bytes) => change(`create ${path}`, store.create(path, bytes)),
    burn: (path) => change(`burn ${path}`, store.burn(path))
  }
}

interface Watch {
  readonly log: Array<string>
  readonly act: Compromise.Act<never>
}

const watched = (words: Partial<LastWords> = {}): Watch => {
  const log: Array<string> = []
  const note = (what: string) => Effect.sync(() => void log.push(what))
  const last: LastWords = { notified: 1, send: note("send"), acknowledged: Effect.never, ...words }
  return {
    log,
    act: {
      plan,
      about: { cause: "here", llmKey },
      seal: Effect.as(note("seal"), [last]),
      wipe: note("wipe"),
      answers: false
    }
  }
}

const onDisk = (disk: Disk) => Effect.provide(SecureFileStore, disk.layer)

const withStore =
  (store: Store) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(Effect.provideService(SecureFileStore, store), Effect.provide(CryptoNode.layerSeeded("burn")))

/** Runs until it ends or its process is killed at this change. */
const until = Effect.fnUntraced(function* (disk: Disk, at: number, watch: Watch) {
  const dead = yield* Deferred.make<void>()
  const store = dying(yield* onDisk(disk), at, dead, watch.log)
  const fiber = yield* Effect.forkDetach(withStore(store)(Compromise.carryOut(watch.act)), { startImmediately: true })
  const ended = yield* Effect.forkChild(
    Effect.raceFirst(Effect.as(Fiber.await(fiber), true), Effect.as(Deferred.await(dead), false))
  )
  yield* TestClock.adjust(Compromise.ANSWER_MS)
  return yield* Fiber.join(ended)
})

const start = (disk: Disk) =>
  Effect.flatMap(onDisk(disk), (store) => withStore(store)(ServerCompromise.prepare(plan, paths, llmPaths)))

describe("COMPROMISED on disk", () => {
  it.effect("tombstone, list, seal, deletions, wipe, words: in this order", () =>
    Effect.gen(function* () {
      const { disk, mine } = home()
      const watch = watched()
      assert.isTrue(yield* until(disk, Number.POSITIVE_INFINITY, watch))
      const { log } = watch
      assert.deepStrictEqual(log.slice(0, 3), [`write ${paths.tombstone}`, `write ${paths.burnt}`, "seal"])
      assert.deepStrictEqual(log.slice(-2), ["wipe", "send"])
      assert.isTrue(log.slice(3, -2).every((each) => each.startsWith("burn ")))
      assert.deepStrictEqual(secretsOn(disk), [])
      assert.deepStrictEqual([...disk.files.keys()].sort(), [...mine, paths.tombstone, paths.burnt].sort())
    })
  )

  it.effect("killed at any change, and again while the next start finishes: nothing of the old stays", () =>
    Effect.gen(function* () {
      const whole = watched()
      yield* until(home().disk, Number.POSITIVE_INFINITY, whole)
      const changes = whole.log.filter((each) => /^(write|burn) /.test(each)).length
      assert.isAbove(changes, 12)
      for (let at = 0; at < changes; at++) {
        for (const again of [0, 1, 2, 5, 9, 13, Number.POSITIVE_INFINITY]) {
          const { disk, mine } = home()
          const watch = watched()
          assert.isFalse(yield* until(disk, at, watch))
          assert.notInclude(watch.log, "send", `${at}`)
          if (again < Number.POSITIVE_INFINITY) {
            const dead = yield* Deferred.make<void>()
            const store = dying(yield* onDisk(disk), again, dead)
            const next = withStore(store)(ServerCompromise.prepare(plan, paths, llmPaths))
            yield* Effect.raceFirst(Effect.ignore(next), Deferred.await(dead))
          }
          yield* start(disk)
          const about = `killed at ${at}, then at ${again}`
          if (at === 0) {
            // Not begun: all is as it was.
            assert.deepStrictEqual(secretsOn(disk), SECRETS, about)
            continue
          }
          assert.deepStrictEqual(secretsOn(disk), [], about)
          // A link that the old llm tier cannot use, and nothing else.
          assert.deepStrictEqual([...disk.files.keys()].sort(), [...mine, paths.burnt, paths.llmLink].sort(), about)
          const link = yield* Effect.flatMap(onDisk(disk), (store) =>
            withStore(store)(Identity.readLink(paths.llmLink))
          )
          assert.isTrue(
            Option.exists(link, (found) => Identity.isRefused(found, llmKey)),
            about
          )
        }
      }
    })
  )

  it.effect(
    "an answer in time ends the wait; without one it ends after two seconds; answers of ours all leave first",
    () =>
      Effect.gen(function* () {
        const run = (act: Compromise.Act<never>) =>
          Effect.gen(function* () {
            const { disk } = home()
            const fiber = yield* Effect.forkChild(withStore(yield* onDisk(disk))(Compromise.carryOut(act)), {
              startImmediately: true
            })
            return fiber
          })
        const quick = yield* run(watched({ send: Effect.never, acknowledged: Effect.void }).act)
        assert.deepStrictEqual(yield* Fiber.join(quick), { notified: 1, acknowledged: true, left: [] })
        const silent = yield* run(watched().act)
        yield* TestClock.adjust(Compromise.ANSWER_MS - 1)
        assert.isUndefined(silent.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(yield* Fiber.join(silent), { notified: 1, acknowledged: false, left: [] })
        const copies = watched({ send: Effect.sleep(400), acknowledged: Effect.void })
        const answering = yield* run({ ...copies.act, answers: true })
        yield* TestClock.adjust(399)
        assert.isUndefined(answering.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.isTrue((yield* Fiber.join(answering)).acknowledged)
      })
  )

  it.effect("what cannot be deleted is named, the rest goes, and no start passes it by", () =>
    Effect.gen(function* () {
      const { disk } = home()
      const store = yield* onDisk(disk)
      const refusal = new SecureFileError({ reason: "Denied", path: paths.portSeed, message: `${paths.portSeed}: no` })
      const stuck: Store = {
        ...store,
        burn: (path) => (path === paths.portSeed ? Effect.fail(refusal) : store.burn(path))
      }
      const fiber = yield* Effect.forkChild(
        withStore(stuck)(Compromise.carryOut(watched({ acknowledged: Effect.void }).act))
      )
      const outcome = yield* Fiber.join(fiber)
      assert.strictEqual(outcome.left.length, 1)
      assert.include(outcome.left[0], paths.portSeed)
      assert.deepStrictEqual(secretsOn(disk), [secret(2)])
      const error = yield* Effect.flip(withStore(stuck)(ServerCompromise.prepare(plan, paths, llmPaths)))
      assert.include(error.message, paths.portSeed)
      assert.isTrue(disk.files.has(paths.tombstone))
      yield* start(disk)
      assert.deepStrictEqual(secretsOn(disk), [])
    })
  )

  it.effect("what was burnt never comes back: each old file by itself keeps a start from happening", () =>
    Effect.gen(function* () {
      const before = home().disk
      const { disk } = home()
      yield* until(disk, Number.POSITIVE_INFINITY, watched())
      yield* start(disk)
      yield* start(disk)
      for (const path of [
        paths.staticKey,
        paths.portSeed,
        paths.bootstrapKey,
        HomePaths.join(paths.devices, `${id}.json`),
        HomePaths.join(paths.archive, `${"cd".repeat(16)}.sec`),
        paths.credential
      ]) {
        const old = before.files.get(path) ?? assert.fail(path)
        disk.files.set(path, old)
        const error = yield* Effect.flip(start(disk))
        assert.include(error.message, path)
        assert.include(error.message, "has come back")
        for (const one of SECRETS) assert.notInclude(error.message, one)
        disk.files.delete(path)
      }
      // Another record under a burnt id is as bad.
      disk.files.set(HomePaths.join(paths.devices, `${id}.json`), utf8("{}"))
      assert.include((yield* Effect.flip(start(disk))).message, id)
      disk.files.clear()
      yield* start(disk)
    })
  )

  it.effect("a torn removal of the tombstone is over; one that cannot be read burns", () =>
    Effect.gen(function* () {
      const fresh = home().disk
      fresh.files.set(paths.tombstone, new Uint8Array(80))
      assert.isTrue(Option.isNone(yield* start(fresh)))
      assert.isFalse(fresh.files.has(paths.tombstone))
      assert.deepStrictEqual(secretsOn(fresh), SECRETS)
      const damaged = home().disk
      damaged.files.set(paths.tombstone, utf8("{"))
      yield* start(damaged)
      assert.deepStrictEqual(secretsOn(damaged), [])
      // A client's tombstone on a server's home is not this tier's to finish.
      const other = home().disk
      other.files.set(paths.tombstone, Tombstone.encode({ tier: "client", at: 0, cause: "here", burnt: [] }))
      assert.include((yield* Effect.flip(start(other))).message, "another tier")
      assert.deepStrictEqual(secretsOn(other), SECRETS)
    })
  )
})

describe("Tombstone", () => {
  it("knows files by content and by id, and nothing that is public or short", () => {
    const of = (name: string, content: string) => Tombstone.fingerprints(CryptoNode.primitives, name, utf8(content))
    assert.deepStrictEqual(of("static.key", secret(1)), of("static.key", `${secret(1)}\n`))
    assert.notDeepEqual(of("static.key", secret(1)), of("static.key", secret(2)))
    assert.strictEqual(of("static.key", secret(1))[0]?.length, 32)
    assert.deepStrictEqual(of("server.pub", secret(1)), [])
    assert.deepStrictEqual(of("port", "50000\n"), [])
    assert.deepStrictEqual(of("llm.hints", '{"slot":5984198,"answered":0,"tried":0}'), [])
    assert.deepStrictEqual(of(`${id}.sec`, ""), [id])
    assert.strictEqual(of(`${id}.json`, secret(1)).length, 2)
  })

  it("keeps the newest, each once, and survives any bytes", () => {
    assert.deepStrictEqual(Tombstone.merge(["a", "b"], ["b", "c", "c"]), ["a", "b", "c"])
    const many = Array.from({ length: Tombstone.MAX_BURNT }, (_, n) => `${n}`)
    const merged = Tombstone.merge(many, ["new"])
    assert.strictEqual(merged.length, Tombstone.MAX_BURNT)
    assert.strictEqual(merged.at(-1), "new")
    FastCheck.assert(
      FastCheck.property(FastCheck.uint8Array({ maxLength: 64 }), (bytes) => {
        Tombstone.decode(bytes)
        Tombstone.decodeList(bytes)
      }),
      { seed: 7 }
    )
  })
})
