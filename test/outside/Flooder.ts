/**
 * A process that floods one port of this host: `node Flooder.ts`, its orders as JSON on standard input, what became of them as
 * JSON on standard output. It speaks from several addresses and counts whatever comes back to any of them.
 */
import { randomBytes } from "node:crypto"
import { text } from "node:stream/consumers"
import { setTimeout } from "node:timers/promises"
import * as Effect from "effect/Effect"
import * as UdpSocketLinux from "../../src/layers/UdpSocketLinux.ts"
import { type BoundSocket, type Burst, UdpSocket } from "../../src/services/UdpSocket.ts"

export interface Orders {
  readonly port: number
  /** Datagrams to send. */
  readonly count: number
  /** Datagrams a second; 0 for as many as go. */
  readonly rate: number
  /** Recorded datagrams, sent again as they are; hexadecimal. */
  readonly replays: ReadonlyArray<string>
  /** First bytes that lead somewhere (a connection id, a hint), with the length of the garbage that they begin; hexadecimal. */
  readonly prefixes: ReadonlyArray<{ readonly bytes: string; readonly length: number }>
}

export interface Outcome {
  readonly sent: number
  readonly seconds: number
  /** Bytes that came back. */
  readonly received: number
}

const SOURCES = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]
const BATCH = 64
/** Bytes of each piece of junk that are new each time it is sent. */
const FRESH = 4

const hex = (digits: string): Uint8Array => Uint8Array.from(Buffer.from(digits, "hex"))
const junk = (length: number): Uint8Array => Uint8Array.from(randomBytes(length))

/** One of eight each: a replay, garbage behind bytes that lead somewhere; two of a first flight's length, four of any. */
const batchOf = (orders: Orders, salt: number): ReadonlyArray<Burst> => {
  const remote = { host: "127.0.0.1", port: orders.port }
  return Array.from({ length: BATCH }, (_, i) => {
    const turn = (salt * BATCH + i) >> 3
    const replay = orders.replays[turn % Math.max(orders.replays.length, 1)]
    const prefix = orders.prefixes[turn % Math.max(orders.prefixes.length, 1)]
    if (i % 8 === 0 && replay !== undefined) return { bytes: hex(replay), remote }
    if (i % 8 === 1 && prefix !== undefined) {
      const bytes = junk(prefix.length)
      bytes.set(hex(prefix.bytes))
      return { bytes, remote }
    }
    return { bytes: junk(i % 8 < 4 ? 1200 : 16 * (1 + ((salt * 31 + i * 7) % 75))), remote }
  })
}

const flood = (orders: Orders) =>
  Effect.gen(function* () {
    const udp = yield* UdpSocket
    const sockets: Array<BoundSocket> = []
    let received = 0
    for (const host of SOURCES) {
      const socket = yield* udp.bind({ host, port: 0 })
      sockets.push(socket)
      const listen = Effect.forever(
        Effect.map(socket.receive, (batch) => {
          for (const { bytes } of batch) received += bytes.length
        })
      )
      yield* Effect.forkScoped(Effect.ignore(listen))
    }
    const batches = Array.from({ length: 64 }, (_, salt) => batchOf(orders, salt))
    const start = performance.now()
    let sent = 0
    for (let n = 0; sent < orders.count; n++) {
      const batch = batches[n % batches.length] as ReadonlyArray<Burst>
      for (const [i, { bytes }] of batch.entries()) {
        if (i % 8 > 1) new DataView(bytes.buffer).setUint32(bytes.length - FRESH, sent + i)
      }
      yield* (sockets[n % sockets.length] as BoundSocket).send(batch)
      sent += batch.length
      const ahead = orders.rate === 0 ? 0 : (1000 * sent) / orders.rate - (performance.now() - start)
      if (ahead > 1) yield* Effect.promise(() => setTimeout(ahead))
      else if (n % 16 === 0) yield* Effect.yieldNow
    }
    const seconds = (performance.now() - start) / 1000
    // What is on its way back yet.
    yield* Effect.promise(() => setTimeout(200))
    return { sent, seconds, received } satisfies Outcome
  }).pipe(Effect.scoped, Effect.provide(UdpSocketLinux.layer))

if (import.meta.main) {
  const orders: Orders = JSON.parse(await text(process.stdin))
  process.stdout.write(JSON.stringify(await Effect.runPromise(flood(orders))))
}
