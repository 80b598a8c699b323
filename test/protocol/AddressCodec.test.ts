import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as AddressCodec from "../../src/domain/protocol/AddressCodec.ts"
import { hex, Reader, Writer } from "../../src/domain/protocol/Cursor.ts"

const encoded = (host: string, port: number): Uint8Array => {
  const writer = new Writer(new Uint8Array(AddressCodec.encodedLength({ host, port })))
  AddressCodec.encode(writer, { host, port })
  assert.strictEqual(writer.remaining, 0)
  return writer.bytes
}

const decoded = (bytes: Uint8Array) => AddressCodec.decode(new Reader(bytes))

describe("AddressCodec", () => {
  it("writes family, bytes and port", () => {
    assert.strictEqual(hex(encoded("192.0.2.1", 443)), "04c000020101bb")
    assert.strictEqual(hex(encoded("2001:db8::1", 65535)), "0620010db8000000000000000000000001ffff")
    assert.strictEqual(hex(encoded("::ffff:192.0.2.1", 443)), "04c000020101bb")
  })

  it("canonical text: RFC 5952, and mapped addresses as IPv4", () => {
    const cases: ReadonlyArray<readonly [string, string]> = [
      ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
      ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
      ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
      ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
      ["2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
      ["0:0:0:0:0:0:0:0", "::"],
      ["0:0:0:0:0:0:0:1", "::1"],
      ["1:0:0:0:0:0:0:0", "1::"],
      ["fe80::00ab", "fe80::ab"],
      ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
      ["1:2:3:4:5:6:192.0.2.33", "1:2:3:4:5:6:c000:221"],
      ["::ffff:c000:0221", "192.0.2.33"],
      ["::FFFF:192.0.2.33", "192.0.2.33"],
      ["::192.0.2.33", "::c000:221"],
      ["0.0.0.0", "0.0.0.0"],
      ["255.255.255.255", "255.255.255.255"]
    ]
    for (const [host, canonical] of cases) {
      assert.strictEqual(AddressCodec.canonicalHost(host), canonical, host)
      assert.strictEqual(AddressCodec.canonicalHost(canonical), canonical)
    }
  })

  it("takes no host names, zones, brackets, octal, short forms or strays", () => {
    const wrong =
      " localhost a.b.c.d 1.2.3 1.2.3.4.5 01.2.3.4 1.2.3.256 1.2.3.+4 1.2.3. 0x7f.0.0.1 127.1 [::1] ::1%eth0 : ::: 1::2::3 1:2:3:4:5:6:7 1:2:3:4:5:6:7:8:9 1:2:3:4:5:6:7:8:: ::1:2:3:4:5:6:7:8 12345:: g:: :1:2:3:4:5:6:7 1:2:3:4:5:6:7: 1.2.3.4:: ::1.2.3.4:1 1::1.2.3.4:2 ::1.2.3.256 ::ffff:1.2.3".split(
        " "
      )
    for (const host of wrong) {
      assert.isUndefined(AddressCodec.parseHost(host), host)
      assert.throws(() => AddressCodec.encodedLength({ host, port: 1 }))
    }
  })

  it("bytes to address and back, whatever the bytes", () => {
    const family = fc.constantFrom(4, 16)
    const host = family.chain((length) => fc.uint8Array({ minLength: length, maxLength: length }))
    // Groups of zeros and mapped prefixes, which random bytes hardly ever have.
    const sparse = fc
      .array(fc.constantFrom(0, 0, 0, 1, 0xffff), { minLength: 8, maxLength: 8 })
      .map((groups) => Uint8Array.from(groups.flatMap((value) => [value >> 8, value & 0xff])))
    fc.assert(
      fc.property(fc.oneof(host, sparse), fc.integer({ min: 1, max: 65535 }), (bytes, port) => {
        const text = AddressCodec.formatHost(bytes)
        const parsed = AddressCodec.parseHost(text)
        assert.strictEqual(AddressCodec.formatHost(parsed ?? bytes), text)
        assert.include([hex(bytes), hex(bytes).slice(24)], hex(parsed ?? new Uint8Array(0)))
        assert.deepStrictEqual(decoded(encoded(text, port)), { host: text, port })
        if (bytes.length === 16)
          assert.strictEqual(new URL(`http://[${hexGroups(bytes)}]`).hostname, urlHost(text, bytes))
      }),
      { seed: 2, numRuns: 1000 }
    )
  })

  it("refuses unknown families, port 0 and every cut; random bytes never throw", () => {
    for (const full of [encoded("192.0.2.1", 443), encoded("2001:db8::1", 443)]) {
      for (let length = 0; length < full.length; length++) assert.isUndefined(decoded(full.subarray(0, length)))
      assert.isUndefined(decoded(Uint8Array.from([...full.subarray(0, -2), 0, 0])))
      for (const family of [0, 5, 7, 255]) assert.isUndefined(decoded(Uint8Array.from([family, ...full.subarray(1)])))
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 24 }), (bytes) => {
        const address = decoded(bytes)
        assert.isTrue(address === undefined || AddressCodec.canonicalHost(address.host) === address.host)
      }),
      { seed: 3, numRuns: 1000 }
    )
  })
})

const hexGroups = (bytes: Uint8Array): string => hex(bytes).replace(/(.{4})(?=.)/g, "$1:")

/** The host's own URL parser writes IPv6 as RFC 5952 has it, mapped addresses in hexadecimal. */
const urlHost = (text: string, bytes: Uint8Array): string =>
  text.includes(":") ? `[${text}]` : new URL(`http://[${hexGroups(bytes)}]`).hostname
