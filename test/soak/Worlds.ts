/**
 * Explored worlds, one after the other, for as long as told. Prints a line for every hundred, and stops at the first that
 * fails, with its seed and as little of its weather as it takes.
 */
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { outcomeOf } from "../explorer/Shrink.ts"

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

/** Whether all went well. */
export const live = async (minutes: number, first: number): Promise<boolean> => {
  const until = performance.now() + minutes * 60_000
  let packets = 0
  let questions = 0
  let longest = 0
  let seed = first
  const report = (): void =>
    print(
      `${seed - first} worlds from seed ${first}: ${questions} questions, ${packets} packets, healed within ${longest} ms`
    )
  for (; performance.now() < until; seed++) {
    const outcome = await Effect.runPromise(outcomeOf(seed).pipe(Effect.scoped, Effect.provide(TestClock.layer())))
    if (typeof outcome === "string") {
      print(outcome)
      return false
    }
    packets += outcome.packets
    questions += outcome.questions
    longest = Math.max(longest, outcome.healMs)
    if ((seed - first) % 100 === 99) report()
  }
  report()
  return true
}
