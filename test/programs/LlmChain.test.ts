/** Retries, failover and circuit breakers, in virtual time. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { type FailureReason, noUsage } from "../../src/domain/Llm.ts"
import * as Breaker from "../../src/programs/Breaker.ts"
import * as LlmChain from "../../src/programs/LlmChain.ts"
import { LlmError, type LlmEvent, type LlmProviderShape, type LlmRequest } from "../../src/services/LlmProvider.ts"

const request: LlmRequest = { conversation: "main", system: "", messages: [{ role: "user", text: "hi" }] }

const fails = (reason: FailureReason, retryAfterMs?: number) =>
  Stream.fail(
    new LlmError({ reason, message: `it is ${reason}`, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) })
  )
const says = (text: string, ...before: ReadonlyArray<LlmEvent>): Stream.Stream<LlmEvent> =>
  Stream.fromIterable<LlmEvent>([
    ...before,
    { _tag: "Delta", text },
    { _tag: "Done", usage: noUsage, stopReason: "end", model: "m" }
  ])

interface Asked {
  readonly at: number
  readonly request: LlmRequest
}

/** A provider that answers by script, and when it was asked. */
const provider = (name: string, script: (index: number) => Stream.Stream<LlmEvent, LlmError>, model = "default") => {
  const asked: Array<Asked> = []
  const shape: LlmProviderShape = {
    info: { provider: name, model, chosen: "by the test" },
    stream: (request) =>
      Stream.unwrap(
        Effect.map(Clock.currentTimeMillis, (at) => {
          asked.push({ at, request })
          return script(asked.length - 1)
        })
      )
  }
  return { shape, asked }
}

interface Outcome {
  readonly text: string
  readonly notices: ReadonlyArray<string>
  readonly done: Extract<LlmEvent, { _tag: "Done" }> | undefined
  readonly error: LlmError | undefined
}

/** Asks, and lets as much time pass as the answer takes. */
const ask = Effect.fnUntraced(function* (chain: LlmProviderShape, of = request) {
  const events: Array<LlmEvent> = []
  const fiber = yield* chain.stream(of).pipe(
    Stream.runForEach((event) => Effect.sync(() => void events.push(event))),
    Effect.as(undefined),
    Effect.catch((failure) => Effect.succeed(failure)),
    Effect.forkChild
  )
  while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust(100)
  return {
    text: events.flatMap((event) => (event._tag === "Delta" ? [event.text] : [])).join(""),
    notices: events.flatMap((event) => (event._tag === "Notice" ? [event.text] : [])),
    done: events.find((event) => event._tag === "Done"),
    error: yield* Fiber.join(fiber)
  } satisfies Outcome
})

