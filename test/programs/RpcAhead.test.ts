import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { RPC_WINDOW as WINDOW } from "../../src/domain/protocol/Constants.ts"
import * as RpcStream from "../../src/programs/RpcStream.ts"
import { pair } from "./SealedSupport.ts"

const group = RpcGroup.make(Rpc.make("Count", { payload: { to: Schema.Finite }, success: Schema.Finite, stream: true }))
const LAST = -1

/** A server of `Count`, whose answer ends with `LAST`, and a client that writes and reads lines. */
const served = (use: (line: Line) => Effect.Effect<void>) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { ours, theirs } = pair()
      let given = 0
      let isTaken = false
      const count = ({ to }: { readonly to: number }) =>
        Stream.range(1, to).pipe(
          Stream.rechunk(1),
          Stream.tap(() => Effect.sync(() => given++)),
          Stream.concat(Stream.succeed(LAST)),
          Stream.concat(Stream.fromEffectDrain(Effect.sync(() => (isTaken = true))))
        )
      yield* Effect.forkScoped(
        Effect.provide(
          RpcStream.serve(group, theirs, { isLast: (item) => item === LAST }),
          group.toLayer({ Count: count })
        )
      )
      const say = (message: object) => ours.write(new TextEncoder().encode(`${JSON.stringify(message)}\n`))
      const messages: Array<{ readonly _tag: string; readonly values?: ReadonlyArray<number> }> = []
      yield* Effect.forkScoped(
        Effect.forever(
          Effect.map(ours.read, (chunks) => {
            for (const line of Buffer.concat(chunks).toString().split("\n"))
              if (line !== "") messages.push(JSON.parse(line))
          })
        )
      )
      const settle = Effect.repeat(Effect.yieldNow, { times: 2000 })
      yield* use({
        ask: (to) => Effect.orDie(say({ _tag: "Request", id: 1, tag: "Count", payload: { to }, headers: [] })),
        ack: (times) =>
          Effect.repeat(Effect.orDie(say({ _tag: "Ack", requestId: 1 })), { times: times - 1 }).pipe(
            Effect.andThen(settle)
          ),
        settle,
        values: () => messages.flatMap(({ values }) => values ?? []),
        isOver: () => messages.some(({ _tag }) => _tag === "Exit"),
        given: () => given,
        isTaken: () => isTaken
      })
    })
  )

interface Line {
  readonly ask: (to: number) => Effect.Effect<void>
  readonly ack: (times: number) => Effect.Effect<void>
  readonly settle: Effect.Effect<void>
  readonly values: () => ReadonlyArray<number>
  readonly isOver: () => boolean
  readonly given: () => number
  readonly isTaken: () => boolean
}

describe("an answer that runs ahead", () => {
  it.effect("sends a window of messages to a client that says nothing, and one more for each that it takes", () =>
    served(({ ack, ask, given, settle, values }) =>
      Effect.gen(function* () {
        yield* Effect.andThen(ask(1000), settle)
        assert.strictEqual(values().length, WINDOW)
        yield* ack(1)
        assert.strictEqual(values().length, WINDOW + 1)
        yield* ack(5)
        assert.strictEqual(values().length, WINDOW + 6)
        assert.isAtMost(given(), WINDOW + 7)
      })
    )
  )

  it.effect("goes on behind its last item only when all of it was taken, however often a client says so", () =>
    served(({ ack, ask, isOver, isTaken, settle, values }) =>
      Effect.gen(function* () {
        yield* Effect.andThen(ack(100), ask(3))
        yield* settle
        assert.deepStrictEqual(values(), [1, 2, 3, LAST])
        yield* ack(3)
        assert.isFalse(isTaken())
        assert.isFalse(isOver())
        yield* ack(1)
        assert.isTrue(isTaken())
        assert.isTrue(isOver())
      })
    )
  )

  it.effect("comes whole and in order over any line", () =>
    served(({ ack, ask, isOver, settle, values }) =>
      Effect.gen(function* () {
        yield* Effect.andThen(ask(200), settle)
        for (let taken = 0; taken <= 200; taken += 7) yield* ack(7)
        assert.deepStrictEqual(values(), [...Array.from({ length: 200 }, (_, i) => i + 1), LAST])
        assert.isTrue(isOver())
      })
    )
  )
})
