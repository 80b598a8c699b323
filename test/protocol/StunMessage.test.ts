import { existsSync, readFileSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as AddressCodec from "../../src/domain/protocol/AddressCodec.ts"
import * as Stun from "../../src/domain/protocol/StunMessage.ts"
import { stunPrimitives } from "../../src/layers/StunPrimitivesNode.ts"

const { Attribute, Method } = Stun
const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex.replaceAll(/\s/g, ""), "hex"))
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")
const id = bytesOf("b7e7a701bc34d686fa87dfae")

const read = (bytes: Uint8Array): Stun.Message => {
  const message = Stun.decode(bytes)
  assert.isDefined(message)
  return message
}

// RFC 5769 section 2, as published.
const PASSWORD = "VOkJxbRl1RmTxUk/WvJxBt"
const REQUEST = bytesOf(`
  00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573 7420636c 69656e74 00240004 6e0001ff
  80290008 932ff9b1 51263b36 00060009 6576746a 3a683676 59202020 00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249
  c1b571a2 80280004 e57a3bcf`)
const RESPONSE_V4 = bytesOf(`
  0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220 00200008 0001a147 e112a643
  00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7 80280004 c07d4c96`)
const RESPONSE_V6 = bytesOf(`
  01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220 00200014 0002a147 0113a9fa
  a5d3f179 bc25f4b5 bed2b9d9 00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c`)
const LONG_TERM = bytesOf(`
  00010060 2112a442 78ad3433 c6ad72c0 29da412e 00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000 0015001c
  662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341 0014000b 6578616d 706c652e 6f726700 00080014
  f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666`)

describe("the vectors of RFC 5769", () => {
  const key = Stun.shortTermKey(PASSWORD)

  it("2.1: a request", () => {
    const message = read(REQUEST)
    assert.deepInclude(message, { class: "request", method: Method.binding })
    assert.deepStrictEqual(message.transactionId, id)
    assert.strictEqual(Stun.text(message, Attribute.software), "STUN test client")
    assert.strictEqual(Stun.text(message, Attribute.username), "evtj:h6vY")
    assert.strictEqual(Stun.u32(message, 0x24), 0x6e0001ff)
    assert.isTrue(Stun.verify(message, stunPrimitives, key))
    assert.isFalse(Stun.verify(message, stunPrimitives, Stun.shortTermKey("another")))
  })

  it("2.2, 2.3: responses", () => {
    for (const [bytes, host] of [
      [RESPONSE_V4, "192.0.2.1"],
      [RESPONSE_V6, "2001:db8:1234:5678:11:2233:4455:6677"]
    ] as const) {
      const message = read(bytes)
      assert.strictEqual(message.class, "success")
      assert.deepStrictEqual(Stun.mappedAddress(message), { host, port: 32853 })
      assert.strictEqual(Stun.text(message, Attribute.software), "test vector")
      assert.isTrue(Stun.verify(message, stunPrimitives, key))
    }
  })

  it("2.4: a long-term credential", () => {
    const message = read(LONG_TERM)
    const username = "マトリックス"
    assert.strictEqual(Stun.text(message, Attribute.username), username)
    assert.strictEqual(Stun.text(message, Attribute.realm), "example.org")
    assert.strictEqual(Stun.text(message, Attribute.nonce), "f//499k954d6OL34oL9FSTvy64sA")
    assert.isTrue(
      Stun.verify(message, stunPrimitives, Stun.longTermKey(stunPrimitives, username, "example.org", "TheMatrIX"))
    )
    const written = new Stun.StunWriter("request", Method.binding, message.transactionId)
      .text(Attribute.username, username)
      .text(Attribute.nonce, "f//499k954d6OL34oL9FSTvy64sA")
      .text(Attribute.realm, "example.org")
      .integrity(stunPrimitives, Stun.longTermKey(stunPrimitives, username, "example.org", "TheMatrIX"))
    assert.strictEqual(hexOf(written.finish()), hexOf(LONG_TERM))
  })

  it("any changed bit is seen", () => {
    for (const bytes of [REQUEST, RESPONSE_V4, RESPONSE_V6, LONG_TERM]) {
      const key =
        bytes === LONG_TERM
          ? Stun.longTermKey(stunPrimitives, "マトリックス", "example.org", "TheMatrIX")
          : Stun.shortTermKey(PASSWORD)
      // Behind the integrity attribute anything may stand: there only a FINGERPRINT that is still one is looked at.
      const end = bytes === LONG_TERM ? bytes.length : bytes.length - 8
      for (let bit = 0; bit < 8 * end; bit++) {
        const changed = Uint8Array.from(bytes)
        changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7))
        const message = Stun.decode(changed)
        assert.isFalse(message !== undefined && Stun.verify(message, stunPrimitives, key), `bit ${bit}`)
      }
    }
  })
})

