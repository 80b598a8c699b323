import { randomBytes } from "node:crypto"
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { CloseCode } from "../../src/domain/protocol/CloseCode.ts"
import type { Limits } from "../../src/domain/protocol/Limits.ts"
import * as StreamHeader from "../../src/domain/StreamHeader.ts"
import * as Network from "../../src/programs/cli/Layers.ts"
import { type Attacker, attack, sealedSession } from "./Attacker.ts"
import { connect, device, echo, say, World, world } from "./Tiers.ts"

const environment = Layer.merge(world(), Network.network)

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const line = (value: unknown): Uint8Array => bytes(`${JSON.stringify(value)}\n`)
const request = (id: unknown, tag: unknown, payload: unknown, more: object = {}) =>
  line({ _tag: "Request", id, tag, payload, headers: [], ...more })

/** Takes no stream's bytes. */
const DEAF: Limits = { maxData: 0, maxStreamData: 0, maxStreams: 0, idleTimeoutMs: 60_000, maxDatagram: 65_507 }

const linux = process.platform === "linux"

describe.skipIf(!linux)(
  linux ? "a device without manners" : "a device without manners (skipped: /proc is not here)",
  () => {
    layer(environment, { excludeTestServices: true, timeout: "60 seconds" })("below the streams", (it) => {
      /** Both tiers go on as if nothing had happened, and another device is served. */
      const unaffected = (name: string) =>
        Effect.scoped(
          Effect.gen(function* () {
            const { llm, server } = yield* World
            const session = yield* connect(yield* device(name))
            assert.strictEqual(yield* echo(session, "well"), "well")
            assert.include(yield* say(session, "hello"), " ")
            for (const tier of [server(), llm]) {
              assert.isTrue(tier.alive)
              assert.deepEqual(tier.mishaps, [])
            }
          })
        )

      it.effect("loses its session for the 65th stream, for bytes beyond the limits, and for lies", () =>
        Effect.gen(function* () {
          const { port } = yield* World
          const home = yield* device("limits")
          const data = Uint8Array.of(StreamHeader.SERVER)
          // The windows of a stream and of the session before they grow; they double once.
          const far = 8 * 1024 * 1024
          const cases: ReadonlyArray<readonly [number, (attacker: Attacker) => void]> = [
            [CloseCode.StreamLimit, (a) => a.send({ type: "Stream", id: 128, offset: 0, data, fin: false })],
            [CloseCode.FlowControl, (a) => a.send({ type: "Stream", id: 0, offset: far, data, fin: false })],
            [
              CloseCode.FlowControl,
              (a) => {
                for (const id of [0, 2, 4, 6, 8]) a.send({ type: "Stream", id, offset: far - 1, data, fin: false })
              }
            ],
            [CloseCode.Protocol, (a) => a.send({ type: "Ack", ranges: [{ start: 1000, end: 1000 }], delayUs: 0 })],
            [CloseCode.Protocol, (a) => a.raw(a.plaintext(Uint8Array.from(randomBytes(64)).fill(0xee, 0, 1)))],
            [
              CloseCode.FinalSize,
              (a) => {
                a.send({ type: "Stream", id: 0, offset: 0, data, fin: true })
                a.send({ type: "Reset", id: 0, code: 0, finalSize: 9 })
              }
            ]
          ]
          for (const [code, misbehave] of cases) {
            const attacker = yield* attack(home, port)
            misbehave(attacker)
            yield* attacker.closed
            assert.strictEqual(attacker.closeCode, code)
          }
          yield* unaffected("limits-witness")
        })
      )

      it.effect("gains nothing by 10,000 streams that are opened and reset, and is still served", () =>
        Effect.gen(function* () {
          const { port, server } = yield* World
          const attacker = yield* attack(yield* device("resets"), port)
          const resets = (from: number, count: number) =>
            Effect.gen(function* () {
              for (let i = from; i < from + count; i++) {
                attacker.send(
                  { type: "Stream", id: 2 * i, offset: 0, data: Uint8Array.of(StreamHeader.SERVER), fin: false },
                  { type: "Reset", id: 2 * i, code: 7, finalSize: 1 }
                )
                if (i % 16 === 15) {
                  yield* attacker.flush
                  yield* attacker.until("room for more streams", () => attacker.maxStreams > i + 17)
                }
              }
            })
          // The heap of a young process grows for a while whatever it does.
          yield* resets(0, 24_000)
          const before = server().rssKib
          yield* resets(24_000, 10_000)
          assert.isBelow(server().rssKib - before, 40 * 1024)
          const id = 2 * 34_000
          attacker.write(id, 0, Uint8Array.of(StreamHeader.SERVER))
          attacker.write(id, 1, request("1", "Control.Echo", { data: "still here" }))
          yield* attacker.until("an answer", () => attacker.text(id).includes("still here"))
          yield* unaffected("resets-witness")
        })
      )

      it.effect("is served though its bytes come one by one, last first, and keeps nothing when they never end", () =>
        Effect.gen(function* () {
          const { port, server } = yield* World
          const attacker = yield* attack(yield* device("bytewise"), port)
          const text = Buffer.concat([
            Buffer.of(StreamHeader.SERVER),
            request("1", "Control.Echo", { data: "bit by bit" })
          ])
          for (let at = text.length - 1; at >= 0; at--) {
            attacker.send({ type: "Stream", id: 0, offset: at, data: text.subarray(at, at + 1), fin: false })
          }
          yield* attacker.until("an answer", () => attacker.text(0).includes("bit by bit"))
          const before = server().rssKib
          // Every other byte of a stream: the most gaps there can be.
          for (let at = 0; at < 60_000; at++) {
            attacker.send({ type: "Stream", id: 2, offset: 2 * at + 1, data: Uint8Array.of(1), fin: false })
            if (at % 64 === 63) yield* attacker.flush
            if (attacker.closeCode !== undefined) break
          }
          assert.isBelow(server().rssKib - before, 40 * 1024)
          yield* unaffected("bytewise-witness")
        })
      )

      it.effect("cannot make the server hold answers that it does not read", () =>
        Effect.gen(function* () {
          const { port, server } = yield* World
          const attacker = yield* attack(yield* device("deaf"), port, DEAF)
          attacker.write(0, 0, Uint8Array.of(StreamHeader.SERVER))
          const before = server().rssKib
          let count = 0
          const data = "y".repeat(4000)
          const taken = yield* attacker.pour(0, 1, () =>
            count++ < 30_000 ? request(String(count), "Control.Echo", { data }) : undefined
          )
          // What is read and not answered yet, and the stream's window behind it.
          assert.isBelow(taken, 16 * 1024 * 1024)
          assert.isBelow(server().rssKib - before, 40 * 1024)
          yield* unaffected("deaf-witness")
        })
      )

      it.effect("cannot pile up requests that never end", () =>
        Effect.gen(function* () {
          const { port, server } = yield* World
          const attacker = yield* attack(yield* device("piling"), port)
          for (const [id, more] of [
            [0, {}],
            [2, { isNotification: true }],
            [4, { discard: true }]
          ] as const) {
            attacker.write(id, 0, Uint8Array.of(StreamHeader.SERVER))
            const before = server().rssKib
            let count = 0
            const taken = yield* attacker.pour(id, 1, () =>
              count++ < 20_000 ? request(String(count), "Control.Watch", null, more) : undefined
            )
            assert.isBelow(taken, 200_000)
            assert.isTrue(attacker.stopped.has(id))
            assert.isBelow(server().rssKib - before, 40 * 1024)
          }
          yield* unaffected("piling-witness")
        })
      )

      it.effect("cannot use up the line to the assistant", () =>
        Effect.gen(function* () {
          const { port } = yield* World
          const attacker = yield* attack(yield* device("hogging"), port)
          for (let i = 0; i < 64; i++) attacker.write(2 * i, 0, StreamHeader.llm())
          yield* attacker.flush
          yield* unaffected("hogging-witness")
        })
      )

      it.effect("cannot stop the assistant's answers to others by not reading its own", () =>
        Effect.gen(function* () {
          const { llm, port, server } = yield* World
          const home = yield* device("clogging")
          const session = yield* sealedSession(home, port)
          const attacker = yield* attack(home, port, DEAF)
          const before = [server().rssKib, llm.rssKib]
          // A question of 200 kB in the transcript, and its history again and again.
          for (let i = 0; i < 8; i++) {
            const id = 2 * i
            const { offset, seal } = attacker.resume(id, session, 1 + i)
            let count = 0
            yield* attacker.pour(id, offset, () => {
              if (count++ >= 64) return undefined
              const messageId = `00000000-0000-4000-8000-${(1000 * i + count).toString().padStart(12, "0")}`
              return seal(
                count <= 8
                  ? request(String(count), "Chat.Send", { conversation: "big", messageId, text: "z".repeat(200_000) })
                  : request(String(count), "Chat.History", { conversation: "big", limit: 500 })
              )
            })
          }
          yield* attacker.flush
          // Eight answers of a mebibyte on each of eight streams, and the work of making them and of keeping the questions.
          for (const [i, tier] of [server(), llm].entries()) {
            assert.isBelow(tier.rssKib - (before[i] ?? 0), 256 * 1024)
          }
          yield* unaffected("clogging-witness")
        })
      )

      // Last: nothing runs after it.
      it.effect("cannot keep the server from ending when it is told to", () =>
        Effect.gen(function* () {
          const { llm, port, server } = yield* World
          const home = yield* device("clinging")
          const session = yield* sealedSession(home, port)
          const attacker = yield* attack(home, port, DEAF)
          const plain = { offset: attacker.write(0, 0, StreamHeader.server()), seal: (bytes: Uint8Array) => bytes }
          for (const [id, { offset, seal }, tag, payload] of [
            [0, plain, "Control.Echo", { data: "y".repeat(4000) }],
            [2, attacker.resume(2, session, 1), "Chat.History", { conversation: "big", limit: 500 }]
          ] as const) {
            let count = 0
            yield* attacker.pour(id, offset, () =>
              count++ < 2000 ? seal(request(String(count), tag, payload)) : undefined
            )
          }
          // The attacker is alive and acknowledges, so who waited for it to read would wait for ever.
          yield* server().end("SIGTERM")
          yield* llm.end("SIGTERM")
          assert.strictEqual(server().child.exitCode, 0)
          assert.strictEqual(llm.child.exitCode, 0)
        })
      )
    })
  }
)
