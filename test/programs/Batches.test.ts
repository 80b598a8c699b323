import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Result from "effect/Result"
import * as Batches from "../../src/programs/Batches.ts"

describe("Batches", () => {
  it.effect("what is asked while a batch is on its way is the next one; each gets its own answer", () =>
    Effect.gen(function* () {
      const gate = yield* Latch.make(false)
      const seen: Array<ReadonlyArray<number>> = []
      const ask = yield* Batches.make(4, (numbers: ReadonlyArray<number>) =>
        Effect.gen(function* () {
          seen.push(numbers)
          yield* gate.await
          return numbers.map((n) => (n % 2 === 0 ? Result.succeed(`${n}`) : Result.fail(n)))
        })
      )
      const first = yield* Effect.forkChild(Effect.result(ask(0)))
      while (seen.length === 0) yield* Effect.yieldNow
      const rest = yield* Effect.forkChild(
        Effect.forEach([1, 2, 3, 4, 5, 6], (n) => Effect.result(ask(n)), { concurrency: "unbounded" })
      )
      const left = yield* Effect.forkChild(ask(7))
      yield* Effect.yieldNow
      yield* Fiber.interrupt(left)
      yield* gate.open
      assert.deepStrictEqual(yield* Fiber.join(first), Result.succeed("0"))
      const answers = yield* Fiber.join(rest)
      assert.deepStrictEqual(answers.map(Result.merge), [1, "2", 3, "4", 5, "6"])
      assert.deepStrictEqual(seen[0], [0])
      assert.deepStrictEqual(seen.slice(1).flat().slice(0, 6), [1, 2, 3, 4, 5, 6])
      assert.isTrue(seen.every(({ length }) => length <= 4))
    })
  )

  it.effect("an answer that is missing is a bug, and no hang", () =>
    Effect.gen(function* () {
      const ask = yield* Batches.make(4, () => Effect.succeed<ReadonlyArray<Result.Result<number>>>([]))
      assert.isTrue(Exit.hasDies(yield* Effect.exit(ask(1))))
    })
  )

  it.effect("a batch that dies takes no later one with it", () =>
    Effect.gen(function* () {
      const ask = yield* Batches.make(4, (numbers: ReadonlyArray<number>) =>
        numbers.includes(1) ? Effect.die("a bug") : Effect.succeed(numbers.map((n) => Result.succeed(n)))
      )
      assert.isTrue(Exit.hasDies(yield* Effect.exit(ask(1))))
      assert.strictEqual(yield* ask(2), 2)
    })
  )
})