const file = path.resolve(import.meta.dirname, "../../../shared/vectors/stun/rfc5769_rfc8489.json")
const present = existsSync(file)
describe.skipIf(!present)(`published vectors${present ? "" : " (skipped: ../shared/vectors is not here)"}`, () => {
  it("RFC 8489 B.1: USERHASH and MESSAGE-INTEGRITY-SHA256", () => {
    const { vectors }: { vectors: ReadonlyArray<Record<string, string>> } = JSON.parse(readFileSync(file, "utf8"))
    const vector = vectors.find((one) => one.id === "SAMPLE_REQUEST_LONG_TERM_AUTH_SHA256") ?? {}
    const bytes = bytesOf(vector.hex ?? "")
    const { realm = "", username = "" } = vector
    const message = read(bytes)
    assert.deepStrictEqual(Stun.value(message, Attribute.userhash), Stun.userhash(stunPrimitives, username, realm))
    const key = Stun.longTermKey(stunPrimitives, username, realm, vector.password_prepped ?? "")
    const key256 = Stun.longTermKey(stunPrimitives, username, realm, vector.password_prepped ?? "", "sha256")
    assert.isTrue([key, key256].some((one) => Stun.verify(message, stunPrimitives, one)))
  })

  it("messages of others are read or refused, never thrown at", () => {
    const chrome = path.resolve(path.dirname(file), "pion-testdata/ex1_chrome.stun")
    const text = readFileSync(chrome)
    const message = Stun.decode(new Uint8Array(text))
    assert.strictEqual(message?.method ?? Method.binding, Method.binding)
  })
})

const hosts = fc.oneof(fc.ipV4(), fc.ipV6()).map((host) => AddressCodec.canonicalHost(host) ?? "192.0.2.1")
const addresses = fc.record({ host: hosts, port: fc.integer({ min: 1, max: 65535 }) })
const bytes = (minLength: number, maxLength: number) => fc.uint8Array({ minLength, maxLength })

