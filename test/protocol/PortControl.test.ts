import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as PortControl from "../../src/domain/protocol/PortControl.ts"

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replace(/\s/g, ""), "hex"))
const REQUEST: PortControl.MapRequest = {
  nonce: bytes("000102030405060708090a0b"),
  client: "192.168.1.7",
  port: 50_123,
  wanted: { host: undefined, port: 50_123 },
  lifetime: 7200
}
/** RFC 6887 figures 3 and 10, by hand. */
const PCP_ANSWER = `02 81 00 00 00000e10 0000002a 000000000000000000000000
  000102030405060708090a0b 11 000000 c3cb ee48 00000000000000000000ffffc633644d`

describe("PortControl", () => {
  it("writes PCP's requests as RFC 6887 sections 7.1 and 11.1 have them", () => {
    assert.deepStrictEqual(
      PortControl.pcpMap(REQUEST),
      bytes(`02 01 0000 00001c20 00000000000000000000ffffc0a80107
        000102030405060708090a0b 11 000000 c3cb c3cb 00000000000000000000ffff00000000`)
    )
    assert.deepStrictEqual(
      PortControl.pcpMap({ ...REQUEST, wanted: { host: "198.51.100.77", port: 61_000 }, lifetime: 0 }),
      bytes(`02 01 0000 00000000 00000000000000000000ffffc0a80107
        000102030405060708090a0b 11 000000 c3cb ee48 00000000000000000000ffffc633644d`)
    )
    assert.deepStrictEqual(
      PortControl.pcpAnnounce("192.168.1.7"),
      bytes("02 00 0000 00000000 00000000000000000000ffffc0a80107")
    )
  })

  it("writes NAT-PMP's as RFC 6886 sections 3.2 to 3.4 have them", () => {
    assert.deepStrictEqual(PortControl.natPmpAddress(), bytes("00 00"))
    assert.deepStrictEqual(PortControl.natPmpMap(REQUEST), bytes("00 01 0000 c3cb c3cb 00001c20"))
    // Given back: the outside port must be 0.
    assert.deepStrictEqual(PortControl.natPmpMap({ ...REQUEST, lifetime: 0 }), bytes("00 01 0000 c3cb 0000 00000000"))
  })

  it("reads the answers", () => {
    assert.deepStrictEqual(PortControl.decodePcpMap(bytes(PCP_ANSWER), REQUEST), {
      type: "mapped",
      host: "198.51.100.77",
      port: 61_000,
      lifetime: 3600
    })
    assert.deepStrictEqual(PortControl.decodeNatPmpMap(bytes("00 81 0000 0000002a c3cb ee48 00000e10"), REQUEST), {
      type: "mapped",
      host: undefined,
      port: 61_000,
      lifetime: 3600
    })
    assert.deepStrictEqual(PortControl.decodeNatPmpAddress(bytes("00 80 0000 0000002a c633644d")), {
      host: "198.51.100.77"
    })
    assert.strictEqual(PortControl.decodePcpAnnounce(bytes(`02 80 00 00 00000000 0000002a ${"00".repeat(12)}`)), true)
    assert.strictEqual(PortControl.decodePcpAnnounce(bytes("00 80 0001 0000002a")), false)
  })

  it("tells a router of the other version from one that refuses", () => {
    const other = { type: "otherVersion" } as const
    assert.deepStrictEqual(PortControl.decodePcpMap(bytes("00 81 0001 0000002a"), REQUEST), other)
    assert.deepStrictEqual(
      PortControl.decodePcpMap(bytes(PCP_ANSWER.replace("02 81 00 00", "02 81 00 01")), REQUEST),
      other
    )
    assert.deepStrictEqual(PortControl.decodeNatPmpMap(bytes("00 81 0001 0000002a"), REQUEST), other)
    assert.strictEqual(
      PortControl.decodePcpMap(bytes(PCP_ANSWER.replace("02 81 00 00", "02 81 00 0a")), REQUEST)?.type,
      "refused"
    )
    assert.strictEqual(PortControl.decodeNatPmpMap(bytes("00 81 0002 0000002a"), REQUEST)?.type, "refused")
    assert.deepInclude(PortControl.decodeNatPmpAddress(bytes("00 80 0003 0000002a 00000000")), { type: "refused" })
  })

  it("passes over requests, answers to something else, and what is cut short", () => {
    const answer = bytes(PCP_ANSWER)
    for (let length = 0; length < answer.length; length++) {
      assert.isUndefined(PortControl.decodePcpMap(answer.subarray(0, length), REQUEST), String(length))
    }
    for (let at = 24; at < 42; at++) {
      // Reserved bytes say nothing.
      if (at >= 37 && at < 40) continue
      const changed = Uint8Array.from(answer)
      changed[at] = (changed[at] as number) ^ 0x80
      assert.isUndefined(PortControl.decodePcpMap(changed, REQUEST), String(at))
    }
    assert.isUndefined(PortControl.decodePcpMap(PortControl.pcpMap(REQUEST), REQUEST))
    assert.isUndefined(PortControl.decodeNatPmpMap(PortControl.natPmpMap(REQUEST), REQUEST))
    assert.isUndefined(PortControl.decodeNatPmpMap(bytes("00 82 0000 0000002a c3cb ee48 00000e10"), REQUEST))
    assert.isUndefined(PortControl.decodeNatPmpMap(bytes("00 81 0000 0000002a c3cc ee48 00000e10"), REQUEST))
    assert.isUndefined(PortControl.decodeNatPmpAddress(bytes("00 80 0000 0000002a c63364")))
  })

  it("never throws, whatever comes", () => {
    const prefix = fc.constantFrom<ReadonlyArray<number>>([], [0, 0x80], [0, 0x81], [2, 0x80, 0, 0], [2, 0x81, 0, 0])
    fc.assert(
      fc.property(prefix, fc.uint8Array({ maxLength: 80 }), (head, tail) => {
        const datagram = Uint8Array.of(...head, ...tail)
        const mapped = [
          PortControl.decodePcpMap(datagram, REQUEST),
          PortControl.decodeNatPmpMap(datagram, REQUEST),
          PortControl.decodeNatPmpAddress(datagram)
        ]
        PortControl.decodePcpAnnounce(datagram)
        for (const one of mapped) {
          if (one !== undefined && "lifetime" in one) assert.isBelow(one.port, 65_536)
        }
      }),
      { seed: 3, numRuns: 2000 }
    )
  })
})
