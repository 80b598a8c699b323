/**
 * Both sides of every rival on top of a duplex stream (`on("data")`, `write` that answers false when full, `drain`,
 * `end`, `destroy`). Questions and answers are those of ../TransportWorker.ts.
 */
import { serve } from "../Harness.ts"
import * as Traffic from "../Traffic.ts"

const { Mode, HEADER_BYTES, MESSAGE_BYTES } = Traffic
const sinks = new Traffic.Sinks()

const roles = {
  [Mode.Echo]: (stream) => ({ take: (bytes) => stream.write(bytes), end: () => stream.end() }),
  [Mode.Sink]: (stream, flow) => {
    const sink = sinks.start(flow)
    const take = (bytes) => {
      sink.take(bytes)
      sink.mark()
    }
    return { take, end: () => stream.end(Buffer.of(1)) }
  },
  [Mode.Hash]: (stream) => {
    const hash = Traffic.sha256()
    return { take: (bytes) => hash.update(bytes), end: () => stream.end(hash.digest()) }
  }
}

/** The listener's side of one stream. */
export const attend = (stream) => {
  let role
  let early = Buffer.alloc(0)
  stream.on("error", () => {})
  stream.on("data", (bytes) => {
    if (role !== undefined) return role.take(bytes)
    early = Buffer.concat([early, bytes])
    if (early.length < HEADER_BYTES) return
    role = roles[early[0]](stream, early[1])
    if (early.length > HEADER_BYTES) role.take(early.subarray(HEADER_BYTES))
  })
  stream.on("end", () => role?.end())
}

export const serveListener = (port) => serve({ port: () => port, received: (flow) => sinks.received(flow) })

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const drained = (stream) => new Promise((resolve) => stream.once("drain", resolve))

/** Sends the block over and over until told to stop. */
const pump = async (stream, flow, state) => {
  stream.write(Traffic.header(Mode.Sink, flow))
  while (!state.stop) if (!stream.write(Traffic.block)) await drained(stream)
}

/** `count` messages, each after the echo of the one before: ms of each. */
const pingPong = (stream, count) =>
  new Promise((resolve) => {
    const message = new Uint8Array(MESSAGE_BYTES).fill(7)
    const took = []
    let got = 0
    let start = performance.now()
    stream.on("data", (bytes) => {
      got += bytes.length
      if (got < MESSAGE_BYTES) return
      got = 0
      took.push(performance.now() - start)
      if (took.length === count) return resolve(took)
      start = performance.now()
      stream.write(message)
    })
    stream.write(message)
  })

/** A message every 100 ms for so many seconds, whatever comes back: ms of each. */
const chatter = async (stream, seconds) => {
  const sent = []
  const took = []
  let got = 0
  stream.on("data", (bytes) => {
    got += bytes.length
    for (; got >= MESSAGE_BYTES; got -= MESSAGE_BYTES) took.push(performance.now() - sent[took.length])
  })
  const message = new Uint8Array(MESSAGE_BYTES).fill(7)
  const end = performance.now() + seconds * 1000
  while (performance.now() < end) {
    sent.push(performance.now())
    stream.write(message)
    await sleep(Traffic.CHAT_EVERY_MS)
  }
  for (let i = 0; i < 100 && took.length < sent.length; i++) await sleep(100)
  // What never came back has taken so long at least.
  while (took.length < sent.length) took.push(performance.now() - sent[took.length])
  return took
}

/** Answers for a client. `dial` makes a session: `open()` gives a stream, `close()` ends all at once. */
export const serveClient = (dial, flow) => {
  const within = async (use) => {
    const session = await dial()
    try {
      return await use(session)
    } finally {
      await session.close()
    }
  }
  const opened = async (session, mode) => {
    const stream = await session.open()
    stream.on("error", () => {})
    stream.write(Traffic.header(mode, flow))
    return stream
  }
  const chat = (seconds, busy) =>
    within(async (session) => {
      const state = { stop: false }
      if (busy) {
        void pump(await session.open(), flow, state)
        await sleep(Math.min(3000, seconds * 500))
      }
      const took = await chatter(await opened(session, Mode.Echo), seconds)
      state.stop = true
      return took
    })
  serve({
    greet: async (count) => {
      const greetings = []
      for (let i = 0; i < count; i++) {
        const start = performance.now()
        const session = await dial()
        const ready = performance.now() - start
        await pingPong(await opened(session, Mode.Echo), 1)
        greetings.push({ ready, answer: performance.now() - start })
        await session.close()
      }
      return greetings
    },
    echo: (count) => within(async (session) => pingPong(await opened(session, Mode.Echo), count)),
    bulk: (seconds) =>
      within(async (session) => {
        const stream = await session.open()
        stream.on("error", () => {})
        stream.on("data", () => {})
        const state = { stop: false }
        const from = Traffic.nowMs()
        void pump(stream, flow, state)
        await sleep(seconds * 1000)
        state.stop = true
        return { from, to: Traffic.nowMs() }
      }),
    hash: (bytes) =>
      within(async (session) => {
        const stream = await opened(session, Mode.Hash)
        const answer = new Promise((resolve) => {
          const chunks = []
          stream.on("data", (chunk) => chunks.push(chunk)).on("end", () => resolve(Buffer.concat(chunks)))
        })
        const pieces = Traffic.hashed(bytes)
        for (;;) {
          const { done, value } = pieces.next()
          if (done) {
            stream.end()
            return value.equals(await answer)
          }
          if (!stream.write(value)) await drained(stream)
        }
      }),
    chat: (seconds) => chat(seconds, true),
    calm: (seconds) => chat(seconds, false)
  })
}

/** A session for what has one stream a connection: each further stream is a connection of its own. */
export const singles = (connect) => async () => {
  let first = await connect()
  const all = [first]
  return {
    open: async () => {
      const stream = first ?? (await connect())
      if (first === undefined) all.push(stream)
      first = undefined
      return stream
    },
    close: () => {
      for (const stream of all) stream.destroy()
    }
  }
}
