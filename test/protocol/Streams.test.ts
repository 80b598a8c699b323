import { assert, describe, it } from "@effect/vitest"
import { SEND_BUFFER_HIGH } from "../../src/domain/protocol/Constants.ts"
import type * as Frame from "../../src/domain/protocol/Frame.ts"
import type { Limits } from "../../src/domain/protocol/Limits.ts"
import { Priority, type Sent, type StreamEvent, Streams } from "../../src/domain/protocol/Streams.ts"
import { LIMITS } from "./Pair.ts"

const data = (length: number, fill = 7): Uint8Array => new Uint8Array(length).fill(fill)

const sent = (type: Sent["type"], id = 0): Sent => ({ type, id, offset: 0, length: 0, fin: false })

/** What a packet would remember of a frame. */
const sentOf = (frame: Frame.Frame): Sent => {
  switch (frame.type) {
    case "Stream":
      return { type: frame.type, id: frame.id, offset: frame.offset, length: frame.data.length, fin: frame.fin }
    case "Reset":
    case "Stop":
    case "MaxStreamData":
      return sent(frame.type, frame.id)
    case "MaxData":
    case "MaxStreams":
      return sent(frame.type)
    default:
      throw new Error(`no frame of a stream: ${frame.type}`)
  }
}

const poll = (streams: Streams, maxBytes = 1000): ReadonlyArray<Frame.Frame> => {
  const out: Array<Frame.Frame> = []
  const control = () => streams.pollControl(0, 0)
  for (let frame = control(); frame !== undefined; frame = control()) out.push(frame)
  for (let chunk = streams.pollData(maxBytes); chunk !== undefined; chunk = streams.pollData(maxBytes)) {
    const { id, offset, data, fin } = chunk
    out.push({ type: "Stream", id, offset, data, fin })
  }
  assert.deepStrictEqual([streams.hasControl, streams.hasData], [false, false])
  return out
}

const give = (streams: Streams, frame: Frame.Frame): string | undefined => {
  switch (frame.type) {
    case "Stream":
      return streams.onStream(frame)
    case "Reset":
      return streams.onReset(frame)
    case "Stop":
      return streams.onStop(frame)
    case "MaxStreamData":
      return streams.onMaxStreamData(frame)
    case "MaxData":
      streams.onMaxData(frame.limit)
      return undefined
    case "MaxStreams":
      streams.onMaxStreams(frame.limit)
      return undefined
    default:
      throw new Error(`no frame of a stream: ${frame.type}`)
  }
}

const events = (streams: Streams): ReadonlyArray<StreamEvent> => {
  const out: Array<StreamEvent> = []
  for (let event = streams.pollEvent(); event !== undefined; event = streams.pollEvent()) out.push(event)
  return out
}

const types = (streams: Streams) => events(streams).map(({ type }) => type)

/** Passes everything between two ends, all of it acknowledged, until both are quiet. */
const exchange = (a: Streams, b: Streams): void => {
  for (let busy = true; busy; ) {
    busy = false
    for (const [from, to] of [
      [a, b],
      [b, a]
    ] as const) {
      for (const frame of poll(from)) {
        busy = true
        assert.strictEqual(give(to, frame), undefined)
        from.onAcked(sentOf(frame))
      }
    }
  }
}

const ends = (limits: Partial<Limits> = {}) => {
  const all = { ...LIMITS, ...limits }
  return { client: new Streams("client", all, all), server: new Streams("server", all, all) }
}

describe("Streams: opening", () => {
  it("numbers its own streams evenly for the client, oddly for the server", () => {
    const { client, server } = ends({ maxStreams: 3 })
    assert.deepStrictEqual(
      [1, 2, 3, 4].map(() => client.open(1)),
      [0, 2, 4, undefined]
    )
    assert.deepStrictEqual(
      [1, 2, 3, 4].map(() => server.open(1)),
      [1, 3, 5, undefined]
    )
  })

  it("opens the peer's streams below the one that a frame names", () => {
    const { server } = ends()
    give(server, { type: "Stream", id: 4, offset: 0, data: data(1), fin: false })
    assert.deepStrictEqual(events(server), [
      { type: "StreamOpened", id: 0 },
      { type: "StreamOpened", id: 2 },
      { type: "StreamOpened", id: 4 },
      { type: "StreamReadable", id: 4 }
    ])
    assert.strictEqual(server.size, 3)
  })

  it("allows the peer another stream for each of its own that is over, and itself none for its own", () => {
    const { client, server } = ends({ maxStreams: 1 })
    for (let round = 0; round < 10; round++) {
      const id = client.open(1) ?? -1
      assert.strictEqual(id, 2 * round)
      client.finish(id)
      exchange(client, server)
      server.finish(id)
      exchange(client, server)
      assert.deepStrictEqual([client.size, server.size], [0, 0])
      assert.deepStrictEqual(types(client).slice(-1), ["StreamsAvailable"])
      assert.deepStrictEqual(types(server), ["StreamOpened", "StreamReadable", "StreamClosed"])
      assert.strictEqual(server.read(id), "finished")
    }
  })

  it("keeps to the limit however streams end", () => {
    const { server } = ends({ maxStreams: 2 })
    assert.strictEqual(give(server, { type: "Reset", id: 2, code: 1, finalSize: 0 }), undefined)
    assert.strictEqual(give(server, { type: "Reset", id: 4, code: 1, finalSize: 0 }), "stream-limit")
    server.reset(2, 0)
    const frames = poll(server)
    assert.deepStrictEqual(frames, [{ type: "Reset", id: 2, code: 0, finalSize: 0 }])
    server.onAcked(sent("Reset", 2))
    assert.deepStrictEqual(poll(server), [{ type: "MaxStreams", limit: 3 }])
    assert.strictEqual(give(server, { type: "Reset", id: 4, code: 1, finalSize: 0 }), undefined)
    server.onLost(sent("MaxStreams"))
    assert.deepStrictEqual(poll(server), [{ type: "MaxStreams", limit: 3 }])
  })
})

