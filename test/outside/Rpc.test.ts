import { randomBytes } from "node:crypto"
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as StreamHeader from "../../src/domain/StreamHeader.ts"
import * as Network from "../../src/programs/cli/Layers.ts"
import { attack, sealedSession } from "./Attacker.ts"
import { connect, device, echo, say, World, world } from "./Tiers.ts"

const environment = Layer.merge(world(), Network.network)

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const request = (more: object): Uint8Array =>
  bytes(
    `${JSON.stringify({ _tag: "Request", id: "1", tag: "Control.Echo", payload: { data: "x" }, headers: [], ...more })}\n`
  )
const MIB = 1024 * 1024

const deep = (depth: number): string => "[".repeat(depth) + "]".repeat(depth)

/** What may come after a stream's header, by name. */
const NONSENSE: Readonly<Record<string, Uint8Array>> = {
  nothing: new Uint8Array(0),
  random: Uint8Array.from(randomBytes(100_000)),
  randomLines: Uint8Array.from(randomBytes(100_000), (byte, i) => (i % 50 === 0 ? 0x0a : byte)),
  zeros: new Uint8Array(100_000),
  newlines: new Uint8Array(100_000).fill(0x0a),
  brokenUtf8: Buffer.concat([Buffer.from([0xc3, 0x28, 0xff, 0xfe]), bytes("\n")]),
  noNewline: new Uint8Array(20 * MIB).fill(0x61),
  longString: Buffer.concat([bytes('"'), new Uint8Array(20 * MIB).fill(0x61), bytes('"\n')]),
  deepArray: bytes(`${deep(500_000)}\n`),
  deepPayload: bytes(`{"_tag":"Request","id":"1","tag":"Control.Echo","payload":${deep(200_000)},"headers":[]}\n`),
  deepId: bytes(`{"_tag":"Request","id":${deep(200_000)},"tag":"Control.Echo","payload":{"data":"x"},"headers":[]}\n`),
  deepTag: bytes(`{"_tag":${deep(200_000)}}\n`),
  scalars: bytes('null\n1\n"x"\ntrue\n[]\n{}\n'),
  nulls: bytes("null\nnull\n"),
  unknownKind: bytes('{"_tag":"Surprise"}\n'),
  prototype: bytes('{"__proto__":{"_tag":"Request"},"constructor":1}\n'),
  unknownTag: request({ tag: "Control.Nothing" }),
  inheritedTag: request({ tag: "toString" }),
  noTag: request({ tag: undefined }),
  objectTag: request({ tag: { a: 1 } }),
  noId: request({ id: undefined }),
  objectId: request({ id: { toString: 1 } }),
  sameIdTwice: Buffer.concat([
    request({ tag: "Control.Watch", payload: null }),
    request({ tag: "Control.Watch", payload: null })
  ]),
  badPayload: request({ payload: { data: 7 } }),
  nullPayload: request({ payload: null }),
  longPayload: request({ payload: { data: "x".repeat(100_000) } }),
  filesUpwards: request({ tag: "Files.List", payload: { path: "../../../../etc" } }),
  filesNul: request({ tag: "Files.Stat", payload: { path: "a\0b" } }),
  badHeaders: request({ headers: 7 }),
  oddHeaders: request({ headers: [["a"], [1, 2], null] }),
  protoHeaders: request({
    headers: [
      ["__proto__", "x"],
      ["constructor", "y"]
    ]
  }),
  oddTrace: request({ traceId: { a: 1 }, spanId: ["x"], sampled: "maybe" }),
  notification: request({ isNotification: true }),
  discarded: request({ discard: true }),
  ackOfNothing: bytes('{"_tag":"Ack","requestId":"77"}\n{"_tag":"Ack"}\n'),
  interruptOfNothing: bytes('{"_tag":"Interrupt","requestId":"77"}\n{"_tag":"Interrupt"}\n'),
  serverMessages: bytes(
    '{"_tag":"Exit","requestId":"1","exit":{"_tag":"Success"}}\n{"_tag":"Pong"}\n{"_tag":"Defect"}\n'
  ),
  endOfAll: bytes('{"_tag":"Eof"}\n{"_tag":"Eof"}\n'),
  afterEnd: Buffer.concat([bytes('{"_tag":"Eof"}\n'), request({})]),
  pings: bytes('{"_tag":"Ping"}\n'.repeat(5000)),
  chatUnknown: request({ tag: "Chat.Nothing" }),
  chatBadId: request({ tag: "Chat.Send", payload: { messageId: "../x", text: "hello" } }),
  chatTooLong: request({
    tag: "Chat.Send",
    payload: { messageId: "00000000-0000-4000-8000-000000000001", text: "x".repeat(300 * 1024) }
  }),
  chatBadLimit: request({ tag: "Chat.History", payload: { limit: -1 } }),
  chatHugeLimit: request({ tag: "Chat.History", payload: { limit: 1e300 } }),
  chatProto: request({ tag: "Chat.History", payload: { limit: 5, conversation: "__proto__" } })
}

