import { assert, describe, it } from "@effect/vitest"
import * as Firewall from "../../src/domain/Firewall.ts"
import * as NetworkReport from "../../src/domain/NetworkReport.ts"
import type { NatReport } from "../../src/domain/protocol/NatBehaviour.ts"

const A = { host: "192.0.2.10", port: 3478 }
const report: NatReport = {
  servers: [
    { server: A, outcome: "answered", reflexive: { host: "198.51.100.7", port: 5 }, other: undefined, rttMs: 1.2345 }
  ],
  reflexive: { host: "198.51.100.7", port: 5 },
  translated: true,
  mapping: "endpoint-independent",
  filtering: "address-and-port-dependent",
  portPreserved: false,
  hairpin: false,
  mtu: 1420
}
const nat = (change: Partial<NatReport> = {}) => NetworkReport.natOf(4000, { ...report, ...change })

describe("NetworkReport", () => {
  it("is data with null for what is unknown", () => {
    assert.deepStrictEqual(nat(), {
      localPort: 4000,
      reflexive: "198.51.100.7:5",
      translated: true,
      mapping: "endpoint-independent",
      filtering: "address-and-port-dependent",
      portPreserved: false,
      hairpin: false,
      mtu: 1420,
      mappingLifetime: null,
      servers: [{ server: "192.0.2.10:3478", outcome: "answered", reflexive: "198.51.100.7:5", rttMs: 1.23 }]
    })
    const nothing: NatReport = {
      servers: [],
      reflexive: undefined,
      translated: undefined,
      mapping: undefined,
      filtering: undefined,
      portPreserved: undefined,
      hairpin: undefined,
      mtu: undefined
    }
    const empty = NetworkReport.natOf(1, nothing, { atLeastMs: 30_000, belowMs: undefined })
    assert.deepStrictEqual(empty.mappingLifetime, { atLeastSeconds: 30, belowSeconds: null })
    for (const value of [empty.reflexive, empty.translated, empty.mapping, empty.filtering, empty.mtu]) {
      assert.isNull(value)
    }
    assert.isTrue(NetworkReport.isHard(empty))
    assert.match(NetworkReport.sentence(empty), /UDP is blocked/)
  })

  it("says what each behaviour means", () => {
    const meaning = (change: Partial<NatReport>) => NetworkReport.meaning(nat(change))
    assert.strictEqual(meaning({}), "direct by punching")
    assert.match(meaning({ filtering: "endpoint-independent" }), /^reachable directly while/)
    assert.match(meaning({ mapping: undefined }), /second --stun server/)
    for (const mapping of ["dependent", "address-dependent", "address-and-port-dependent"] as const) {
      assert.match(meaning({ mapping }), /else by a rendezvous or TURN/)
      assert.isTrue(NetworkReport.isHard(nat({ mapping })))
    }
    assert.isFalse(NetworkReport.isHard(nat()))
    assert.strictEqual(meaning({ translated: false, filtering: "endpoint-independent" }), "reachable directly")
    assert.match(meaning({ translated: false, filtering: undefined }), /is not known/)
    assert.match(meaning({ translated: false }), /firewall lets in answers only/)
    assert.strictEqual(
      NetworkReport.sentence(nat()),
      "198.51.100.7:5 outside, mapping endpoint-independent, filtering address-and-port-dependent, port changed, no hairpin: direct by punching"
    )
    const lived = NetworkReport.natOf(1, report, { atLeastMs: 30_000, belowMs: 45_000 })
    assert.include(NetworkReport.sentence(lived), ", unused mappings live 30 to 45 s: ")
  })

  it("lists candidates: no loopback, no link-local, reflexive only where translated", () => {
    const hosts = ["127.0.0.1", "10.0.0.2", "::1", "fe80::1", "2001:db8::2"]
    const more = { mapped: [{ host: "198.51.100.7", port: 9 }], relays: ["turn.example.org:3478", "[2001:db8::9]:1"] }
    assert.deepStrictEqual(
      NetworkReport.candidatesOf(hosts, [nat(), null], more).map(
        ({ address, family, kind }) => `${kind} ${family} ${address}`
      ),
      [
        "host ipv4 10.0.0.2",
        "host ipv6 2001:db8::2",
        "reflexive ipv4 198.51.100.7:5",
        "mapped ipv4 198.51.100.7:9",
        "relayed null turn.example.org:3478",
        "relayed ipv6 [2001:db8::9]:1"
      ]
    )
    assert.deepStrictEqual(NetworkReport.candidatesOf([], [nat({ translated: false })]), [])
  })

  it("tells why a relay is used", () => {
    const path = (host: string, state: NetworkReport.Way["state"], relayed = false) => ({
      remote: { host, port: 1 },
      state,
      rttMs: 0,
      relayed
    })
    const relay = path("192.0.2.99", "active", true)
    const of = (paths: ReadonlyArray<ReturnType<typeof path>>, ipv4 = nat()) =>
      NetworkReport.connectionOf(paths[0]?.remote ?? A, paths, { ipv4, ipv6: null })
    assert.deepInclude(of([path("192.0.2.1", "active")]), { way: "direct", address: "192.0.2.1:1", why: null })
    assert.deepInclude(of([]), { way: "direct", address: "192.0.2.10:3478", why: null, tried: [] })
    assert.strictEqual(of([relay]).why, "no direct address of the server is known")
    assert.strictEqual(
      of([relay, path("192.0.2.1", "failed"), path("192.0.2.2", "validating")], nat({ mapping: "dependent" })).why,
      "no answer from 192.0.2.1:1; still trying 192.0.2.2:1; this host's NAT shows every destination another address"
    )
    assert.match(of([relay, path("192.0.2.1", "validated")]).why ?? "", /relay answered first/)
    assert.lengthOf(of([relay, path("192.0.2.1", "failed")]).tried, 2)
  })

  it("a measurement is stronger than the filter's rules", () => {
    assert.strictEqual(NetworkReport.closedPortsOf("answer", "drop"), "answer")
    assert.strictEqual(NetworkReport.closedPortsOf("unknown", "drop"), "silent")
    assert.strictEqual(NetworkReport.closedPortsOf("unknown", "reject"), "answer")
    assert.strictEqual(NetworkReport.closedPortsOf("unknown", "accept"), "answer")
    assert.strictEqual(NetworkReport.closedPortsOf("unknown", "unknown"), "unknown")
  })
})

