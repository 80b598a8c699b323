import * as fs from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { MAX_PACKET_NUMBER, REPLAY_WINDOW } from "../../src/domain/protocol/Constants.ts"
import { ReplayWindow } from "../../src/domain/protocol/ReplayWindow.ts"

/** The obvious window: remembers every number. */
class SlowWindow {
  readonly seen = new Set<number>()
  highest = -1

  accept(packetNumber: number): boolean {
    if (packetNumber > MAX_PACKET_NUMBER) return false
    if (packetNumber < this.highest - REPLAY_WINDOW || this.seen.has(packetNumber)) return false
    this.seen.add(packetNumber)
    this.highest = Math.max(this.highest, packetNumber)
    return true
  }
}

const accept = (window: ReplayWindow, packetNumber: number): boolean => {
  const fresh = window.check(packetNumber)
  if (fresh) window.commit(packetNumber)
  return fresh
}

/** Jumps that hug the edges of words, of the window and of the ring. */
const moves = fc.array(
  fc.oneof(
    fc.integer({ min: -40, max: 40 }),
    fc.integer({ min: -REPLAY_WINDOW - 40, max: REPLAY_WINDOW + 40 }),
    fc.constantFrom(1, 31, 32, 33, REPLAY_WINDOW, REPLAY_WINDOW + 1, -REPLAY_WINDOW, -REPLAY_WINDOW - 1),
    fc.constantFrom(2 * REPLAY_WINDOW - 32, 2 * REPLAY_WINDOW, 2 * REPLAY_WINDOW + 32, 2 ** 32, 2 ** 45)
  ),
  { maxLength: 60 }
)

interface Vectors {
  readonly main: ReadonlyArray<readonly [string, number]>
  readonly bulk: ReadonlyArray<{
    readonly name: string
    readonly ranges: ReadonlyArray<readonly [string, string, number]>
    readonly then: ReadonlyArray<readonly [string, number]>
  }>
}

const file = path.resolve(import.meta.dirname, "../../../shared/vectors/replay/wireguard_replay_window.json")
const present = fs.existsSync(file)

/** Sums and products of `W`, `L`, `R` and numbers, with one level of parentheses. */
const evaluate = (expression: string): number => {
  const names = new Map([
    ["W", REPLAY_WINDOW],
    ["L", REPLAY_WINDOW + 1],
    ["R", MAX_PACKET_NUMBER + 1]
  ])
  const flat = expression.replace(/\(([^()]*)\)/g, (_, inner: string) => String(evaluate(inner)))
  let sum = 0
  for (const [, sign, term] of flat.matchAll(/([+-]?)([^+-]+)/g)) {
    const product = (term ?? "").split("*").reduce((value, factor) => value * (names.get(factor) ?? Number(factor)), 1)
    sum += sign === "-" ? -product : product
  }
  return sum
}