describe("one provider", () => {
  it.effect("an answer passes as it is", () =>
    Effect.gen(function* () {
      const a = provider("a", () => says("hello"))
      const { done, error, notices, text } = yield* ask(LlmChain.make([a.shape]))
      assert.strictEqual(text, "hello")
      assert.deepStrictEqual(done, { _tag: "Done", usage: noUsage, stopReason: "end", model: "m" })
      assert.isUndefined(error)
      assert.deepStrictEqual(notices, [])
    })
  )

  it.effect("passing failures are tried again after pauses that grow, three times in all", () =>
    Effect.gen(function* () {
      for (const reason of ["Unavailable", "RateLimited", "Broken"] as const) {
        const a = provider("a", () => fails(reason))
        const { error, notices } = yield* ask(LlmChain.make([a.shape]))
        assert.strictEqual(error?.reason, reason)
        assert.strictEqual(error?.message, `it is ${reason}`)
        const [first = 0, second = 0, third = 0] = a.asked.map(({ at }) => at)
        assert.strictEqual(a.asked.length, 3)
        assert.isTrue(second - first >= 750 && second - first <= 1350, `${second - first}`)
        assert.isTrue(third - second >= 1500 && third - second <= 2600, `${third - second}`)
        assert.strictEqual(notices.length, 2)
        assert.match(notices[0] ?? "", /^it is \w+; trying again in [\d.]+ s$/)
      }
    })
  )

  it.effect("what did not answer in time is tried once more", () =>
    Effect.gen(function* () {
      const a = provider("a", () => fails("Timeout"))
      assert.strictEqual((yield* ask(LlmChain.make([a.shape]))).error?.reason, "Timeout")
      assert.strictEqual(a.asked.length, 2)
    })
  )

  it.effect("the others never are", () =>
    Effect.gen(function* () {
      for (const reason of ["NoKey", "Unauthorized", "Refused", "OverBudget"] as const) {
        const a = provider("a", () => fails(reason))
        assert.strictEqual((yield* ask(LlmChain.make([a.shape]))).error?.reason, reason)
        assert.strictEqual(a.asked.length, 1)
      }
    })
  )

  it.effect("Retry-After is waited for, up to a minute", () =>
    Effect.gen(function* () {
      const a = provider("a", (index) => (index === 0 ? fails("RateLimited", 40_000) : says("hello")))
      assert.strictEqual((yield* ask(LlmChain.make([a.shape]))).text, "hello")
      const [first = 0, second = 0] = a.asked.map(({ at }) => at)
      assert.isTrue(second - first >= 40_000 && second - first <= 41_200, `${second - first}`)

      const b = provider("b", () => fails("RateLimited", 120_000))
      const chain = LlmChain.make([b.shape])
      assert.strictEqual((yield* ask(chain)).error?.retryAfterMs, 120_000)
      assert.strictEqual(b.asked.length, 1)
      // It said when to come again: until then nobody asks.
      yield* TestClock.adjust(60_000)
      assert.include((yield* ask(chain)).error?.message, "left alone")
      assert.strictEqual(b.asked.length, 1)
      yield* TestClock.adjust(60_000)
      yield* ask(chain)
      assert.strictEqual(b.asked.length, 2)
    })
  )

  it.effect("what has begun is not asked twice", () =>
    Effect.gen(function* () {
      const beginnings: ReadonlyArray<LlmEvent> = [
        { _tag: "Delta", text: "so far" },
        { _tag: "Reasoning", text: "hm" },
        { _tag: "Call", call: { id: "a", name: "time", arguments: "" } }
      ]
      for (const event of beginnings) {
        const a = provider("a", () => Stream.concat(Stream.make(event), fails("Broken")))
        const b = provider("b", () => says("other"))
        const { error, text } = yield* ask(LlmChain.make([a.shape, b.shape]))
        assert.strictEqual(error?.reason, "Broken")
        assert.notInclude(text, "other")
        assert.deepStrictEqual([a.asked.length, b.asked.length], [1, 0])
      }
    })
  )

  it.effect("interruption in a pause ends it", () =>
    Effect.gen(function* () {
      const a = provider("a", () => fails("Unavailable"))
      const fiber = yield* LlmChain.make([a.shape]).stream(request).pipe(Stream.runDrain, Effect.forkChild)
      yield* TestClock.adjust(100)
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(a.asked.length, 1)
    })
  )
})