describe("Firewall", () => {
  it("counts ICMP unreachables", () => {
    const snmp = "Ip: A B\nIp: 1 2\nIcmp: InMsgs OutMsgs OutDestUnreachs X\nIcmp: 5 6 41 8\n"
    assert.strictEqual(Firewall.unreachablesSent(snmp, "Icmp6OutMsgs  4\nIcmp6OutDestUnreachs            \t1\n"), 42)
    assert.strictEqual(Firewall.unreachablesSent(snmp, ""), 41)
    assert.isUndefined(Firewall.unreachablesSent("", ""))
    assert.isUndefined(Firewall.unreachablesSent("Icmp: InMsgs\nIcmp: 1\n", ""))
  })

  const chain = (more: object) => ({ chain: { family: "inet", table: "f", name: "input", handle: 1, ...more } })
  const rule = (...expr: ReadonlyArray<object>) => ({ rule: { family: "inet", table: "f", chain: "input", expr } })
  const nft = (...entries: ReadonlyArray<object>) =>
    Firewall.ofNft(JSON.stringify({ nftables: [{ metainfo: { version: "1" } }, ...entries] }))
  const match = { match: { op: "==", left: {}, right: 22 } }
  const dport = { payload: { protocol: "udp", field: "dport" } }

  it("reads nft's rules", () => {
    const input = { hook: "input", type: "filter", prio: 0 }
    assert.strictEqual(nft(chain({ ...input, policy: "drop" })), "drop")
    assert.strictEqual(nft(chain({ ...input, policy: "drop" }), rule(match, { accept: null })), "drop")
    assert.strictEqual(nft(chain({ ...input, policy: "accept" })), "accept")
    assert.strictEqual(nft(chain({ ...input, policy: "accept" }), rule({ counter: {} }, { drop: null })), "drop")
    assert.strictEqual(nft(chain({ ...input, policy: "accept" }), rule(match, { drop: null })), "accept")
    assert.strictEqual(nft(chain({ ...input, policy: "drop" }), rule({ reject: { type: "icmpx" } })), "reject")
    assert.strictEqual(nft(chain({ hook: "output", policy: "drop" })), "accept")
    assert.strictEqual(
      nft(chain({ ...input, policy: "accept" }), chain({ ...input, table: "g", policy: "drop" })),
      "drop"
    )
    assert.strictEqual(nft(), "accept")
    assert.strictEqual(Firewall.ofNft(""), "unknown")
    assert.strictEqual(Firewall.ofNft("{}"), "unknown")
  })

  it("reads the rules that are shipped", () => {
    const expr = (key: string, op: string, right: string) => ({ match: { op, left: { meta: { key } }, right } })
    const socket = { match: { op: "==", left: { socket: { key: "transparent" } }, right: { set: [0, 1] } } }
    const accept = { accept: null }
    const shipped = [
      chain({ hook: "input", type: "filter", prio: -10, policy: "accept" }),
      rule(expr("l4proto", "!=", "udp"), accept),
      rule(expr("iif", "==", "lo"), accept),
      rule(expr("pkttype", "!=", "host"), accept),
      rule(socket, accept),
      rule({ counter: { packets: 1, bytes: 2 } }, { drop: null })
    ]
    assert.strictEqual(nft(...shipped), "drop")
    // Whatever another table opens.
    const other = { ...chain({ hook: "input", policy: "drop" }).chain, table: "g" }
    const door = {
      ...rule({ match: { op: "==", left: dport, right: { range: [49_152, 65_535] } } }, accept).rule,
      table: "g"
    }
    assert.strictEqual(nft(...shipped, { chain: other }, { rule: door }), "drop")
    assert.strictEqual(nft({ chain: other }, { rule: door }), "accept")
  })

  it("ports that are opened for the server answer when they are closed", () => {
    const drops = chain({ hook: "input", type: "filter", prio: 0, policy: "drop" })
    const accept = { accept: null }
    const of = (...expr: ReadonlyArray<object>) => nft(drops, rule(...expr, { counter: {} }, accept))
    const to = (right: unknown, op = "==") => ({ match: { op, left: dport, right } })
    const meta = (key: string, right: string) => ({ match: { op: "==", left: { meta: { key } }, right } })
    assert.strictEqual(of(to({ range: [49_152, 65_535] })), "accept")
    assert.strictEqual(of(to({ set: [53, { range: [60_000, 61_000] }] })), "accept")
    assert.strictEqual(of(to(49_152, ">=")), "accept")
    assert.strictEqual(of(meta("l4proto", "udp")), "accept")
    assert.strictEqual(of(meta("iifname", "eth0"), to({ range: [49_152, 65_535] })), "accept")
    assert.strictEqual(of(), "accept")
    // One port, others' ports, some who may, this host itself.
    assert.strictEqual(of(to(51_000)), "drop")
    assert.strictEqual(of(to({ set: [53, 51_000] })), "drop")
    assert.strictEqual(of(to({ range: [137, 138] })), "drop")
    assert.strictEqual(of(meta("iifname", "lo"), to({ range: [49_152, 65_535] })), "drop")
    assert.strictEqual(of({ match: { op: "==", left: { ct: { key: "state" } }, right: "established" } }), "drop")
    const source = { match: { op: "==", left: { payload: { protocol: "ip", field: "saddr" } }, right: "10.0.0.1" } }
    assert.strictEqual(of(source, to({ range: [49_152, 65_535] })), "drop")
    // A match of iptables' that nft does not spell out.
    assert.strictEqual(of(meta("l4proto", "udp"), { xt: { type: "match", name: "multiport" } }), "unknown")
    assert.strictEqual(of(meta("l4proto", "tcp"), { xt: { type: "match", name: "multiport" } }), "drop")
  })

  it("reads iptables' rules", () => {
    const lets = (rest: string) => Firewall.ofIptables(`-P INPUT DROP\n-N user\n-A INPUT -j user\n-A user ${rest}\n`)
    assert.strictEqual(lets("-p udp -m multiport --dports 49152:65535 -j ACCEPT"), "accept")
    assert.strictEqual(lets("-i eth0 -p udp -m udp --dport 49152:65535 -j ACCEPT"), "accept")
    assert.strictEqual(lets("-i lo -p udp -m udp --dport 49152:65535 -j ACCEPT"), "drop")
    assert.strictEqual(lets("-p udp -m multiport --dports 53,51000 -j ACCEPT"), "drop")
    assert.strictEqual(lets("-p tcp -m multiport --dports 49152:65535 -j ACCEPT"), "drop")
    assert.strictEqual(Firewall.ofIptables("-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n"), "drop")
    assert.strictEqual(Firewall.ofIptables("-P INPUT ACCEPT\n"), "accept")
    assert.strictEqual(Firewall.ofIptables("-P INPUT ACCEPT\n-A INPUT -j DROP\n"), "drop")
    const reject = "-P INPUT ACCEPT\n-A INPUT -j REJECT --reject-with icmp-port-unreachable\n"
    assert.strictEqual(Firewall.ofIptables(reject), "reject")
    assert.strictEqual(Firewall.ofIptables(""), "unknown")
  })
})
