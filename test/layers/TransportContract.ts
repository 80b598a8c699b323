/**
 * What every Transport does over real sockets, run on every kind of sockets, crypto and datagram size. Nothing here sleeps
 * or measures: tests wait for effects that complete, and where a deadline is the matter the clock is a TestClock.
 */
import { assert, describe, it } from "@effect/vitest"
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { CloseCode, type CloseReason } from "../../src/domain/protocol/CloseCode.ts"
import { hex } from "../../src/domain/protocol/Cursor.ts"
import { Priority } from "../../src/domain/protocol/Streams.ts"
import { Crypto } from "../../src/services/Crypto.ts"
import { type Connection, type Patience, TransportError, type TransportStream } from "../../src/services/Transport.ts"
import { UdpSocket } from "../../src/services/UdpSocket.ts"
import {
  admissionOf,
  allFree,
  atOnce,
  bothWays,
  connect,
  content,
  cuttable,
  device,
  digest,
  digestOf,
  drain,
  endOf,
  failure,
  hasIpv6,
  type Kind,
  LOOPBACK,
  listen,
  MAX_STREAMS,
  MB,
  moving,
  open,
  pair,
  receive,
  roundTrip,
  send,
  turn,
  until
} from "./TransportEnds.ts"

export const contract = (kind: Kind, extent: "whole" | "short") => {
  const absent = kind.missing === "" ? "" : ` (skipped: ${kind.missing})`
  const { client, server } = kind

  describe.skipIf(absent !== "")(`Transport contract: ${kind.name}${absent}`, () => {
    const live = <E>(name: string, test: () => Effect.Effect<unknown, E, Scope.Scope>) =>
      it.live(name, () => Effect.scoped(test()))
    const whole = extent === "whole" ? live : () => {}
    /** Under a TestClock, whose time stands still while packets flow. */
    const still = <E>(name: string, test: () => Effect.Effect<unknown, E, Scope.Scope>) => {
      if (extent === "whole")
        it.effect(name, () => Effect.scoped(Effect.andThen(TestClock.setTime(1_800_000_000_000), test())))
    }

    live("runs on what it is named after", () =>
      Effect.gen(function* () {
        for (const { sockets, crypto, implementations } of [client, server]) {
          const context = yield* Layer.build(Layer.merge(sockets, crypto))
          const names = [Context.get(context, UdpSocket).implementation, Context.get(context, Crypto).implementation]
          assert.deepStrictEqual(names, [...implementations])
        }
      })
    )

    live("connects: each end knows the other, and what the answer brought comes first", () =>
      Effect.gen(function* () {
        const order: Array<string> = []
        const note = (what: string) => Effect.sync(() => order.push(what))
        const file = { ...device(3), credential: { ...device(3).credential, slot: 1000 } }
        const enrolment = { portSeed: new Uint8Array(32).fill(5), llmKey: new Uint8Array(32).fill(6) }
        const listener = yield* listen(server, [file], {
          remember: () => note("remember"),
          enrolment: Effect.succeed(enrolment),
          enrol: ({ staticKey }) => {
            assert.deepStrictEqual(staticKey, file.keys.publicKey)
            return Effect.as(note("enrol"), true)
          }
        })
        const near = yield* connect(client, file, listener, {
          answered: (answer) => {
            assert.deepStrictEqual(answer.enrolment, enrolment)
            assert.deepStrictEqual(answer.remote, listener.address)
            return Effect.asVoid(note("answered"))
          }
        })
        const far = yield* listener.accept
        // A slow machine may have repeated the initiation before it was answered.
        assert.deepStrictEqual([...new Set(order)], ["remember", "answered", "enrol"])
        const id = hex(file.credential.id)
        assert.deepStrictEqual([near.credential, far.credential], [id, id])
        assert.deepStrictEqual([near.deviceName, far.deviceName], ["", file.name])
        assert.deepStrictEqual(yield* near.remote, listener.address)
        assert.strictEqual((yield* far.remote).host, LOOPBACK)
        assert.strictEqual(yield* listener.sessions, 1)
      })
    )

    live("hears whom it expects from the moment it listens", () =>
      Effect.gen(function* () {
        const admissions = Stream.concat(Stream.make([admissionOf(device(1))]), Stream.never)
        const listener = yield* listen(server, [], { admissions })
        yield* connect(client, device(1), listener)
        assert.strictEqual((yield* listener.drops).unknown, 0)
      })
    )

    whole("sends nothing more when what the answer brought could not be kept", () =>
      Effect.gen(function* () {
        const listener = yield* listen(server, [device(1)])
        const full = new TransportError({ reason: "Keep", message: "the disk is full" })
        const failed = connect(client, device(1), listener, { answered: () => Effect.fail(full) })
        assert.strictEqual(yield* Effect.flip(failed), full)
        yield* connect(client, device(1), listener)
        const { deviceName } = yield* listener.accept
        assert.strictEqual(deviceName, device(1).name)
      })
    )

    still("fails where the port is taken, and where nobody answers in time", () =>
      Effect.gen(function* () {
        const listener = yield* listen(server, [device(1)])
        const taken = yield* Effect.flip(listen(server, [], { bind: listener.address }))
        assert.deepStrictEqual([taken.reason, taken.cause?.reason], ["Bind", "Busy"])
        const dialling = yield* Effect.forkScoped(Effect.flip(connect(client, device(2), listener)), {
          startImmediately: true
        })
        // Its initiation has come, and is nobody's.
        yield* until(Effect.map(listener.drops, ({ unknown }) => unknown > 0))
        yield* TestClock.adjust(20_000)
        assert.strictEqual((yield* Fiber.join(dialling)).reason, "NoAnswer")
        assert.strictEqual(yield* listener.sessions, 0)
      })
    )

    live("echoes, from either end", () =>
      Effect.gen(function* () {
        yield* bothWays(yield* pair(kind), (from, to) =>
          Effect.gen(function* () {
            const streams = yield* open(from, to, Priority.Interactive)
            for (let n = 0; n < 50; n++) yield* roundTrip(streams)
            yield* Effect.all([streams.near.finish, streams.far.finish])
            assert.deepStrictEqual([yield* endOf(streams.near), yield* endOf(streams.far)], ["Done", "Done"])
            yield* allFree(from, to)
          })
        )
      })
    )

    live("tells both ends why it closed, and fails whoever waits", () =>
      Effect.gen(function* () {
        const local = (code: number, reason: string): CloseReason => ({ by: "local", code, reason })
        const peer = (code: number, reason: string): CloseReason => ({ by: "peer", code, reason })
        yield* Effect.forEach([0, 1], (who) =>
          Effect.scoped(
            Effect.gen(function* () {
              const { near, far } = yield* pair(kind)
              const streams = yield* open(near, far)
              const ends = [near, far]
              const waiting = [
                ...ends.flatMap((end) => [Effect.asVoid(end.accept), Effect.asVoid(end.receiveDatagram)]),
                Effect.asVoid(streams.near.read),
                Effect.asVoid(streams.far.read)
              ]
              const fibers = yield* Effect.forEach(waiting, (wait) =>
                Effect.forkScoped(Effect.flip(wait), { startImmediately: true })
              )
              const [closer, other] = who === 0 ? [near, far] : [far, near]
              yield* closer.close(300, "that is all")
              yield* closer.close(301, "too late")
              assert.deepStrictEqual(yield* closer.closed, local(300, "that is all"))
              assert.deepStrictEqual(yield* other.closed, peer(300, "that is all"))
              for (const fiber of fibers) {
                const error = yield* Fiber.join(fiber)
                assert.instanceOf(error, TransportError)
                assert.strictEqual(error instanceof TransportError ? error.reason : "", "Closed")
              }
              for (const end of ends) {
                const reason = yield* end.closed
                const errors = yield* Effect.all([
                  Effect.flip(end.open(Priority.Bulk)),
                  Effect.flip(end.sendDatagram(Uint8Array.of(1)))
                ])
                for (const error of errors) assert.deepStrictEqual([error.reason, error.close], ["Closed", reason])
              }
              assert.deepStrictEqual((yield* failure(streams.near.write(Uint8Array.of(1))))[0], "Closed")
            })
          )
        )
        // A scope that closes says good-bye, too.
        const listening = yield* Scope.make()
        const listener = yield* Scope.provide(listen(server, [device(1), device(2)]), listening)
        const connecting = yield* Scope.make()
        yield* Scope.provide(connect(client, device(1), listener), connecting)
        const first = yield* listener.accept
        yield* Scope.close(connecting, Exit.void)
        assert.deepStrictEqual(yield* first.closed, peer(CloseCode.GoingAway, "shutting down"))
        const second = yield* connect(client, device(2), listener)
        yield* listener.accept
        yield* Scope.close(listening, Exit.void)
        assert.deepStrictEqual(yield* second.closed, peer(CloseCode.GoingAway, "shutting down"))
      })
    )

    live("moves 8 MB one way, and both ways at once, in datagrams as large as both ends take", () =>
      Effect.gen(function* () {
        const { near, far } = yield* pair(kind)
        const expected = digestOf(content)
        const move = Effect.fnUntraced(function* (from: Connection, to: Connection) {
          const stream = yield* from.open(Priority.Bulk)
          const sending = yield* Effect.forkScoped(send(stream, content))
          const other = yield* to.accept
          assert.strictEqual(yield* digest(other), expected)
          yield* Fiber.join(sending)
          // The way back was open all the time.
          yield* send(other, content.subarray(0, 100))
          assert.strictEqual(yield* digest(stream), digestOf(content.subarray(0, 100)))
        })
        yield* move(near, far)
        const largest = Math.min(client.maxDatagram, server.maxDatagram)
        assert.strictEqual((yield* near.stats).datagramBytes, largest)
        yield* Effect.all([move(near, far), move(far, near)], atOnce)
        assert.strictEqual((yield* far.stats).datagramBytes, largest)
        yield* allFree(near, far)
      })
    )

    live("carries 64 streams at once, all whole; one more waits for room", () =>
      Effect.gen(function* () {
        yield* bothWays(yield* pair(kind), (from, to) =>
          Effect.gen(function* () {
            const streams = yield* Effect.forEach(Array.from({ length: MAX_STREAMS }), () => from.open(Priority.Bulk))
            const more = yield* Effect.forkScoped(from.open(Priority.Bulk), { startImmediately: true })
            const PART = 30_000
            /** Each has bytes of its own, and sends back what it got. */
            const part = (id: number) => content.subarray(id * 1000, id * 1000 + PART)
            const echoing = yield* Effect.forkScoped(
              Effect.forEach(
                streams,
                () =>
                  Effect.gen(function* () {
                    const stream = yield* to.accept
                    const bytes = yield* receive(stream, PART)
                    assert.strictEqual(yield* endOf(stream), "Done")
                    assert.strictEqual(digestOf(bytes), digestOf(part(stream.id)))
                    yield* stream.write(bytes)
                    return stream
                  }),
                { concurrency: "unbounded" }
              )
            )
            yield* Effect.forEach(
              streams,
              (stream) =>
                Effect.gen(function* () {
                  yield* Effect.forkScoped(send(stream, part(stream.id)))
                  assert.strictEqual(digestOf(yield* receive(stream, PART)), digestOf(part(stream.id)))
                }),
              atOnce
            )
            const others = yield* Fiber.join(echoing)
            assert.lengthOf(new Set(others.map(({ id }) => id)), MAX_STREAMS)
            // All have answered and none is over.
            assert.strictEqual((yield* from.stats).openStreams, MAX_STREAMS)
            assert.isUndefined(more.pollUnsafe())
            const [first, ...rest] = others
            assert.isDefined(first)
            const finish = Effect.fnUntraced(function* (other: TransportStream) {
              yield* other.finish
              const stream = streams.find(({ id }) => id === other.id)
              assert.isDefined(stream)
              assert.strictEqual(yield* endOf(stream), "Done")
            })
            yield* finish(first)
            const late = yield* Fiber.join(more)
            yield* late.write(Uint8Array.of(9))
            const accepted = yield* to.accept
            assert.strictEqual(accepted.id, late.id)
            assert.deepStrictEqual(yield* receive(accepted, 1), Uint8Array.of(9))
            yield* Effect.forEach(rest, finish)
            yield* Effect.all([late.finish, accepted.finish])
            assert.deepStrictEqual([yield* endOf(late), yield* endOf(accepted)], ["Done", "Done"])
            yield* allFree(from, to)
          })
        )
      })
    )

    whole("closes each half of a stream for itself", () =>
      Effect.gen(function* () {
        yield* bothWays(yield* pair(kind), (from, to) =>
          Effect.gen(function* () {
            const asked = yield* open(from, to)
            yield* asked.near.finish
            assert.strictEqual(yield* endOf(asked.far), "Done")
            // Read again, it is still the end.
            assert.strictEqual(yield* endOf(asked.far), "Done")
            const told = yield* open(from, to)
            yield* told.far.finish
            assert.strictEqual(yield* endOf(told.near), "Done")
            const part = content.subarray(0, 2 * MB)
            yield* Effect.forkScoped(Effect.all([send(asked.far, part), send(told.near, part)], atOnce))
            assert.strictEqual(yield* digest(asked.near), digestOf(part))
            assert.strictEqual(yield* digest(told.far), digestOf(part))
            yield* allFree(from, to)
          })
        )
      })
    )

    live("resets: the reader fails with the code, and what it had not read is gone", () =>
      Effect.gen(function* () {
        yield* bothWays(yield* pair(kind), (from, to) =>
          Effect.gen(function* () {
            const { near, far } = yield* open(from, to)
            yield* far.finish
            assert.strictEqual(yield* endOf(near), "Done")
            yield* near.write(content.subarray(0, 100_000))
            yield* near.reset(77)
            // Over at this end, so the other one has heard of it.
            yield* allFree(from)
            assert.deepStrictEqual(yield* failure(far.read), ["Reset", 77])
            assert.deepStrictEqual(yield* failure(far.read), ["Reset", 77])
            assert.strictEqual((yield* failure(near.write(Uint8Array.of(1))))[0], "Closed")
            // Who waits is woken.
            const other = yield* open(from, to)
            const reading = yield* Effect.forkScoped(failure(other.far.read), { startImmediately: true })
            yield* other.near.reset(78)
            assert.deepStrictEqual(yield* Fiber.join(reading), ["Reset", 78])
            yield* other.far.finish
            assert.strictEqual(yield* endOf(other.near), "Done")
            yield* allFree(from, to)
          })
        )
      })
    )

    live("stops: the writer fails with the code", () =>
      Effect.gen(function* () {
        yield* bothWays(yield* pair(kind), (from, to) =>
          Effect.gen(function* () {
            const { near, far } = yield* open(from, to)
            const endless = Effect.forever(near.write(content.subarray(0, 1000)))
            const writing = yield* Effect.forkScoped(failure(endless))
            yield* far.read
            yield* far.stop(55)
            assert.deepStrictEqual(yield* Fiber.join(writing), ["Stopped", 55])
            assert.deepStrictEqual(yield* failure(near.write(Uint8Array.of(1))), ["Stopped", 55])
            yield* far.finish
            assert.strictEqual(yield* endOf(near), "Done")
            yield* allFree(from, to)
          })
        )
      })
    )

    live("wakes a writer that waits for room, and tells it that nobody takes the rest", () =>
      Effect.gen(function* () {
        yield* bothWays(yield* pair(kind, { streamWindow: 65_536 }), (from, to) =>
          Effect.gen(function* () {
            // Far more than the window, at once.
            const write = (stream: TransportStream) =>
              Effect.forkScoped(Effect.exit(stream.write(content)), { startImmediately: true })
            const reset = yield* open(from, to)
            const resetting = yield* write(reset.near)
            yield* reset.far.read
            assert.isUndefined(resetting.pollUnsafe())
            yield* reset.near.reset(1)
            yield* Fiber.join(resetting)
            assert.deepStrictEqual(yield* failure(reset.near.write(Uint8Array.of(1))), ["Closed", undefined])
            const stopped = yield* open(from, to)
            const stopping = yield* write(stopped.near)
            yield* stopped.far.read
            assert.isUndefined(stopping.pollUnsafe())
            yield* stopped.far.stop(56)
            const exit = yield* Fiber.join(stopping)
            assert.deepStrictEqual(yield* failure(stopped.near.write(Uint8Array.of(1))), ["Stopped", 56])
            yield* Effect.forEach([reset, stopped], ({ near, far }) => Effect.andThen(near.stop(0), far.reset(0)))
            yield* allFree(from, to)
            assert.deepStrictEqual(yield* failure(exit), ["Stopped", 56])
          })
        )
      })
    )

    live("wakes a reader whose half is given up here", () =>
      Effect.gen(function* () {
        yield* bothWays(yield* pair(kind), (from, to) =>
          Effect.gen(function* () {
            const { near, far } = yield* open(from, to)
            const reading = yield* Effect.forkScoped(Effect.exit(near.read), { startImmediately: true })
            yield* near.stop(2)
            yield* near.finish
            assert.strictEqual(yield* endOf(far), "Done")
            yield* allFree(from, to)
            const exit = reading.pollUnsafe()
            assert.isDefined(exit)
            assert.isTrue(Exit.isFailure(yield* Fiber.join(reading)))
          })
        )
      })
    )

    live("wakes both though the other end is gone", () =>
      Effect.gen(function* () {
        const link = cuttable(client)
        const { far, near } = yield* pair({ ...kind, client: link.end }, { streamWindow: 65_536 })
        const streams = yield* open(near, far)
        const writing = yield* Effect.forkScoped(Effect.exit(streams.near.write(content)), { startImmediately: true })
        const reading = yield* Effect.forkScoped(Effect.exit(streams.near.read), { startImmediately: true })
        yield* streams.far.read
        link.cut()
        yield* streams.near.reset(1)
        yield* Fiber.join(writing)
        assert.deepStrictEqual(yield* failure(streams.near.write(Uint8Array.of(1))), ["Closed", undefined])
        yield* streams.near.stop(2)
        yield* turn
        assert.isDefined(reading.pollUnsafe())
      })
    )

    whole("cancelling frees streams at both ends, whether they read or wrote", () =>
      Effect.gen(function* () {
        yield* bothWays(yield* pair(kind, { streamWindow: 1_048_576 }), (from, to) =>
          Effect.gen(function* () {
            const CANCELLED = 9
            const serving: Array<
              Effect.Effect<readonly [how: ReadonlyArray<unknown>, expected: ReadonlyArray<unknown>]>
            > = []
            const working: Array<Fiber.Fiber<void, TransportError | Cause.Done>> = []
            const endlessly = (stream: TransportStream) => Effect.forever(stream.write(content.subarray(0, 20_000)))
            const streams = yield* Effect.forEach(Array.from({ length: MAX_STREAMS }), () => open(from, to))
            for (const [n, { near, far }] of streams.entries()) {
              // Every second one writes, the others read; few readers look, so that the session's window gets used up.
              const looks = n % 16 < 2
              const [ours, theirs, expected] =
                n % 2 === 0
                  ? ([endlessly(near), looks ? Effect.forever(far.read) : Effect.never, "Reset"] as const)
                  : ([looks ? Effect.forever(near.read) : Effect.never, endlessly(far), "Stopped"] as const)
              const work = Effect.onInterrupt(ours, () => Effect.andThen(near.reset(CANCELLED), near.stop(CANCELLED)))
              working.push(yield* Effect.forkScoped(work, { startImmediately: true }))
              const serve = yield* Effect.forkScoped(failure(theirs))
              if (looks || n % 2 === 1) {
                serving.push(Effect.map(Fiber.join(serve), (how) => [how, [expected, CANCELLED]] as const))
              }
            }
            const flying = Effect.map(Effect.all([from.stats, to.stats]), ([a, b]) => a.bytesInFlight + b.bytesInFlight)
            yield* until(Effect.map(flying, (bytes) => bytes === 0))
            const one = yield* Effect.forkScoped(from.open(Priority.Interactive), { startImmediately: true })
            assert.isUndefined(one.pollUnsafe())
            yield* Fiber.interruptAll(working)
            for (const [how, expected] of yield* Effect.all(serving)) assert.deepStrictEqual(how, [...expected])
            const stream = yield* Fiber.join(one)
            yield* stream.write(Uint8Array.of(3))
            const other = yield* to.accept
            assert.deepStrictEqual(yield* receive(other, 1), Uint8Array.of(3))
            yield* stream.reset(CANCELLED)
            yield* stream.stop(CANCELLED)
            yield* allFree(from, to)
            // There is room for as many as at first, and both windows are whole again.
            const again = yield* Effect.forEach(Array.from({ length: MAX_STREAMS }), () => from.open(Priority.Bulk))
            const [first] = again
            assert.isDefined(first)
            const part = content.subarray(0, 2 * MB)
            yield* Effect.forkScoped(send(first, part))
            const last = yield* to.accept
            assert.strictEqual(yield* digest(last), digestOf(part))
            yield* Effect.forkScoped(send(last, part))
            assert.strictEqual(yield* digest(first), digestOf(part))
            yield* Effect.forEach(again, (unused) => Effect.andThen(unused.reset(0), unused.stop(0)))
            yield* allFree(from, to)
          })
        )
      })
    )

    live("sends unreliable datagrams up to the largest that fits, and invents none", () =>
      Effect.gen(function* () {
        const ends = yield* pair(kind)
        const { near, far } = ends
        /** Bytes of the largest that is taken. */
        const largest = Effect.fnUntraced(function* (from: Connection) {
          const { datagramBytes } = yield* from.stats
          let length = datagramBytes
          while (!(yield* from.sendDatagram(content.subarray(0, length)))) length--
          assert.isAbove(length, datagramBytes - 64)
          assert.isFalse(yield* from.sendDatagram(content.subarray(0, length + 1)))
          return length
        })
        yield* bothWays(ends, (from, to) =>
          Effect.gen(function* () {
            yield* largest(from)
            // Bulk shows what the path carries.
            const bulk = yield* open(from, to)
            yield* Effect.forkScoped(send(bulk.near, content.subarray(0, 4 * MB)))
            yield* digest(bulk.far)
            yield* bulk.far.finish
            assert.strictEqual(yield* endOf(bulk.near), "Done")
            const length = yield* largest(from)
            const expected = digestOf(content.subarray(0, length))
            const receiving = yield* Effect.forkScoped(
              until(Effect.map(to.receiveDatagram, (bytes) => digestOf(bytes) === expected)),
              { startImmediately: true }
            )
            // One may be lost.
            const marks = yield* open(from, to)
            while (receiving.pollUnsafe() === undefined) {
              yield* from.sendDatagram(content.subarray(0, length))
              yield* roundTrip(marks)
            }
            yield* Fiber.join(receiving)
          })
        )
        const marks = yield* open(near, far)
        const sent = new Set<string>()
        for (let n = 0; n < 600; n++) {
          const bytes = content.subarray(n * 1000, n * 1000 + (n % 4 === 0 ? n % 7 : 900))
          if (yield* near.sendDatagram(bytes)) sent.add(digestOf(bytes))
          if (n % 16 === 15) yield* roundTrip(marks)
        }
        yield* near.close(0, "")
        yield* far.closed
        const got: Array<string> = []
        const collected = yield* Effect.flip(
          Effect.forever(Effect.map(far.receiveDatagram, (bytes) => got.push(digestOf(bytes))))
        )
        assert.strictEqual(collected.reason, "Closed")
        assert.isAbove(got.length, 100)
        assert.deepStrictEqual(
          got.filter((one) => !sent.has(one)),
          []
        )
        const full = got.filter((one) => one.startsWith("900 "))
        assert.lengthOf(new Set(full), full.length)
      })
    )

    whole("lets a message on an interactive stream overtake 20 MB of bulk", () =>
      Effect.gen(function* () {
        yield* bothWays(yield* pair(kind), (from, to) =>
          Effect.gen(function* () {
            const chat = yield* open(from, to, Priority.Interactive)
            const bulk = yield* open(from, to)
            // At once: there is always more of it to send.
            const sending = yield* Effect.forkScoped(
              Effect.andThen(bulk.near.write(new Uint8Array(20 * MB)), bulk.near.finish)
            )
            let read = 0
            // In full flow, all queues filled.
            while (read < 5 * MB) for (const { length } of yield* bulk.far.read) read += length
            const reading = yield* Effect.forkScoped(drain(bulk.far, ({ length }) => (read += length)))
            yield* roundTrip(chat)
            const then = read
            yield* Effect.all([Fiber.join(sending), Fiber.join(reading)])
            assert.strictEqual(read, 20 * MB)
            assert.isBelow(then, 20 * MB)
            for (const { near, far } of [chat, bulk]) {
              yield* Effect.all([near.finish, far.finish])
              assert.deepStrictEqual([yield* endOf(near), yield* endOf(far)], ["Done", "Done"])
            }
            yield* allFree(from, to)
          })
        )
      })
    )

    whole("serves ten clients at once, each by its own credential, and forgets them", () =>
      Effect.gen(function* () {
        const devices = Array.from({ length: 10 }, (_, n) => device(n + 1))
        const listener = yield* listen(server, devices)
        const part = (credential: string) =>
          content.subarray(Number.parseInt(credential.slice(0, 2), 16) * 1000).subarray(0, MB)
        /** Answers with what was sent, after all of it. */
        const serve = Effect.fnUntraced(function* (connection: Connection) {
          const stream = yield* connection.accept
          const bytes = yield* receive(stream, MB)
          assert.strictEqual(digestOf(bytes), digestOf(part(connection.credential)))
          yield* send(stream, bytes)
          yield* connection.closed
          return connection.credential
        })
        const serving = yield* Effect.forkScoped(
          Effect.forEach(devices, () => Effect.flatMap(listener.accept, serve), { concurrency: "unbounded" })
        )
        yield* Effect.forEach(
          devices,
          (one) =>
            Effect.scoped(
              Effect.gen(function* () {
                const connection = yield* connect(client, one, listener)
                assert.strictEqual(connection.credential, hex(one.credential.id))
                const stream = yield* connection.open(Priority.Bulk)
                yield* Effect.forkScoped(send(stream, part(connection.credential)))
                assert.strictEqual(yield* digest(stream), digestOf(part(connection.credential)))
              })
            ),
          atOnce
        )
        const served = yield* Fiber.join(serving)
        assert.deepStrictEqual(
          served.toSorted(),
          devices.map(({ credential }) => hex(credential.id))
        )
        yield* until(Effect.map(listener.sessions, (sessions) => sessions === 0))
        assert.strictEqual(yield* listener.sessions, 0)
      })
    )

    for (const what of ["dead", "idle"] as const) {
      still(`ends the session of a client that vanished without a word: ${what}`, () =>
        Effect.gen(function* () {
          const link = cuttable(client)
          const patience: Patience = {
            keepAliveMs: Number.POSITIVE_INFINITY,
            deadAfterMs: 4000,
            idleTimeoutMs: what === "dead" ? 60_000 : 4000
          }
          const { far, listener, near } = yield* pair({ ...kind, client: link.end }, { patience })
          const streams = yield* moving(open(near, far))
          yield* moving(roundTrip(streams))
          // Neither owes the other anything.
          yield* moving(until(Effect.map(far.stats, ({ bytesInFlight }) => bytesInFlight === 0)))
          link.cut()
          if (what === "dead") yield* streams.far.write(Uint8Array.of(1))
          const reading = yield* Effect.forkScoped(Effect.flip(streams.far.read), { startImmediately: true })
          const stalling = yield* Effect.forkScoped(far.stalled, { startImmediately: true })
          yield* TestClock.adjust(3500)
          // Only who owes an answer stalls.
          assert.strictEqual(stalling.pollUnsafe() !== undefined, what === "dead")
          assert.strictEqual(yield* listener.sessions, 1)
          assert.isUndefined(reading.pollUnsafe())
          yield* TestClock.adjust(1000)
          assert.deepStrictEqual(yield* far.closed, { by: "timeout", what })
          const error = yield* Fiber.join(reading)
          assert.strictEqual(error instanceof TransportError ? error.reason : "", "Closed")
          assert.strictEqual(yield* listener.sessions, 0)
        })
      )
    }

    live("leaves no fiber, socket or port behind when its scopes close", () =>
      Effect.gen(function* () {
        const sockets = () => process.getActiveResourcesInfo().filter((name) => name === "UDPWrap").length
        // Those of earlier tests go in a turn of their own.
        yield* until(Effect.sync(() => sockets() === 0))
        let fibers = 0
        let started = 0
        const counting: Metric.FiberRuntimeMetricsService = {
          recordFiberStart: () => {
            started++
            fibers++
          },
          recordFiberEnd: () => {
            fibers--
          }
        }
        const address = yield* Effect.scoped(
          Effect.gen(function* () {
            const { far, listener, near } = yield* pair(kind)
            const { far: theirs, near: ours } = yield* open(near, far)
            yield* Effect.forkScoped(send(ours, content))
            yield* theirs.read
            assert.strictEqual(sockets(), 2)
            assert.isAbove(fibers, 0)
            // In the middle of it all.
            return listener.address
          })
        ).pipe(Effect.provideService(Metric.FiberRuntimeMetrics, counting))
        assert.isAbove(started, 5)
        assert.strictEqual(fibers, 0)
        const again = yield* listen(server, [], { bind: address })
        assert.deepStrictEqual(again.address, address)
        yield* until(Effect.sync(() => sockets() === 1))
      })
    )

    const six = hasIpv6 ? live : (name: string) => it.skip(name)
    six(`works over ::1${hasIpv6 ? "" : " (skipped: this host has none)"}`, () =>
      Effect.gen(function* () {
        const { far, listener, near } = yield* pair(kind, { bind: { host: "::1", port: 0 } })
        assert.strictEqual(listener.address.host, "::1")
        assert.deepStrictEqual(yield* near.remote, listener.address)
        assert.strictEqual((yield* far.remote).host, "::1")
        yield* bothWays({ far, listener, near }, (from, to) =>
          Effect.gen(function* () {
            const stream = yield* from.open(Priority.Bulk)
            yield* Effect.forkScoped(send(stream, content.subarray(0, MB)))
            assert.strictEqual(yield* digest(yield* to.accept), digestOf(content.subarray(0, MB)))
          })
        )
      })
    )
  })
}
