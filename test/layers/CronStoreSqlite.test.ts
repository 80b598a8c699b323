import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as ConversationsSqlite from "../../src/layers/ConversationsSqlite.ts"
import * as CronStoreSqlite from "../../src/layers/CronStoreSqlite.ts"
import { Conversations } from "../../src/services/Conversations.ts"
import { type Claim, CronStore } from "../../src/services/CronStore.ts"
import * as CronStoreContract from "../services/CronStoreContract.ts"

const temporary = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-cron-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const inFolder = Layer.unwrap(
  Effect.map(temporary, (folder) => CronStoreSqlite.layer({ filename: path.join(folder, "deep", "clawchat.db") }))
)

CronStoreContract.suite("CronStore in memory", CronStoreSqlite.layerMemory)
CronStoreContract.suite("CronStore in a file", inFolder)

const queued: Claim = { slot: "s", due: 1, status: "queued", acknowledged: false }

describe("CronStore in a file of two programs", () => {
  it.effect("shares the transcript's file, and gives each slot to one", () =>
    Effect.gen(function* () {
      const filename = path.join(yield* temporary, "clawchat.db")
      const open = Effect.map(Layer.build(CronStoreSqlite.layer({ filename })), (context) =>
        CronStore.use(Effect.succeed).pipe(Effect.provide(context))
      )
      const transcript = Layer.build(ConversationsSqlite.layer({ filename }))
      const conversations = Conversations.use((service) => service.list).pipe(Effect.provide(yield* transcript))
      const one = yield* yield* open
      const two = yield* yield* open
      assert.notStrictEqual(one, two)
      const slots = Array.from({ length: 40 }, (_, n) => n)
      const claims = yield* Effect.forEach(
        slots,
        (n) =>
          Effect.all(
            [one, two].map((store) => store.advance([{ name: "A", key: "a", claims: [{ ...queued, slot: `s${n}` }] }])),
            { concurrency: 2 }
          ),
        { concurrency: 8 }
      )
      for (const pair of claims) assert.strictEqual(pair.flat().length, 1)
      const ids = claims.flat(2).map((run) => run.id)
      assert.strictEqual(new Set(ids).size, 40)
      for (const id of ids) {
        const begun = yield* Effect.all([one.begin(id), two.begin(id)], { concurrency: 2 })
        assert.deepStrictEqual(
          begun.filter((mine) => mine),
          [true]
        )
      }
      assert.deepStrictEqual(yield* conversations, [])
    })
  )

  it.effect("has it all after the program ended", () =>
    Effect.gen(function* () {
      const filename = path.join(yield* temporary, "clawchat.db")
      const during = <A, E>(body: (store: CronStore["Service"]) => Effect.Effect<A, E>) =>
        Effect.flatMap(CronStore, body).pipe(Effect.provide(CronStoreSqlite.layer({ filename }), { local: true }))
      yield* during((store) => store.advance([{ name: "A", key: "a", claims: [queued] }]))
      const { queued: left } = yield* during((store) => store.sweep)
      assert.deepStrictEqual(
        left.map((run) => run.slot),
        ["s"]
      )
      assert.isTrue(Option.isSome(yield* during((store) => store.find("a", "s"))))
    })
  )
})
