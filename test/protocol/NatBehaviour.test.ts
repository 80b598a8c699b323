/** The machine against servers that answer anything; what it finds of real behaviour is in test/programs/NatReport.test.ts. */
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import type { Address } from "../../src/domain/protocol/Address.ts"
import { MAX_NAT_SERVERS, NatBehaviour } from "../../src/domain/protocol/NatBehaviour.ts"
import * as Stun from "../../src/domain/protocol/StunMessage.ts"
import { entropySeeded } from "../../src/layers/CryptoNode.ts"

const A: Address = { host: "192.0.2.1", port: 3478 }
const B: Address = { host: "192.0.2.2", port: 3479 }
const SOCKET = { localPort: 5000, localHosts: ["10.0.0.2", "127.0.0.1"] }

type Reaction = (request: Uint8Array, to: Address) => ReadonlyArray<readonly [from: Address, bytes: Uint8Array]>

/** Runs the tests to their end in virtual time. */
const run = (servers: ReadonlyArray<Address>, react: Reaction) => {
  const machine = new NatBehaviour(0, { entropy: entropySeeded("nat"), servers, probes: true, ...SOCKET })
  let now = 0
  let sent = 0
  while (!machine.done) {
    for (let one = machine.pollTransmit(now); one !== undefined; one = machine.pollTransmit(now)) {
      sent++
      for (const [from, bytes] of react(one.bytes, one.remote)) machine.handleDatagram(now, from, bytes)
    }
    if (machine.done) break
    const at = machine.pollTimeout()
    assert.isTrue(Number.isFinite(at) && now <= 60_000, "it ends")
    now = Math.max(now, at)
    machine.handleTimeout(now)
  }
  assert.strictEqual(machine.pollTimeout(), Number.POSITIVE_INFINITY)
  return { report: machine.report, now, sent }
}

const hosts = fc.constantFrom(
  "192.0.2.1",
  "192.0.2.2",
  "198.51.100.7",
  "10.0.0.2",
  "0.0.0.0",
  "224.0.0.1",
  "::1",
  "127.0.0.1"
)
const ports = fc.constantFrom(1, 3478, 3479, 5000)
const addresses = fc.record({ host: hosts, port: ports })
const reactions = fc.record({
  kind: fc.constantFrom("success", "error", "request", "indication", "junk", "silence"),
  from: fc.option(addresses),
  mapped: fc.option(addresses),
  other: fc.option(addresses),
  isSameId: fc.boolean(),
  junk: fc.uint8Array({ maxLength: 60 })
})

describe("NatBehaviour", () => {
  it("ends, with few datagrams and nothing thrown, whatever servers say", () => {
    fc.assert(
      fc.property(
        fc.array(reactions, { minLength: 1, maxLength: 12 }),
        fc.array(addresses, { maxLength: 8 }),
        (all, more) => {
          let turn = 0
          const { report, sent } = run([A, ...more.filter(({ host }) => !host.includes(":"))], (request, to) => {
            const reaction = all[turn++ % all.length]
            if (reaction === undefined || reaction.kind === "silence") return []
            const source = reaction.from ?? to
            if (reaction.kind === "junk") return [[source, reaction.junk]]
            const id = reaction.isSameId ? request.subarray(8, 20) : new Uint8Array(12)
            const writer = new Stun.StunWriter(reaction.kind as Stun.Class, Stun.Method.binding, id)
            if (reaction.mapped !== null) writer.xorAddress(Stun.Attribute.xorMappedAddress, reaction.mapped)
            if (reaction.other !== null) writer.address(Stun.Attribute.otherAddress, reaction.other)
            return [[source, writer.finish()]]
          })
          // Each server four times, eight sizes, two filters, two mappings, one hairpin, four copies of each.
          assert.isAtMost(sent, 4 * (MAX_NAT_SERVERS + 8 + 2 + 2 + 1))
          assert.isAtMost(report.servers.length, MAX_NAT_SERVERS)
          for (const { reflexive } of report.servers) {
            assert.notInclude(["0.0.0.0", "224.0.0.1"], reflexive?.host)
          }
        }
      ),
      { seed: 1, numRuns: 500 }
    )
  })

  it("knows its requests by transaction and source, and leaves the rest to others", () => {
    const machine = new NatBehaviour(0, { entropy: entropySeeded("nat"), servers: [A], probes: false, ...SOCKET })
    const request = machine.pollTransmit(0)?.bytes ?? new Uint8Array(20)
    const answer = new Stun.StunWriter("success", Stun.Method.binding, request.subarray(8, 20))
      .xorAddress(Stun.Attribute.xorMappedAddress, { host: "198.51.100.7", port: 1 })
      .finish()
    assert.strictEqual(machine.handleDatagram(1, B, answer), "foreign")
    assert.strictEqual(machine.handleDatagram(1, { ...A, port: 1 }, answer), "foreign")
    assert.strictEqual(machine.handleDatagram(1, A, new Uint8Array(32)), "foreign")
    assert.isUndefined(machine.report.reflexive)
    assert.isUndefined(machine.handleDatagram(1, A, answer))
    assert.deepStrictEqual(machine.report.reflexive, { host: "198.51.100.7", port: 1 })
    assert.strictEqual(machine.handleDatagram(1, A, answer), "foreign")
  })

  it("a port that the filter's tests have spoilt does not make a mapping look dependent", () => {
    // As a Linux translator without a firewall has it: towards the second address and port, another port is used.
    const { report } = run([A], (request, to) => {
      const message = Stun.decode(request)
      if (message === undefined || Stun.has(message, Stun.Attribute.changeRequest)) return []
      const port = to.host === B.host && to.port === B.port ? 6000 : 5000
      const answer = new Stun.StunWriter("success", Stun.Method.binding, message.transactionId)
        .xorAddress(Stun.Attribute.xorMappedAddress, { host: "198.51.100.7", port })
        .address(Stun.Attribute.otherAddress, B)
      return [[to, answer.finish()]]
    })
    assert.strictEqual(report.mapping, "endpoint-independent")
    assert.strictEqual(report.filtering, "address-and-port-dependent")
    assert.strictEqual(report.mtu, 1500)
  })
})