describe("StunMessage", () => {
  it("every class and method comes back", () => {
    for (const kind of ["request", "indication", "success", "error"] as const) {
      for (let method = 0; method < 0x1000; method += 7) {
        const message = read(new Stun.StunWriter(kind, method, id).finish())
        assert.deepInclude(message, { class: kind, method })
      }
    }
  })

  it("attributes come back", () => {
    fc.assert(
      fc.property(addresses, bytes(12, 12), bytes(0, 40), bytes(1, 64), (address, transactionId, data, key) => {
        const written = new Stun.StunWriter("success", Method.allocate, transactionId)
          .attribute(Attribute.data, data)
          .address(Attribute.otherAddress, address)
          .xorAddress(Attribute.xorMappedAddress, address)
          .xorAddress(Attribute.xorPeerAddress, address)
          .xorAddress(Attribute.xorPeerAddress, { host: "192.0.2.7", port: 7 })
          .u32(Attribute.lifetime, 0xfffffff0)
          .errorCode(438, "Stale Nonce")
          .unknownAttributes([1, 0x7fff, 3])
          .changeRequest({ ip: true, port: false })
          .integrity(stunPrimitives, key)
          .integritySha256(stunPrimitives, key)
          .fingerprint()
          .finish()
        assert.isTrue(Stun.looksLikeStun(written))
        const message = read(written)
        assert.deepStrictEqual(Stun.value(message, Attribute.data), data)
        assert.deepStrictEqual(Stun.address(message, Attribute.otherAddress), address)
        assert.deepStrictEqual(Stun.mappedAddress(message), address)
        const peers = Stun.values(message, Attribute.xorPeerAddress).map((one) => Stun.xorAddressOf(message, one))
        assert.deepStrictEqual(peers, [address, { host: "192.0.2.7", port: 7 }])
        assert.strictEqual(Stun.u32(message, Attribute.lifetime), 0xfffffff0)
        assert.deepStrictEqual(Stun.errorCode(message), { code: 438, reason: "Stale Nonce" })
        assert.deepStrictEqual(Stun.unknownAttributes(message), [1, 0x7fff, 3])
        assert.deepStrictEqual(Stun.changeRequest(message), { ip: true, port: false })
        assert.isTrue(Stun.verify(message, stunPrimitives, key))
        assert.isUndefined(Stun.decode(written.subarray(0, written.length - 4)))
      }),
      { seed: 1 }
    )
  })

  it("what stands behind the integrity attribute does not count", () => {
    const key = Stun.shortTermKey(PASSWORD)
    const writer = new Stun.StunWriter("success", Method.binding, id).integrity(stunPrimitives, key)
    const message = read(writer.xorAddress(Attribute.xorMappedAddress, { host: "192.0.2.1", port: 1 }).finish())
    assert.isUndefined(Stun.mappedAddress(message))
    assert.isTrue(Stun.verify(message, stunPrimitives, key))
  })

  it("of equal attributes the first counts, and port 0 is no address", () => {
    const writer = new Stun.StunWriter("success", Method.binding, id).text(Attribute.realm, "a")
    const message = read(writer.text(Attribute.realm, "b").address(1, { host: "192.0.2.1", port: 0 }).finish())
    assert.strictEqual(Stun.text(message, Attribute.realm), "a")
    assert.isUndefined(Stun.mappedAddress(message))
  })

  it("a MAPPED-ADDRESS alone will do, and a mapped IPv6 address is IPv4", () => {
    const plain = new Stun.StunWriter("success", Method.binding, id)
    const message = read(plain.address(Attribute.mappedAddress, { host: "198.51.100.9", port: 9 }).finish())
    assert.deepStrictEqual(Stun.mappedAddress(message), { host: "198.51.100.9", port: 9 })
    const value = bytesOf("00020009 00000000 00000000 0000ffff c6336409")
    const dual = new Stun.StunWriter("success", Method.binding, id).attribute(Attribute.mappedAddress, value)
    assert.deepStrictEqual(Stun.mappedAddress(read(dual.finish())), { host: "198.51.100.9", port: 9 })
  })

  it("junk is refused or read, and nothing throws", () => {
    fc.assert(
      fc.property(bytes(0, 120), (junk) => {
        const header = bytesOf("0101 0000 2112a442 b7e7a701bc34d686fa87dfae")
        const body = junk.subarray(0, junk.length & ~3)
        const datagram = new Uint8Array([...header, ...body])
        datagram[3] = body.length
        for (const bytes of [junk, datagram]) {
          const message = Stun.decode(bytes)
          if (message === undefined) continue
          for (const { type } of message.fields) {
            Stun.address(message, type)
            Stun.xorAddress(message, type)
            Stun.text(message, type)
            Stun.u32(message, type)
          }
          Stun.errorCode(message)
          Stun.unknownAttributes(message)
          assert.isFalse(Stun.verify(message, stunPrimitives, id))
        }
        assert.isUndefined(Stun.decode(datagram.subarray(0, datagram.length - 1)))
      }),
      { seed: 2, numRuns: 1000 }
    )
  })

  it("a thousand attributes are refused", () => {
    const writer = new Stun.StunWriter("success", Method.binding, id, 8192)
    for (let i = 0; i < 1000; i++) writer.attribute(0x8022, new Uint8Array(0))
    assert.isUndefined(Stun.decode(writer.finish()))
  })
})
