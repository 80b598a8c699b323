/**
 * How long small messages take under loss, on a path of 25 ms each way, over whole sessions in virtual time. What the
 * copies of `Redundancy.ts` are worth, in ms (BBR, 2500 messages; "5 b20": 5 %, in bursts of 20 ms):
 *
 *                                   without                   with                      more
 *     loss, %                       p95    p99   p99.9        p95    p99   p99.9        packets
 *     64-184 bytes every 50-200 ms
 *       1                            25     25     101         25     25     101         31 %
 *       5                            75    138     213         35     35     135         49 %
 *       10                          101    153     280         35    110     172         49 %
 *       20                          202    353     525         75    161     250         45 %
 *       5 b20                       101    137     255         35    121     220         50 %
 *     64-184 bytes every 5-35 ms
 *       1                            25     83     108         25     35      97         67 %
 *       5                            87    131     168         35     35     105         68 %
 *       20                          180    270     384         87    124     180         58 %
 *       5 b20                        88    144     197         71    113     147         71 %
 *     request and answer, 64-600 bytes each
 *       1                            50    126     126         50     60     126         56 %
 *       5                           126    126     202         60     60     146         62 %
 *       20                          252    414     901        136    156     414         45 %
 *     2400 bytes at once
 *       1                            25    101     101         25     35     101         75 %
 *       5                           101    151     253         35     81     110         84 %
 *       20                          253    405     805         91    161     314         57 %
 */
import { assert, describe, it } from "@effect/vitest"
import type { Session } from "../../src/domain/protocol/Session.ts"
import type { SessionEvent } from "../../src/domain/protocol/SessionTypes.ts"
import { Priority } from "../../src/domain/protocol/Streams.ts"
import { chance, Pair, type Side } from "./Pair.ts"

const ONE_WAY = 25

interface Work {
  readonly count: number
  /** Milliseconds to the next message, at least and at most. */
  readonly gap: readonly [number, number]
  readonly size: readonly [number, number]
  /** Whether the server answers each with as many bytes; then the answer's arrival counts. */
  readonly answered: boolean
}

const KEYS: Work = { count: 1500, gap: [50, 200], size: [64, 184], answered: false }
const TOKENS: Work = { count: 1500, gap: [5, 35], size: [64, 184], answered: false }
const REQUESTS: Work = { count: 1000, gap: [300, 400], size: [64, 600], answered: true }

interface Outcome {
  readonly p50: number
  readonly p95: number
  readonly p99: number
  readonly max: number
  readonly packets: number
}

/** Sends all messages on one stream; milliseconds from writing to reading. */
const run = (work: Work, loss: number): Outcome => {
  const pair = new Pair({ seed: "small messages", fate: () => [ONE_WAY] })
  const { client } = pair.connect()
  const id = pair.command("client", client, (session) => session.openStream(Priority.Interactive))
  if (id === undefined) throw new Error("no stream")
  const lost = chance(`lost ${loss}`)
  pair.fate = () => (lost() < loss ? [] : [ONE_WAY])

  const waiting: Array<{ readonly end: number; readonly at: number; readonly size: number }> = []
  const took: Array<number> = []
  let echoed = 0
  let arrived = 0
  pair.onSession = (side: Side, session: Session, event: SessionEvent) => {
    if (event.type !== "StreamReadable") return
    for (let read = session.read(id); read instanceof Uint8Array; read = session.read(id)) {
      if (side === "server" && work.answered) session.write(id, Uint8Array.from(read))
      if (side === "server") arrived += read.length
      else echoed += read.length
    }
    const seen = work.answered ? echoed : arrived
    while (waiting[0] !== undefined && waiting[0].end <= seen) took.push(pair.now - (waiting.shift()?.at ?? 0))
  }

  const draw = chance("messages")
  const between = ([low, high]: readonly [number, number]): number => low + Math.floor(draw() * (high - low))
  const from = pair.wire.length
  let end = 0
  for (let i = 0; i < work.count; i++) {
    const size = between(work.size)
    end += size
    waiting.push({ end, at: pair.now, size })
    pair.command("client", client, (session) => session.write(id, new Uint8Array(size)))
    pair.pass(between(work.gap))
  }
  pair.pass(5000)
  assert.strictEqual(took.length, work.count)
  took.sort((a, b) => a - b)
  const at = (share: number): number => took[Math.floor(share * (took.length - 1))] ?? Number.NaN
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1), packets: pair.wire.length - from }
}

describe("small messages", () => {
  for (const [name, work, way, limits] of [
    ["keystrokes", KEYS, ONE_WAY, { 0.02: [30, 60], 0.05: [40, 110], 0.1: [60, 150], 0.2: [120, 240] }],
    ["tokens", TOKENS, ONE_WAY, { 0.02: [40, 80], 0.05: [50, 110] }],
    ["requests", REQUESTS, 2 * ONE_WAY, { 0.05: [70, 137], 0.1: [137, 150] }]
  ] as const) {
    it(`${name}: a loss costs a moment, not a probe timeout`, () => {
      const clean = run(work, 0)
      assert.deepStrictEqual([clean.p50, clean.max], [way, way])
      for (const [loss, [p95, p99]] of Object.entries(limits)) {
        const outcome = run(work, Number(loss))
        const told = `${name}, loss ${loss}: ${JSON.stringify(outcome)}`
        assert.isAtMost(outcome.p50, way + 3, told)
        assert.isAtMost(outcome.p95, p95, told)
        assert.isAtMost(outcome.p99, p99, told)
        assert.isAtMost(outcome.packets, 2.5 * clean.packets, told)
      }
    })
  }
})