/** Headers of streams, and whether what follows them reaches anybody; `sealed` has it sealed as a device does. */
const HEADERS: Readonly<Record<string, Uint8Array | "sealed">> = {
  server: StreamHeader.server(),
  llm: "sealed",
  llmUnsealed: StreamHeader.llm(),
  llmOfYesterday: Uint8Array.of(StreamHeader.LLM, 1),
  llmOfTomorrow: Uint8Array.of(StreamHeader.LLM, 200),
  unknown: Uint8Array.of(0x7f)
}

const onceOf = (once: Uint8Array) => {
  let rest: Uint8Array | undefined = once
  return () => {
    const next = rest
    rest = undefined
    return next
  }
}

const linux = process.platform === "linux"

describe.skipIf(!linux)(linux ? "calls without sense" : "calls without sense (skipped: /proc is not here)", () => {
  layer(environment, { excludeTestServices: true, timeout: "60 seconds" })("over the real path", (it) => {
    for (const [to, header] of Object.entries(HEADERS)) {
      it.effect(`do no harm (${to})`, () =>
        Effect.gen(function* () {
          const { llm, port, server } = yield* World
          const home = yield* device(`senseless-${to}`)
          const session = yield* sealedSession(home, port)
          const attacker = yield* attack(home, port)
          const witness = yield* connect(yield* device(`witness-${to}`))
          let id = 0
          let number = 0
          for (let round = 0; round < 3; round++) {
            for (const [name, nonsense] of Object.entries(NONSENSE)) {
              if (header === "sealed") {
                const { offset, seal } = attacker.resume(id, session, ++number)
                yield* attacker.pour(id, offset, onceOf(seal(nonsense)))
              } else {
                attacker.write(id, 0, header)
                yield* attacker.pour(id, header.length, onceOf(nonsense))
              }
              assert.strictEqual(attacker.closeCode, undefined, name)
              assert.strictEqual(yield* echo(witness, name), name)
              attacker.send(
                { type: "Stop", id, code: 0 },
                { type: "Reset", id, code: 0, finalSize: attacker.written(id) }
              )
              yield* attacker.flush
              attacker.streams.delete(id)
              assert.isTrue(server().alive && llm.alive, name)
              id += 2
            }
          }
          assert.include(yield* say(witness, "hello"), " ")
          assert.deepEqual([...server().mishaps, ...llm.mishaps], [])
          // Half a million arrays in one line make garbage, and the heap swings; more rounds do not raise it further.
          assert.isBelow(server().rssKib, 512 * 1024)
          assert.isBelow(llm.rssKib, 512 * 1024)
        })
      )
    }

    it.effect("get an answer where one can be given", () =>
      Effect.gen(function* () {
        const { port } = yield* World
        const home = yield* device("answered")
        const session = yield* sealedSession(home, port)
        const attacker = yield* attack(home, port)
        const cases = [
          [StreamHeader.server(), NONSENSE.unknownTag, /Unknown request tag/],
          [StreamHeader.server(), NONSENSE.badPayload, /Expected string/],
          [StreamHeader.server(), NONSENSE.filesUpwards, /FilesError/],
          ["sealed", NONSENSE.chatUnknown, /Unknown request tag/],
          ["sealed", NONSENSE.chatTooLong, /TooLong/],
          ["sealed", NONSENSE.chatBadLimit, /Exit/]
        ] as const
        for (const [i, [header, nonsense = new Uint8Array(0), answer]] of cases.entries()) {
          if (header === "sealed") {
            const { offset, seal } = attacker.resume(2 * i, session, 1 + i)
            yield* attacker.pour(2 * i, offset, onceOf(seal(nonsense)))
          } else {
            attacker.write(2 * i, 0, header)
            yield* attacker.pour(2 * i, header.length, onceOf(nonsense))
          }
          yield* attacker.until(String(answer), () => answer.test(attacker.text(2 * i)))
        }
        // What cannot be answered is given up: a line without end, and a stream of no known kind.
        const last = 2 * cases.length
        attacker.write(last, 0, StreamHeader.server())
        yield* attacker.pour(last, 1, onceOf(NONSENSE.noNewline ?? new Uint8Array(0)))
        attacker.write(last + 2, 0, Uint8Array.of(0x7f))
        yield* attacker.until("both to be given up", () => attacker.stopped.has(last) && attacker.stopped.has(last + 2))
        assert.strictEqual(attacker.closeCode, undefined)
      })
    )
  })
})