describe("several", () => {
  it.effect("the next answers where one fails, and says so", () =>
    Effect.gen(function* () {
      for (const [reason, tries] of [
        ["Unavailable", 3],
        ["Unauthorized", 1],
        ["Refused", 1]
      ] as const) {
        const a = provider("a", () => fails(reason))
        const b = provider("b", () => says("hello"))
        const { done, error, notices, text } = yield* ask(LlmChain.make([a.shape, b.shape]))
        assert.isUndefined(error)
        assert.strictEqual(text, "hello")
        assert.strictEqual(done?.provider, "b")
        assert.strictEqual(a.asked.length, tries)
        assert.deepStrictEqual(notices.slice(-2), [`it is ${reason}`, "b is asked instead"])
      }
    })
  )

  it.effect("a budget is a budget", () =>
    Effect.gen(function* () {
      const a = provider("a", () => fails("OverBudget"))
      const b = provider("b", () => says("hello"))
      assert.strictEqual((yield* ask(LlmChain.make([a.shape, b.shape]))).error?.reason, "OverBudget")
      assert.strictEqual(b.asked.length, 0)
    })
  )

  it.effect("a long Retry-After is not waited for while another stands by", () =>
    Effect.gen(function* () {
      const a = provider("a", () => fails("RateLimited", 15_000))
      const b = provider("b", () => says("hello"))
      assert.strictEqual((yield* ask(LlmChain.make([a.shape, b.shape]))).text, "hello")
      assert.strictEqual(a.asked.length, 1)
    })
  )

  it.effect("all that failed is told", () =>
    Effect.gen(function* () {
      const a = provider("a", () => fails("Unauthorized"))
      const b = provider("b", () => fails("Unavailable"))
      const { error } = yield* ask(LlmChain.make([a.shape, b.shape]))
      assert.strictEqual(error?.reason, "Unauthorized")
      assert.strictEqual(error?.message, "it is Unauthorized; it is Unavailable")
    })
  )

  it.effect("a model is meant for the provider that it names, else for the first", () =>
    Effect.gen(function* () {
      const a = provider("a", () => fails("Refused"))
      const b = provider("b", () => fails("Refused"))
      const chain = LlmChain.make([a.shape, b.shape])
      const models = () => [a, b].map(({ asked }) => asked.map((one) => one.request.model))
      yield* ask(chain, { ...request, model: "big" })
      assert.deepStrictEqual(models(), [["big"], [undefined]])
      yield* ask(chain, { ...request, model: "b/small" })
      assert.deepStrictEqual(models(), [
        ["big", undefined],
        [undefined, "small"]
      ])
      yield* ask(chain, { ...request, model: "meta/llama" })
      assert.deepStrictEqual(models()[0]?.at(-1), "meta/llama")
    })
  )

  it.effect("one that keeps failing is left alone, tried once after a while, and taken again when it answers", () =>
    Effect.gen(function* () {
      let up = false
      const a = provider("a", () => (up ? says("from a") : fails("Unavailable")))
      const b = provider("b", () => says("from b"))
      const chain = LlmChain.make([a.shape, b.shape])
      yield* ask(chain)
      const second = yield* ask(chain)
      assert.strictEqual(a.asked.length, Breaker.FAILURES)
      assert.include(second.notices, "a keeps failing and is left alone for 30 s")
      // Open: not asked.
      const third = yield* ask(chain)
      assert.strictEqual(third.text, "from b")
      assert.strictEqual(a.asked.length, 5)
      assert.deepStrictEqual(third.notices, ["b is asked instead"])
      // Half open: one try, which fails; open for twice as long.
      yield* TestClock.adjust(30_000)
      const fourth = yield* ask(chain)
      assert.strictEqual(a.asked.length, 6)
      assert.strictEqual(fourth.notices[0], "a is tried again")
      assert.include(fourth.notices, "a keeps failing and is left alone for 60 s")
      yield* TestClock.adjust(31_000)
      yield* ask(chain)
      assert.strictEqual(a.asked.length, 6)
      up = true
      yield* TestClock.adjust(30_000)
      const back = yield* ask(chain)
      assert.strictEqual(back.text, "from a")
      assert.deepStrictEqual(back.notices, ["a is tried again", "a answers again"])
      const last = yield* ask(chain)
      assert.strictEqual(last.text, "from a")
      assert.deepStrictEqual(last.notices, [])
      assert.isUndefined(last.done?.provider)
    })
  )
})

describe("a try of what was left alone", () => {
  it.effect("that nobody waits for, at whatever moment, does not keep it from being tried again", () =>
    Effect.gen(function* () {
      let up = false
      const a = provider("a", () => (up ? says("from a") : fails("Unavailable")))
      const chain = LlmChain.make([a.shape])
      yield* ask(chain)
      yield* ask(chain)
      assert.strictEqual(a.asked.length, Breaker.FAILURES)
      yield* TestClock.adjust(Breaker.OPEN_MS)
      up = true
      // Left as soon as it is said that it is tried.
      const said = yield* Stream.runCollect(Stream.take(chain.stream(request), 1))
      assert.deepStrictEqual(said, [{ _tag: "Notice", text: "a is tried again" }])
      yield* TestClock.adjust(Breaker.LONGEST_MS)
      assert.strictEqual((yield* ask(chain)).text, "from a")
    })
  )
})

describe("Breaker", () => {
  it("doubles up to ten minutes", () => {
    const breaker = new Breaker.Breaker()
    let now = 0
    const open: Array<number> = []
    for (let i = 0; i < 12; i++) {
      now += breaker.waitMs(now)
      breaker.begin()
      if (breaker.failed(now) === "opened") open.push(breaker.openMs / 1000)
    }
    assert.deepStrictEqual(open, [30, 60, 120, 240, 480, 600, 600, 600])
    assert.strictEqual(breaker.succeeded(), "closed")
    assert.strictEqual(breaker.waitMs(now), 0)
  })

  it("lets one try through at a time", () => {
    const breaker = new Breaker.Breaker()
    for (let i = 0; i < Breaker.FAILURES; i++) breaker.failed(0)
    assert.strictEqual(breaker.waitMs(30_000), 0)
    breaker.begin()
    assert.isAbove(breaker.waitMs(30_000), 0)
    breaker.left()
    assert.strictEqual(breaker.waitMs(30_000), 0)
  })
})
