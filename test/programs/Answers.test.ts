/** The server's side of answer files, on a listener that only counts. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as AnswerFile from "../../src/domain/AnswerFile.ts"
import { type Address, format } from "../../src/domain/protocol/Address.ts"
import type { Admission } from "../../src/domain/protocol/Credential.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as Answers from "../../src/programs/Answers.ts"
import type { Crypto } from "../../src/services/Crypto.ts"

const NOW = Date.UTC(2026, 2, 1)
const PORT = { host: "0.0.0.0", port: 50_000 }
const admissionOf = (n: number, validUntil: number): Admission => ({
  id: new Uint8Array(16).fill(n),
  psk: new Uint8Array(32).fill(n),
  slot: NOW,
  staticKey: undefined,
  validUntil
})
const LIVE = admissionOf(1, NOW + 600_000)
const EXPIRED = admissionOf(2, NOW - 1)
const STRANGER = admissionOf(3, NOW + 600_000)

let made = 0
const lineOf = (
  candidates: ReadonlyArray<Address> = [{ host: "203.0.113.9", port: 40_000 }],
  { by = LIVE, madeAt = NOW }: { by?: Admission; madeAt?: number } = {}
) => {
  const nonce = new Uint8Array(12)
  nonce[0] = ++made
  return AnswerFile.seal(CryptoNode.primitives, by.psk, nonce, { credentialId: by.id, madeAt, candidates })
}

const desk = Effect.fnUntraced(function* (hosts: ReadonlyArray<string> = ["10.0.0.7"], port: Address = PORT) {
  yield* TestClock.setTime(NOW)
  const sent: Array<{ readonly to: string; readonly bytes: Uint8Array }> = []
  const record: Array<Answers.Taken> = []
  const answers = yield* Answers.make({
    listener: {
      hosts: Effect.succeed(hosts),
      punch: (addresses, bytes) =>
        Effect.sync(() => {
          for (const address of addresses) sent.push({ to: format(address), bytes: Uint8Array.from(bytes) })
        })
    },
    port: Effect.succeed(port),
    admissions: Stream.make([EXPIRED, LIVE]),
    taken: (taken) => Effect.sync(() => record.push(taken))
  })
  return { answers, sent, record }
})

const refused = (answers: Answers.Answers, line: string) =>
  Effect.map(Effect.flip(answers.take(line)), ({ message, reason }) => {
    assert.notInclude(message, "\n")
    return reason
  })

const test = <E>(name: string, run: () => Effect.Effect<void, E, never>) => it.effect(name, run)
const scoped = <A, E>(effect: Effect.Effect<A, E, Scope | Crypto>) =>
  effect.pipe(Effect.scoped, Effect.provide(CryptoNode.layerSeeded("answers")))

describe("Answers", () => {
  test("sends thirty datagrams of 48 random bytes to each candidate, and no more", () =>
    scoped(
      Effect.gen(function* () {
        const { answers, record, sent } = yield* desk()
        const candidates = [
          { host: "203.0.113.9", port: 40_000 },
          { host: "192.168.1.4", port: 40_001 },
          { host: "203.0.113.9", port: 40_000 }
        ]
        const taken = yield* answers.take(lineOf(candidates))
        assert.deepStrictEqual(taken, {
          credential: "01".repeat(16),
          candidates: candidates.slice(0, 2),
          durationMs: 15_000
        })
        assert.deepStrictEqual(record, [taken])
        assert.lengthOf(sent, 2)
        yield* TestClock.adjust("10 minutes")
        assert.lengthOf(sent, 2 * 30)
        for (const address of taken.candidates) {
          assert.lengthOf(
            sent.filter(({ to }) => to === format(address)),
            30
          )
        }
        assert.isTrue(sent.every(({ bytes }) => bytes.length === 48))
        assert.strictEqual(new Set(sent.map(({ bytes }) => Buffer.from(bytes).toString("hex"))).size, 60)
      })
    ))

  test("takes each file once, and forgets it only when it has expired", () =>
    scoped(
      Effect.gen(function* () {
        const { answers, record } = yield* desk()
        const line = lineOf()
        yield* answers.take(line)
        assert.strictEqual(yield* refused(answers, ` ${line}\n`), "Used")
        yield* TestClock.adjust("5 minutes")
        assert.strictEqual(yield* refused(answers, line), "Used")
        yield* TestClock.adjust("31 seconds")
        assert.strictEqual(yield* refused(answers, line), "Expired")
        assert.lengthOf(record, 1)
      })
    ))

  test("refuses what is none, what does not open, and what is not of now, without a datagram", () =>
    scoped(
      Effect.gen(function* () {
        const { answers, record, sent } = yield* desk()
        const line = lineOf()
        assert.strictEqual(yield* refused(answers, "hello"), "NotAnAnswer")
        assert.strictEqual(yield* refused(answers, ""), "NotAnAnswer")
        assert.strictEqual(yield* refused(answers, line.slice(0, -1)), "NotAnAnswer")
        assert.strictEqual(yield* refused(answers, `${line.slice(0, -1)}${line.endsWith("A") ? "B" : "A"}`), "Sealed")
        assert.strictEqual(yield* refused(answers, lineOf(undefined, { by: EXPIRED })), "Sealed")
        assert.strictEqual(yield* refused(answers, lineOf(undefined, { by: STRANGER })), "Sealed")
        assert.strictEqual(yield* refused(answers, lineOf(undefined, { madeAt: NOW - 330_001 })), "Expired")
        assert.strictEqual(yield* refused(answers, lineOf(undefined, { madeAt: NOW + 30_001 })), "NotYetValid")
        assert.deepStrictEqual([sent.length, record.length], [0, 0])
      })
    ))

  test("refuses addresses that no device has: loopback, multicast, none at all, the server's own", () =>
    scoped(
      Effect.gen(function* () {
        const { answers, sent } = yield* desk()
        for (const host of ["127.0.0.1", "::1", "224.0.0.251", "ff02::fb", "0.0.0.0", "255.255.255.255"]) {
          const candidates = [
            { host: "203.0.113.9", port: 40_000 },
            { host, port: 53 }
          ]
          assert.strictEqual(yield* refused(answers, lineOf(candidates)), "Forbidden", host)
        }
        assert.strictEqual(yield* refused(answers, lineOf([{ host: "10.0.0.7", port: 50_000 }])), "Forbidden")
        assert.lengthOf(sent, 0)
        // Another port of this host is a device on this host.
        yield* answers.take(lineOf([{ host: "10.0.0.7", port: 50_001 }]))
        assert.lengthOf(sent, 1)
      })
    ))

  test("a server on loopback has devices on loopback", () =>
    scoped(
      Effect.gen(function* () {
        const { answers } = yield* desk(["127.0.0.1"], { host: "127.0.0.1", port: 50_000 })
        yield* answers.take(lineOf([{ host: "127.0.0.1", port: 40_000 }]))
        assert.strictEqual(yield* refused(answers, lineOf([{ host: "127.0.0.1", port: 50_000 }])), "Forbidden")
      })
    ))

  test("punches for four at a time", () =>
    scoped(
      Effect.gen(function* () {
        const { answers, sent } = yield* desk()
        const late = lineOf()
        for (let n = 0; n < 4; n++) yield* answers.take(lineOf())
        assert.strictEqual(yield* refused(answers, late), "Busy")
        yield* TestClock.adjust("15 seconds")
        assert.lengthOf(sent, 4 * 30)
        yield* answers.take(late)
      })
    ))
})
