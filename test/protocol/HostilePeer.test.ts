/** What somebody with good keys can do to a server, and to whoever else is served by it: nothing worth the trouble. */
import { assert, describe, it } from "@effect/vitest"
import { CloseCode } from "../../src/domain/protocol/CloseCode.ts"
import * as Constants from "../../src/domain/protocol/Constants.ts"
import type { Session } from "../../src/domain/protocol/Session.ts"
import type { SessionEvent } from "../../src/domain/protocol/SessionTypes.ts"
import * as Peer from "./HostilePeer.ts"

const { LIMITS } = Peer
const MALLORY = "203.0.113.66"
const MB = 1_000_000
const FETCH = 2_000_000

const bytes = (length: number, fill = 7): Uint8Array => new Uint8Array(length).fill(fill)

/** Milliseconds that the neighbour's two megabytes take while nobody else is there. */
const alone = new Peer.Arena().fetch(FETCH)

/** The neighbour is served as if nobody else were there, or at its half of the line beside a peer that takes the other. */
const unaffected = (arena: Peer.Arena, share: 1 | 2 = 1): void => {
  const took = arena.fetch(FETCH)
  assert.isAtMost(took, alone * share * 1.15, `${FETCH} bytes took ${took} ms, not ${alone}`)
}

/** What `act` leaves in memory, in bytes. */
const kept = (act: () => void): number => {
  const before = Peer.inUse()
  act()
  return Peer.inUse() - before
}

/** An application that reads all there is and ends its own half with the peer's. */
const reading = (session: Session, event: SessionEvent): void => {
  if (event.type === "StreamReset") session.resetStream(event.id, 1)
  if (event.type !== "StreamReadable") return
  for (;;) {
    const got = session.read(event.id)
    if (got instanceof Uint8Array) continue
    if (got !== "blocked") session.finish(event.id)
    return
  }
}

/** An application that writes all it may on every stream that is opened. */
const writing = (size = 65_536) => {
  const fill = (session: Session, id: number): void => {
    while (!session.isFull(id) && session.write(id, new Uint8Array(size))) {}
  }
  return (session: Session, event: SessionEvent): void => {
    if (event.type === "StreamOpened" || event.type === "StreamWritable") fill(session, event.id)
  }
}

const openAll = (arena: Peer.Arena, count = LIMITS.maxStreams): void => {
  for (let i = 0; i < count; i++) arena.mallory.send(Peer.stream(2 * i, 0, bytes(1)))
}