describe("ReplayWindow", () => {
  it("admits what the slow window admits", () => {
    fc.assert(
      fc.property(fc.constantFrom(0, 5, 2 ** 32 - 100, 2 ** 45), moves, (start, script) => {
        const fast = new ReplayWindow()
        const slow = new SlowWindow()
        let at = start
        for (const move of script) {
          const packetNumber = Math.max(0, at + move)
          assert.strictEqual(accept(fast, packetNumber), slow.accept(packetNumber), `packet ${packetNumber}`)
          assert.strictEqual(fast.highest, slow.highest)
          if (packetNumber <= MAX_PACKET_NUMBER) at = packetNumber
        }
      }),
      { seed: 6479, numRuns: 2000 }
    )
  })

  it("leaves no bit of an earlier round in the ring", () => {
    for (const stride of [1, 2, 31, 32, 33, 63, 64, 100, 1000, REPLAY_WINDOW - 1, REPLAY_WINDOW, REPLAY_WINDOW + 1]) {
      const fast = new ReplayWindow()
      const slow = new SlowWindow()
      const end = 6 * REPLAY_WINDOW
      for (let packetNumber = 0; packetNumber < end; packetNumber += stride) {
        assert.strictEqual(accept(fast, packetNumber), slow.accept(packetNumber))
      }
      for (let packetNumber = slow.highest - REPLAY_WINDOW; packetNumber <= slow.highest; packetNumber++) {
        assert.strictEqual(fast.check(packetNumber), !slow.seen.has(packetNumber), `stride ${stride}: ${packetNumber}`)
      }
    }
  })

  it("finds every number free that a full ring held a round before", () => {
    for (const jump of [1, 32, 33, 1000, REPLAY_WINDOW]) {
      const window = new ReplayWindow()
      const full = 4 * REPLAY_WINDOW
      for (let packetNumber = 0; packetNumber < full; packetNumber++) window.commit(packetNumber)
      let highest = full - 1
      for (let round = 0; round < 5; round++) {
        for (let n = highest + 1; n <= highest + jump; n++) assert.isTrue(window.check(n))
        const before = highest
        highest += jump
        window.commit(highest)
        for (let n = before + 1; n < highest; n++) assert.isTrue(window.check(n), `jump ${jump}: ${n}`)
        assert.isFalse(window.check(highest))
        assert.isFalse(window.check(before))
      }
    }
  })

  it("admits each number of a shuffled window once", () => {
    const window = new ReplayWindow()
    window.commit(3 * REPLAY_WINDOW)
    const low = 2 * REPLAY_WINDOW
    for (let i = 0; i < REPLAY_WINDOW; i++) {
      // 5 is coprime to the window's width, so this visits every number once.
      const packetNumber = low + ((i * 5) % REPLAY_WINDOW)
      assert.isTrue(accept(window, packetNumber))
    }
    for (let i = 0; i <= REPLAY_WINDOW; i++) assert.isFalse(window.check(low + i))
    assert.isFalse(window.check(low - 1))
  })

  it("is not moved by check", () => {
    const window = new ReplayWindow()
    window.commit(1)
    assert.isTrue(window.check(2 ** 40))
    assert.isTrue(window.check(2 ** 40))
    assert.strictEqual(window.highest, 1)
    assert.isTrue(window.check(0))
  })

  it("refuses numbers beyond the limit and behind the window, whatever is committed", () => {
    const window = new ReplayWindow()
    assert.isFalse(window.check(MAX_PACKET_NUMBER + 1))
    window.commit(MAX_PACKET_NUMBER + 1)
    assert.strictEqual(window.highest, -1)
    assert.isFalse(window.check(-1))
    window.commit(MAX_PACKET_NUMBER)
    assert.isFalse(window.check(MAX_PACKET_NUMBER))
    assert.isTrue(window.check(MAX_PACKET_NUMBER - REPLAY_WINDOW))
    assert.isFalse(window.check(MAX_PACKET_NUMBER - REPLAY_WINDOW - 1))
    window.commit(0)
    assert.isFalse(window.check(0))
    assert.strictEqual(window.highest, MAX_PACKET_NUMBER)
  })
})

describe.skipIf(!present)(
  `ReplayWindow on WireGuard's vectors${present ? "" : " (skipped: ../shared/vectors is not here)"}`,
  () => {
    const load = (): Vectors => JSON.parse(fs.readFileSync(file, "utf8"))

    it("gives every expected answer", () => {
      const { bulk, main } = load()
      const single = new ReplayWindow()
      for (const [expression, accepted] of main) {
        assert.strictEqual(accept(single, evaluate(expression)), accepted === 1, `main ${expression}`)
      }
      assert.strictEqual(main.length, 34)
      for (const { name, ranges, then } of bulk) {
        const window = new ReplayWindow()
        for (const [from, to, accepted] of ranges) {
          const first = evaluate(from)
          const last = evaluate(to)
          const step = first <= last ? 1 : -1
          for (let n = first; n !== last + step; n += step) {
            assert.strictEqual(accept(window, n), accepted === 1, `${name} ${n}`)
          }
        }
        for (const [expression, accepted] of then) {
          assert.strictEqual(accept(window, evaluate(expression)), accepted === 1, `${name} then ${expression}`)
        }
      }
      assert.strictEqual(bulk.length, 6)
    })
  }
)