describe("Streams: whose turn it is", () => {
  const order = (streams: Streams, count: number): ReadonlyArray<number> =>
    Array.from({ length: count }, () => streams.pollData(1000)?.id ?? -1)

  it("lets streams of one priority take turns", () => {
    const { client } = ends()
    for (let i = 0; i < 3; i++) client.write(client.open(1) ?? -1, data(2500))
    assert.deepStrictEqual(order(client, 10), [0, 2, 4, 0, 2, 4, 0, 2, 4, -1])
  })

  it("sends control first, then what is interactive, then bulk", () => {
    const { client } = ends()
    for (const priority of [Priority.Bulk, Priority.Control, Priority.Interactive]) {
      client.write(client.open(priority) ?? -1, data(2000))
    }
    assert.deepStrictEqual(order(client, 7), [2, 2, 4, 4, 0, 0, -1])
  })

  it("follows a priority that changes while bytes wait", () => {
    const { client } = ends()
    const [first = -1, second = -1] = [client.open(Priority.Interactive), client.open(Priority.Interactive)]
    client.write(first, data(4000))
    client.write(second, data(4000))
    assert.deepStrictEqual(order(client, 2), [first, second])
    client.setPriority(first, Priority.Bulk)
    assert.deepStrictEqual(order(client, 7), [first, second, second, second, first, first, -1])
  })

  it("does not let a stream without credit hold others up", () => {
    const { client } = ends({ maxStreamData: 1500 })
    const [first = -1, second = -1] = [client.open(Priority.Control), client.open(Priority.Bulk)]
    client.write(first, data(5000))
    client.write(second, data(1000))
    assert.deepStrictEqual(order(client, 4), [first, first, second, -1])
    assert.isFalse(client.hasData)
    give(client, { type: "MaxStreamData", id: first, limit: 2000 })
    assert.deepStrictEqual(order(client, 2), [first, -1])
  })

  it("repeats what was lost though the session's credit is used up", () => {
    const { client } = ends({ maxData: 1000 })
    const id = client.open(1) ?? -1
    client.write(id, data(5000))
    const [frame] = poll(client)
    if (frame?.type !== "Stream") throw new Error("no data")
    client.onLost(sentOf(frame))
    assert.deepStrictEqual(poll(client), [frame])
    give(client, { type: "MaxData", limit: 1500 })
    const [more] = poll(client)
    assert.deepStrictEqual(more?.type === "Stream" && [more.offset, more.data.length], [1000, 500])
  })

  it("shares the session's credit", () => {
    const { client } = ends({ maxData: 5000 })
    for (let i = 0; i < 4; i++) client.write(client.open(1) ?? -1, data(10_000))
    assert.deepStrictEqual(order(client, 6), [0, 2, 4, 6, 0, -1])
    give(client, { type: "MaxData", limit: 7000 })
    assert.deepStrictEqual(order(client, 3), [2, 4, -1])
  })
})