describe("A hostile peer", () => {
  it("never reads: what the server holds for it is what its writers may hold", () => {
    const limits = { ...Peer.GREEDY, maxData: 100_000, maxStreamData: 50_000 }
    const arena = new Peer.Arena({ limits })
    arena.application = writing()
    const most = LIMITS.maxStreams * (Constants.SEND_BUFFER_HIGH + 65_536)
    const held = kept(() => {
      openAll(arena)
      arena.pass(30_000)
    })
    assert.isAtMost(held, most + MB)
    assert.isAtMost(arena.mallory.heard.streamBytes, 100_000 * 1.1)
    unaffected(arena)
    // It goes on for as long as the peer answers, and takes nothing but a PING now and then.
    const before = { ...arena.sentTo(MALLORY) }
    arena.pass(600_000)
    assert.strictEqual(arena.session?.state, "open")
    assert.isAtMost(arena.sentTo(MALLORY).packets - before.packets, 200)
    arena.command((session) => session.close(arena.now, 0, ""))
    arena.pass(10_000)
    assert.isUndefined(arena.session)
  })

  it("opens streams for ever: the one beyond the limit ends the session", () => {
    const arena = new Peer.Arena()
    openAll(arena, LIMITS.maxStreams + 1)
    arena.pass(100)
    assert.strictEqual(arena.mallory.heard.closeCode, CloseCode.StreamLimit)
    unaffected(arena)
  })

  it("opens and resets streams at full speed: nothing remains of them", () => {
    const arena = new Peer.Arena()
    arena.application = reading
    const { mallory } = arena
    let next = 0
    const churn = (count: number): void => {
      for (const end = next + count; next < end; ) {
        while (next >= mallory.heard.maxStreams) assert.isTrue(arena.run(() => next < mallory.heard.maxStreams, 1000))
        const id = 2 * next++
        mallory.send(Peer.stream(id, 0, bytes(100)), Peer.reset(id, 9, 100), Peer.stop(id, 9))
      }
      arena.pass(1000)
    }
    churn(1000)
    assert.isAtMost(
      kept(() => churn(10_000)),
      MB
    )
    assert.deepStrictEqual([arena.session?.openStreams, mallory.heard.closeCode], [0, undefined])
    assert.isAtMost(arena.sentTo(MALLORY).packets, 3 * mallory.packets)
    unaffected(arena)
  })

  it("acknowledges what was never sent: the session ends", () => {
    for (const ranges of [
      [[500, 500]],
      [[0, 2 ** 52 - 1]],
      [
        [2 ** 40, 2 ** 40],
        [0, 0]
      ]
    ] as const) {
      const arena = new Peer.Arena()
      arena.mallory.send(Peer.ack(ranges))
      arena.pass(100)
      assert.strictEqual(arena.mallory.heard.closeCode, CloseCode.Protocol)
      unaffected(arena)
    }
  })

  it("acknowledges ahead of what arrives: it steps on a number that was left out", () => {
    const arena = new Peer.Arena()
    arena.application = writing()
    const { mallory } = arena
    openAll(arena, 1)
    mallory.onPacket = (packetNumber) => {
      // What must be under way, a window's worth at least.
      if (packetNumber % 8 === 0) mallory.send(Peer.ack([[0, packetNumber + 8]]))
    }
    assert.isTrue(arena.run(() => mallory.heard.closeCode !== undefined, 5000))
    assert.strictEqual(mallory.heard.closeCode, CloseCode.Protocol)
    assert.isAtMost(arena.sentTo(MALLORY).packets, 3 * Constants.SKIP_PACKETS)
    unaffected(arena)
  })

  const orders: Readonly<Record<string, (length: number) => ReadonlyArray<number>>> = {
    "in order": (length) => Array.from({ length }, (_, i) => i),
    "the last first": (length) => Array.from({ length }, (_, i) => length - 1 - i),
    "every second first": (length) => Array.from({ length }, (_, i) => ((2 * i) % length) + (2 * i >= length ? 1 : 0))
  }
  for (const [name, order] of Object.entries(orders)) {
    it(`sends one byte at a time, ${name}: it is heard, and costs no more than its window`, () => {
      const arena = new Peer.Arena()
      const { mallory } = arena
      const length = name === "in order" ? 8192 : 2000
      const held = kept(() => {
        for (const [i, offset] of order(length).entries()) {
          mallory.send(Peer.stream(0, offset, bytes(1, offset & 0xff)))
          if (i % 32 === 31) arena.pass(1)
        }
        arena.pass(100)
      })
      assert.isAtMost(held, MB)
      let read = 0
      for (let got = arena.session?.read(0); got instanceof Uint8Array; got = arena.session?.read(0)) {
        assert.isTrue(got.every((byte, i) => byte === ((read + i) & 0xff)))
        read += got.length
      }
      assert.strictEqual(read, length)
      assert.isAtMost(arena.sentTo(MALLORY).bytes, mallory.bytes * 2)
      unaffected(arena)
    })
  }

  it("leaves as many gaps as it can: beyond what loss explains the session ends", () => {
    const arena = new Peer.Arena()
    const { mallory } = arena
    const held = kept(() => {
      for (let offset = 1; mallory.heard.closeCode === undefined && offset < LIMITS.maxStreamData; offset += 2) {
        mallory.send(Peer.stream(0, offset, bytes(1)))
        if (offset % 64 === 1) arena.pass(1)
      }
      arena.pass(100)
    })
    assert.strictEqual(mallory.heard.closeCode, CloseCode.FlowControl)
    assert.isAtMost(held, MB)
    unaffected(arena)
  })

  it("spreads single bytes over all windows: no more is held than the windows promise, twice", () => {
    const arena = new Peer.Arena()
    const { mallory } = arena
    const held = kept(() => {
      for (let offset = 4095; offset < LIMITS.maxStreamData; offset += 4096) {
        for (let i = 0; i < LIMITS.maxData / LIMITS.maxStreamData; i++) {
          mallory.send(Peer.stream(2 * i, offset, bytes(1)))
        }
        arena.pass(1)
      }
    })
    assert.isUndefined(mallory.heard.closeCode)
    assert.isAtMost(held, 2 * LIMITS.maxData + MB)
    unaffected(arena)
  })

  it("wraps single bytes into the longest packets: the packets are not kept for them", () => {
    for (const far of [0, 1]) {
      const arena = new Peer.Arena()
      const held = kept(() => {
        for (let i = 0; i < 8000; i++) {
          const packet = arena.mallory.seal([Peer.stream(0, i + far, bytes(1))], 1168)
          arena.arrive(arena.mallory.address, packet)
          if (i % 32 === 31) arena.pass(1)
        }
        arena.pass(100)
      })
      assert.isUndefined(arena.mallory.heard.closeCode)
      assert.isAtMost(held, MB)
      unaffected(arena)
    }
  })

  it("makes the windows grow and then is read no more: what is held is what they promise", () => {
    const small = { ...LIMITS, maxData: 65_536, maxStreamData: 16_384 }
    const arena = new Peer.Arena({ serverLimits: small })
    const { mallory } = arena
    let reads = true
    arena.application = (session, event) => {
      if (reads) reading(session, event)
    }
    let sent = 0
    const pour = (): void => {
      const end = Math.min(mallory.heard.maxData, mallory.heard.maxStreamData.get(0) ?? small.maxStreamData)
      for (; sent + 1100 <= end; sent += 1100) mallory.send(Peer.stream(0, sent, bytes(1100)))
      arena.pass(20)
    }
    for (let i = 0; i < 100; i++) pour()
    reads = false
    const held = kept(() => {
      for (let i = 0; i < 50; i++) pour()
    })
    assert.isUndefined(mallory.heard.closeCode)
    assert.isAtMost(held, 2 * Constants.WINDOW_GROWTH * small.maxStreamData + MB / 10)
    unaffected(arena)
  })

  it("floods with what wants an answer: it gets fewer bytes than it sent", () => {
    const floods: Readonly<Record<string, ReadonlyArray<Uint8Array>>> = {
      PING: new Array<Uint8Array>(500).fill(Peer.ping),
      PATH_CHALLENGE: Array.from({ length: 120 }, (_, i) => Peer.pathChallenge(i)),
      MAX: Array.from({ length: 60 }, (_, i) => [
        Peer.maxData(i * MB),
        Peer.maxStreams(i),
        Peer.maxStreamData(0, i * 1000)
      ]).flat(),
      DATAGRAM: Array.from({ length: 300 }, () => Peer.datagram(bytes(1))),
      STOP: Array.from({ length: LIMITS.maxStreams }, (_, i) => Peer.stop(2 * i, 3))
    }
    for (const [name, frames] of Object.entries(floods)) {
      const arena = new Peer.Arena()
      const { mallory } = arena
      openAll(arena)
      arena.pass(100)
      const before = { ...arena.sentTo(MALLORY) }
      const from = mallory.bytes
      let worst = 0
      const held = kept(() => {
        for (let i = 0; i < 1500; i++) {
          mallory.send(...frames)
          if (i % 8 === 7) arena.pass(1)
          worst = Math.max(worst, arena.server.held)
        }
        arena.pass(100)
      })
      assert.isAtMost(held, MB, name)
      assert.isAtMost(worst, 32, name)
      assert.isAtMost(arena.sentTo(MALLORY).bytes - before.bytes, mallory.bytes - from, name)
      assert.isUndefined(mallory.heard.closeCode, name)
      unaffected(arena)
    }
  })

  it("stops every stream: what was to be written there is let go", () => {
    const arena = new Peer.Arena({ limits: { ...Peer.GREEDY, maxData: 0 } })
    arena.application = writing()
    const held = kept(() => {
      openAll(arena)
      arena.pass(100)
      for (let i = 0; i < LIMITS.maxStreams; i++) arena.mallory.send(Peer.stop(2 * i, 3))
      arena.pass(100)
    })
    assert.isAtMost(held, MB)
    assert.strictEqual(arena.mallory.heard.resets.size, LIMITS.maxStreams)
    unaffected(arena)
  })

  it("acknowledges one packet of a hundred: what is kept for it is what its writer may hold", () => {
    const arena = new Peer.Arena()
    arena.application = writing()
    const { mallory } = arena
    openAll(arena, 1)
    arena.pass(1000)
    mallory.onPacket = (packetNumber) => {
      if (packetNumber % 100 === 0) mallory.send(Peer.ack([[packetNumber, packetNumber]]))
      else if (packetNumber % 10 === 0) mallory.send(Peer.ping)
    }
    const before = arena.sentTo(MALLORY).packets
    const held = kept(() => arena.pass(120_000))
    assert.isAtLeast(arena.sentTo(MALLORY).packets - before, 500)
    assert.isAtMost(held, Constants.SEND_BUFFER_HIGH + MB)
    unaffected(arena, 2)
  })

  it("acknowledges nothing and keeps talking: what is kept for it is bounded", () => {
    const arena = new Peer.Arena()
    arena.application = writing()
    const { mallory } = arena
    mallory.onPacket = () => undefined
    openAll(arena)
    const talk = (packets: number): void => {
      for (let i = 0; i < packets; i++) {
        mallory.send(Peer.ping)
        if (i % 16 === 15) arena.pass(1)
      }
    }
    talk(1000)
    const first = kept(() => talk(Constants.MAX_TRACKED_PACKETS))
    const second = kept(() => talk(8000))
    assert.isAtMost(first, 16 * MB)
    assert.isAtMost(second, MB)
    unaffected(arena)
  })

  it("lowers its limits and raises them beyond measure: old limits stay, large ones are only numbers", () => {
    const arena = new Peer.Arena({ limits: { ...Peer.GREEDY, maxData: 10_000, maxStreamData: 10_000, maxStreams: 2 } })
    const { mallory } = arena
    mallory.send(Peer.maxData(1), Peer.maxStreams(0))
    arena.pass(100)
    const first = arena.command((session) => session.openStream(1)) ?? -1
    assert.strictEqual(first, 1)
    arena.command((session) => session.write(first, bytes(20_000)))
    mallory.send(Peer.maxStreamData(first, 1))
    arena.pass(1000)
    assert.strictEqual(mallory.heard.streamBytes, 10_000)
    const huge = Number.MAX_SAFE_INTEGER
    mallory.send(Peer.maxData(huge), Peer.maxStreamData(first, huge), Peer.maxStreams(Constants.MAX_STREAMS))
    arena.pass(1000)
    assert.strictEqual(mallory.heard.streamBytes, 20_000)
    mallory.send(Peer.maxStreams(Constants.MAX_STREAMS + 1))
    arena.pass(100)
    assert.strictEqual(mallory.heard.closeCode, CloseCode.Protocol)
    unaffected(arena)
  })

  it("seems to move with every packet: the server stays, and tells strangers little", () => {
    const arena = new Peer.Arena()
    const { mallory } = arena
    for (let i = 0; i < 5000; i++) {
      mallory.address = { host: `203.0.113.${i % 200}`, port: 10_000 + i }
      mallory.send(Peer.ping)
      if (i % 8 === 7) arena.pass(1)
    }
    arena.pass(100)
    assert.deepStrictEqual(arena.session?.remote.host, MALLORY)
    for (const [host, { bytes: out }] of arena.sent) {
      if (host !== MALLORY && host.startsWith("203.")) {
        assert.isAtMost(out, Constants.MAX_UNPROVEN_FACTOR * 25 * 48, host)
      }
    }
    assert.isAtMost(arena.server.held, 20)
    unaffected(arena)
  })

  it("sends one packet ten thousand times, and after its end: nothing follows", () => {
    const arena = new Peer.Arena()
    const { mallory } = arena
    const packet = mallory.seal([Peer.ping])
    const before = arena.sentTo(MALLORY).packets
    for (let i = 0; i < 10_000; i++) {
      arena.arrive(mallory.address, Uint8Array.from(packet))
      if (i % 100 === 99) arena.pass(1)
    }
    assert.strictEqual(arena.server.drops.replayed, 9_999)
    assert.isAtMost(arena.sentTo(MALLORY).packets - before, 3)
    arena.command((session) => session.close(arena.now, 7, "enough"))
    const closing = arena.sentTo(MALLORY).packets
    for (let i = 0; i < 4000; i++) mallory.send(Peer.ping)
    arena.pass(0)
    assert.isAtMost(arena.sentTo(MALLORY).packets - closing, 14)
    arena.pass(10_000)
    assert.isUndefined(arena.session)
    unaffected(arena)
  })
})
