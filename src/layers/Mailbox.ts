/** An unbounded queue filled from plain code and taken from Effects, one taker at a time. Its filler keeps it bounded. */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

export class Mailbox<A, E> {
  readonly #items: Array<A> = []
  readonly #latch = Latch.makeUnsafe(false)
  readonly #capacity: number
  #failure: { readonly error: E } | undefined

  /** Beyond `capacity` the oldest item goes. */
  constructor(capacity = Number.POSITIVE_INFINITY) {
    this.#capacity = capacity
  }

  offerUnsafe(item: A): void {
    if (this.#failure !== undefined) return
    this.#items.push(item)
    if (this.#items.length > this.#capacity) this.#items.shift()
    this.#latch.openUnsafe()
  }

  /** Takes out what nobody wants any more. */
  dropUnsafe(isOver: (item: A) => boolean): void {
    const at = this.#items.findIndex(isOver)
    if (at >= 0) this.#items.splice(at, 1)
  }

  /** What is in it can still be taken; after that takers fail. */
  failUnsafe(error: E): void {
    this.#failure ??= { error }
    this.#latch.openUnsafe()
  }

  readonly take: Effect.Effect<A, E> = Effect.suspend((): Effect.Effect<A, E> => {
    const item = this.#items.shift()
    if (item !== undefined) return Effect.succeed(item)
    if (this.#failure !== undefined) return Effect.fail(this.#failure.error)
    this.#latch.closeUnsafe()
    return Effect.andThen(this.#latch.await, this.take)
  })
}