describe("Streams: ends", () => {
  it("frees a stream that is stopped after its end has come but was not read", () => {
    const { client, server } = ends()
    const id = client.open(1) ?? -1
    client.write(id, data(10))
    exchange(client, server)
    assert.deepStrictEqual(server.read(id), data(10))
    server.finish(id)
    exchange(client, server)
    client.finish(id)
    exchange(client, server)
    server.stop(id, 1)
    client.stop(id, 1)
    exchange(client, server)
    assert.deepStrictEqual([client.size, server.size], [0, 0])
  })

  it("frees a stream nobody reads when its bare end comes last", () => {
    const { client, server } = ends()
    const id = client.open(1) ?? -1
    client.finish(id)
    exchange(client, server)
    server.finish(id)
    exchange(client, server)
    assert.deepStrictEqual([client.size, server.size], [0, 0])
    assert.deepStrictEqual(types(client), ["StreamReadable", "StreamClosed", "StreamsAvailable"])
    assert.strictEqual(client.read(id), "finished")
  })

  it("keeps a stream whose bytes were not read", () => {
    const { client, server } = ends()
    const id = client.open(1) ?? -1
    client.write(id, data(10))
    client.finish(id)
    exchange(client, server)
    server.finish(id)
    exchange(client, server)
    assert.deepStrictEqual([client.size, server.size], [0, 1])
    assert.deepStrictEqual(server.read(id), data(10))
    assert.strictEqual(server.read(id), "finished")
    assert.strictEqual(server.size, 0)
  })

  it("does not repeat a RESET that was acknowledged, nor say STOP or a limit to a stream whose end is known", () => {
    const { client, server } = ends({ maxStreamData: 1000 })
    const id = client.open(1) ?? -1
    client.write(id, data(900))
    exchange(client, server)
    client.reset(id, 5)
    const [reset] = poll(client)
    client.onAcked(sent("Reset", id))
    client.onLost(sent("Reset", id))
    assert.deepStrictEqual(poll(client), [])
    server.read(id)
    assert.isTrue(server.hasControl)
    assert.deepStrictEqual(reset, { type: "Reset", id, code: 5, finalSize: 900 })
    if (reset !== undefined) give(server, reset)
    server.stop(id, 6)
    assert.deepStrictEqual(poll(server), [])
  })

  it("gives back the credit of what comes after it stopped reading", () => {
    const { client, server } = ends({ maxData: 1000, maxStreamData: 1000 })
    const id = client.open(1) ?? -1
    client.write(id, data(1000))
    const sent = poll(client, 300)
    const [first, ...rest] = sent
    if (first !== undefined) give(server, first)
    server.stop(id, 9)
    assert.deepStrictEqual(poll(server), [{ type: "Stop", id, code: 9 }])
    for (const frame of rest) give(server, frame)
    assert.deepStrictEqual(poll(server), [{ type: "MaxData", limit: 2000 }])
  })

  it("answers STOP with RESET, once", () => {
    const { client, server } = ends()
    const id = client.open(1) ?? -1
    client.write(id, data(10))
    exchange(client, server)
    const stop: Frame.Frame = { type: "Stop", id, code: 9 }
    give(client, stop)
    give(client, stop)
    assert.deepStrictEqual(events(client), [{ type: "StreamStopped", id, code: 9 }])
    assert.deepStrictEqual(poll(client), [{ type: "Reset", id, code: 9, finalSize: 10 }])
    assert.isFalse(client.write(id, data(1)))
  })

  it("tells a reset to who reads, and drops what was unread", () => {
    const { client, server } = ends()
    const id = client.open(1) ?? -1
    client.write(id, data(10))
    exchange(client, server)
    client.reset(id, 5)
    exchange(client, server)
    assert.deepStrictEqual(server.read(id), { reset: 5 })
    assert.deepStrictEqual(types(server), ["StreamOpened", "StreamReadable", "StreamReset"])
  })

  it("knows nothing of a stream that was never opened", () => {
    const { client } = ends()
    assert.strictEqual(client.read(0), "blocked")
    assert.isFalse(client.write(0, data(1)))
    client.finish(0)
    client.reset(0, 1)
    client.stop(0, 1)
    client.setPriority(0, 1)
    assert.deepStrictEqual([client.size, client.buffered(0)], [0, 0])
    assert.deepStrictEqual(poll(client), [])
  })
})

describe("Streams: buffers and windows", () => {
  it("tells once that a buffer has drained below the low-water mark", () => {
    const { client } = ends({ maxData: 2 ** 30, maxStreamData: 2 ** 30 })
    const id = client.open(1) ?? -1
    client.write(id, data(SEND_BUFFER_HIGH / 2 - 1))
    for (const frame of poll(client, 1_000_000)) client.onAcked(sentOf(frame))
    assert.deepStrictEqual(types(client), [])
    client.write(id, data(SEND_BUFFER_HIGH / 2))
    for (const frame of poll(client, 10_000)) client.onAcked(sentOf(frame))
    assert.deepStrictEqual(types(client), ["StreamWritable"])
  })

  it("widens both windows once more than half was read, and says it again when that is lost", () => {
    const { client, server } = ends({ maxData: 1000, maxStreamData: 800 })
    const id = client.open(1) ?? -1
    client.write(id, data(5000))
    const sent = poll(client)
    for (const frame of sent) give(server, frame)
    assert.deepStrictEqual(poll(server), [])
    assert.deepStrictEqual(server.read(id), data(800))
    const updates = poll(server)
    assert.deepStrictEqual(updates, [
      { type: "MaxData", limit: 1800 },
      { type: "MaxStreamData", id, limit: 1600 }
    ])
    for (const frame of updates) server.onLost(sentOf(frame))
    assert.deepStrictEqual(poll(server), updates)
    for (const frame of updates) give(client, frame)
    const [more] = poll(client)
    assert.deepStrictEqual(more?.type === "Stream" && [more.offset, more.data.length], [800, 800])
  })
})
