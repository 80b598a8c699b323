/**
 * Sends bursts to itself and takes its buffer back after each; prints how many datagrams came with other bytes than were
 * in it. For a Node that is told to queue every datagram.
 */
import * as Effect from "effect/Effect"
import * as UdpSocketNode from "../../src/layers/UdpSocketNode.ts"
import { UdpSocket } from "../../src/services/UdpSocket.ts"

const ROUNDS = 20
const COUNT = 40
const SEGMENT = 1200

const program = Effect.gen(function* () {
  const { bind } = yield* UdpSocket
  const a = yield* bind({ host: "127.0.0.1", port: 0 })
  const b = yield* bind({ host: "127.0.0.1", port: 0 })
  const bytes = new Uint8Array(COUNT * SEGMENT)
  let wrong = 0
  for (let round = 1; round <= ROUNDS; round++) {
    for (let i = 0; i < COUNT; i++) bytes.fill(round + i, i * SEGMENT, (i + 1) * SEGMENT)
    yield* a.send([{ bytes, segment: SEGMENT, remote: b.address }])
    bytes.fill(0)
    for (let got = 0; got < COUNT; ) {
      for (const datagram of yield* b.receive) {
        const expected = round + got++
        if (datagram.bytes.length !== SEGMENT || datagram.bytes.some((byte) => byte !== expected)) wrong++
      }
    }
  }
  process.stdout.write(`${wrong} wrong of ${ROUNDS * COUNT}`)
})

void Effect.runPromise(Effect.provide(Effect.scoped(program), UdpSocketNode.layer))
