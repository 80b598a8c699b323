import { assert, describe, it } from "@effect/vitest"
import type { Address } from "../../src/domain/protocol/Address.ts"
import { SeededRandom } from "../../src/layers/SeededRandom.ts"
import { type Dependence, kinds, type NatBehaviour, SimulatedNat } from "../../src/layers/SimulatedNat.ts"

const OUTSIDE = "203.0.113.1"
const inside: Address = { host: "10.0.0.2", port: 5000 }
const neighbour: Address = { host: "10.0.0.3", port: 5000 }
const remote: Address = { host: "198.51.100.1", port: 1000 }
const otherPort: Address = { host: "198.51.100.1", port: 2000 }
const otherHost: Address = { host: "198.51.100.2", port: 1000 }

const make = (behaviour: Partial<NatBehaviour> = {}) =>
  new SimulatedNat(OUTSIDE, { ...kinds.fullCone, ...behaviour }, new SeededRandom(1))

const portOf = (address: Address | undefined): number => {
  assert.strictEqual(address?.host, OUTSIDE)
  return address?.port ?? 0
}

const dependences: ReadonlyArray<Dependence> = [
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent"
]

describe("SimulatedNat", () => {
  for (const ports of ["preserving", "sequential", "random"] as const) {
    for (const mapping of dependences) {
      it(`maps ${mapping}, ports ${ports}`, () => {
        const nat = make({ mapping, ports })
        const a = portOf(nat.outbound(0, inside, remote))
        const b = portOf(nat.outbound(0, inside, otherPort))
        const c = portOf(nat.outbound(0, inside, otherHost))
        assert.strictEqual(portOf(nat.outbound(0, inside, remote)), a)
        assert.strictEqual(a === b, mapping !== "address-and-port-dependent")
        assert.strictEqual(a === c, mapping === "endpoint-independent")
        assert.strictEqual(nat.mappings(0), new Set([a, b, c]).size)
        assert.notStrictEqual(portOf(nat.outbound(0, neighbour, remote)), a)
        if (ports === "preserving") assert.strictEqual(a, 5000)
        if (ports === "sequential" && mapping === "address-and-port-dependent") {
          assert.deepStrictEqual([b, c], [a + 1, a + 2])
        }
      })
    }
  }

  for (const filtering of dependences) {
    it(`filters ${filtering}`, () => {
      const nat = make({ filtering })
      assert.isUndefined(nat.inbound(0, 5000, remote))
      const port = portOf(nat.outbound(0, inside, remote))
      assert.deepStrictEqual(nat.inbound(0, port, remote), inside)
      assert.strictEqual(nat.inbound(0, port, otherPort) !== undefined, filtering !== "address-and-port-dependent")
      assert.strictEqual(nat.inbound(0, port, otherHost) !== undefined, filtering === "endpoint-independent")
    })
  }

  it("forgets a mapping when its timeout has passed since the last datagram from inside", () => {
    const nat = make({ timeoutMs: 30_000, ports: "sequential" })
    const port = portOf(nat.outbound(0, inside, remote))
    assert.strictEqual(portOf(nat.outbound(20_000, inside, otherHost)), port)
    assert.deepStrictEqual(nat.inbound(49_999, port, remote), inside)
    assert.isUndefined(nat.inbound(50_000, port, remote))
    assert.strictEqual(nat.mappings(50_000), 0)
    assert.strictEqual(portOf(nat.outbound(50_000, inside, remote)), port + 1)
  })

  it("refreshes from outside only where told to", () => {
    const nat = make({ filtering: "address-dependent", timeoutMs: 30_000, refreshedFromOutside: true })
    const port = portOf(nat.outbound(0, inside, remote))
    assert.deepStrictEqual(nat.inbound(29_999, port, remote), inside)
    assert.deepStrictEqual(nat.inbound(59_998, port, remote), inside)
    assert.isUndefined(nat.inbound(89_998, port, remote))
  })

  it("forgets a permission of the filter though the mapping lives on", () => {
    const nat = make({ filtering: "address-and-port-dependent", timeoutMs: 30_000 })
    const port = portOf(nat.outbound(0, inside, remote))
    nat.outbound(20_000, inside, otherHost)
    assert.isUndefined(nat.inbound(30_000, port, remote))
    assert.deepStrictEqual(nat.inbound(30_000, port, otherHost), inside)
  })

  it("rebinds to another address and forgets", () => {
    const nat = make()
    const port = portOf(nat.outbound(0, inside, remote))
    nat.rebind("203.0.113.9")
    assert.isUndefined(nat.inbound(0, port, remote))
    assert.deepStrictEqual(nat.outbound(0, inside, remote), { host: "203.0.113.9", port })
  })

  it("holds 16,384 mappings and maps nothing more until they expire", () => {
    const nat = make({ mapping: "address-and-port-dependent", ports: "sequential" })
    const far = (i: number): Address => ({ host: "198.51.100.1", port: 1 + i })
    for (let i = 0; i < 16_384; i++) portOf(nat.outbound(0, inside, far(i)))
    assert.isUndefined(nat.outbound(1, inside, far(16_384)))
    assert.isDefined(nat.outbound(120_000, inside, far(16_384)))
    assert.strictEqual(nat.mappings(120_000), 1)
  })
})
