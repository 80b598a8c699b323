import { assert, describe, it } from "@effect/vitest"
import type { Address } from "../../src/domain/protocol/Address.ts"
import * as AddressOf from "../../src/domain/protocol/Address.ts"
import { StunClient } from "../../src/domain/protocol/StunClient.ts"
import * as Stun from "../../src/domain/protocol/StunMessage.ts"
import { entropySeeded } from "../../src/layers/CryptoNode.ts"

const A: Address = { host: "192.0.2.1", port: 3478 }
const B: Address = { host: "192.0.2.2", port: 3478 }
const V6: Address = { host: "2001:db8::1", port: 3478 }
const mapped: Address = { host: "198.51.100.7", port: 4000 }

const success = (request: Uint8Array, address: Address): Uint8Array => {
  const message = Stun.decode(request)
  assert.isDefined(message)
  return new Stun.StunWriter("success", message.method, message.transactionId)
    .xorAddress(Stun.Attribute.xorMappedAddress, address)
    .finish()
}

/** A client in virtual time, with servers that see us as `seen` says, or are silent. */
class Bench {
  now = 0
  readonly client: StunClient
  readonly sent: Array<{ readonly at: number; readonly to: string; readonly bytes: Uint8Array }> = []
  readonly changes: Array<{ readonly at: number; readonly text: string }> = []
  seen: (server: Address) => Address | undefined

  constructor(servers: ReadonlyArray<Address>, seen: (server: Address) => Address | undefined) {
    this.seen = seen
    this.client = new StunClient(0, { entropy: entropySeeded("stun client"), servers })
    this.run(0)
  }

  run(until: number): void {
    for (;;) {
      this.drain()
      const at = this.client.pollTimeout()
      if (at > until) break
      this.now = Math.max(this.now, at)
      this.client.handleTimeout(this.now)
    }
    this.now = Math.max(this.now, until)
  }

  drain(): void {
    for (let one = this.client.pollTransmit(this.now); one !== undefined; one = this.client.pollTransmit(this.now)) {
      const { bytes, remote } = one
      this.sent.push({ at: this.now, to: remote.host, bytes })
      const address = this.seen(remote)
      if (address !== undefined) this.client.handleDatagram(this.now, remote, success(bytes, address))
    }
    const changed = this.client.pollChange()
    if (changed === undefined) return
    const text = changed.map(({ address, dependent }) => `${AddressOf.format(address)} ${dependent}`).join(", ")
    this.changes.push({ at: this.now, text })
  }

  sentTo(host: string): ReadonlyArray<number> {
    return this.sent.filter(({ to }) => to === host).map(({ at }) => at)
  }
}

