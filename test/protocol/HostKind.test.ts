import { assert, describe, it } from "@effect/vitest"
import { type HostKind, hostKind, isPlausible, isUnicast } from "../../src/domain/protocol/HostKind.ts"

const kinds: ReadonlyArray<readonly [host: string, kind: HostKind | undefined]> = [
  ["0.0.0.0", "unspecified"],
  ["0.1.2.3", "unspecified"],
  ["127.0.0.1", "loopback"],
  ["127.255.255.255", "loopback"],
  ["169.254.0.1", "linkLocal"],
  ["10.0.0.0", "private"],
  ["172.15.255.255", "public"],
  ["172.16.0.0", "private"],
  ["172.31.255.255", "private"],
  ["172.32.0.0", "public"],
  ["192.168.1.1", "private"],
  ["192.169.1.1", "public"],
  ["100.63.255.255", "public"],
  ["100.64.0.0", "shared"],
  ["100.127.255.255", "shared"],
  ["100.128.0.0", "public"],
  ["223.255.255.255", "public"],
  ["224.0.0.1", "multicast"],
  ["239.255.255.255", "multicast"],
  ["240.0.0.1", "reserved"],
  ["255.255.255.255", "reserved"],
  ["::", "unspecified"],
  ["::1", "loopback"],
  ["::2", "public"],
  ["::ffff:127.0.0.1", "loopback"],
  ["::ffff:0.0.0.0", "unspecified"],
  ["fe80::1", "linkLocal"],
  ["febf::1", "linkLocal"],
  ["fec0::1", "public"],
  ["fc00::1", "private"],
  ["fdff::1", "private"],
  ["ff02::1", "multicast"],
  ["2001:db8::1", "public"],
  ["example.org", undefined],
  ["", undefined]
]

describe("HostKind", () => {
  it("tells the kinds of RFC 6890", () => {
    for (const [host, kind] of kinds) assert.strictEqual(hostKind(host), kind, host)
  })

  it("unicast is where one host may stand", () => {
    const others = ["unspecified", "multicast", "reserved", undefined]
    for (const [host, kind] of kinds) assert.strictEqual(isUnicast(host), !others.includes(kind), host)
  })

  it("loopback and link-local come from their own only", () => {
    assert.isTrue(isPlausible("198.51.100.1", "192.0.2.1"))
    assert.isTrue(isPlausible("10.0.0.1", "192.0.2.1"))
    assert.isFalse(isPlausible("127.0.0.1", "192.0.2.1"))
    assert.isTrue(isPlausible("127.0.0.1", "127.0.0.2"))
    assert.isFalse(isPlausible("fe80::1", "2001:db8::1"))
    assert.isTrue(isPlausible("fe80::1", "fe80::2"))
    assert.isFalse(isPlausible("224.0.0.1", "224.0.0.1"))
  })
})