describe("StunClient", () => {
  it("retransmits as RFC 8489 section 6.2.1 has it, then gives up and begins anew", () => {
    const bench = new Bench([A], () => undefined)
    bench.run(39_499)
    assert.deepStrictEqual(bench.sentTo(A.host), [0, 500, 1500, 3500, 7500, 15_500, 31_500])
    assert.strictEqual(new Set(bench.sent.map(({ bytes }) => Buffer.from(bytes).toString("hex"))).size, 1)
    bench.run(80_000)
    const again = bench.sent.filter(({ at }) => at > 39_500)
    assert.isAtLeast(again.length, 6)
    assert.notDeepEqual(again[0]?.bytes, bench.sent[0]?.bytes)
    assert.deepStrictEqual(bench.changes, [])
  })

  it("asks everybody once, then one server every 16 to 20 s", () => {
    const bench = new Bench([A, B, V6], (server) => (server === V6 ? { host: "2001:db8::5", port: 4000 } : mapped))
    bench.run(600_000)
    assert.lengthOf(bench.sentTo(B.host), 1)
    for (const host of [A.host, V6.host]) {
      const times = bench.sentTo(host)
      const gaps = times.slice(1).map((at, i) => at - (times[i] as number))
      for (const gap of gaps) assert.isTrue(gap >= 16_000 && gap <= 20_000, `${gap}`)
      assert.isAtLeast(new Set(gaps).size, 10)
    }
    assert.deepStrictEqual(bench.changes, [{ at: 0, text: "198.51.100.7:4000 false, [2001:db8::5]:4000 undefined" }])
  })

  it("tells a change when the refresh shows it", () => {
    const bench = new Bench([A, B], () => mapped)
    bench.run(60_000)
    bench.seen = () => ({ ...mapped, port: 4444 })
    bench.run(81_000)
    assert.deepStrictEqual(
      bench.changes.map(({ text }) => text),
      ["198.51.100.7:4000 false", "198.51.100.7:4444 false"]
    )
  })

  it("tells when servers see different addresses", () => {
    const bench = new Bench([A, B], ({ host }) => ({ ...mapped, port: host === A.host ? 1 : 2 }))
    assert.deepStrictEqual(bench.changes, [{ at: 0, text: "198.51.100.7:1 true" }])
  })

  it("goes over to another server when the one in use falls silent", () => {
    const bench = new Bench([A, B], () => mapped)
    bench.run(30_000)
    bench.seen = (server) => (server.host === A.host ? undefined : mapped)
    bench.run(200_000)
    assert.isAtLeast(bench.sentTo(B.host).filter((at) => at > 60_000).length, 6)
    assert.lengthOf(bench.changes, 1)
    assert.deepStrictEqual(bench.client.reflexive[0]?.server, B)
  })

  it("the address is gone when everybody has been silent for 45 s, and comes back", () => {
    const bench = new Bench([A, B], () => mapped)
    bench.run(10_000)
    bench.seen = () => undefined
    bench.run(120_000)
    assert.lengthOf(bench.changes, 2)
    assert.strictEqual(bench.changes[1]?.text, "")
    assert.isAtMost(bench.changes[1]?.at ?? Number.NaN, 20_000 + 4000 + 39_500)
    bench.seen = () => mapped
    bench.run(180_000)
    assert.strictEqual(bench.changes[2]?.text, "198.51.100.7:4000 false")
  })

  it("refresh asks everybody at once and forgets what was", () => {
    const bench = new Bench([A, B], () => mapped)
    bench.run(5000)
    bench.seen = () => undefined
    bench.client.refresh(5000)
    bench.run(5000)
    assert.deepStrictEqual(bench.client.reflexive, [])
    assert.strictEqual(bench.changes.at(-1)?.text, "")
    assert.deepStrictEqual(bench.sentTo(B.host), [0, 5000])
  })

  it("ignores what is not an answer to it", () => {
    const bench = new Bench([A, B], () => undefined)
    const request = bench.sent.find(({ to }) => to === A.host)?.bytes ?? new Uint8Array()
    const right = success(request, mapped)
    const foreign = (remote: Address, bytes: Uint8Array) =>
      assert.strictEqual(bench.client.handleDatagram(1, remote, bytes), "foreign")
    // Another server, another port, another transaction, a request, an indication, no STUN, cut off.
    foreign(B, right)
    foreign({ ...A, port: 1 }, right)
    foreign(A, success(new Stun.StunWriter("request", 1, new Uint8Array(12)).finish(), mapped))
    foreign(A, request)
    foreign(A, new Stun.StunWriter("indication", 1, request.subarray(8, 20)).finish())
    foreign(A, new Stun.StunWriter("success", Stun.Method.allocate, request.subarray(8, 20)).finish())
    foreign(A, new Uint8Array(64))
    foreign(A, right.subarray(0, right.length - 4))
    assert.deepStrictEqual(bench.client.reflexive, [])
    assert.strictEqual(bench.client.handleDatagram(1, A, right), undefined)
    assert.deepStrictEqual(bench.client.reflexive[0]?.address, mapped)
    foreign(A, right)
  })

  it("takes no address that can be none; loopback only from loopback", () => {
    for (const host of [
      "0.0.0.0",
      "224.0.0.1",
      "255.255.255.255",
      "127.0.0.1",
      "::",
      "ff02::1",
      "::1",
      "169.254.1.1"
    ]) {
      assert.deepStrictEqual(new Bench([A], () => ({ host, port: 1 })).client.reflexive, [], host)
    }
    const own = { host: "127.0.0.1", port: 3478 }
    const address = { host: "127.0.0.1", port: 5 }
    assert.deepStrictEqual(new Bench([own], () => address).client.reflexive[0]?.address, address)
  })

  it("asks eight servers at most, each once, and nobody when closed", () => {
    const many = Array.from({ length: 20 }, (_, i) => ({ host: `192.0.2.${(i >> 1) + 1}`, port: 3478 }))
    const bench = new Bench(many, () => undefined)
    assert.lengthOf(bench.client.servers, 8)
    assert.lengthOf(bench.sent, 8)
    bench.client.close()
    bench.run(100_000)
    assert.lengthOf(bench.sent, 8)
    assert.strictEqual(bench.client.pollTimeout(), Number.POSITIVE_INFINITY)
  })
})
