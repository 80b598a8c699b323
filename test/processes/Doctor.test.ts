/** `clawchat doctor` on homes of each kind. */
import * as Dgram from "node:dgram"
import { once } from "node:events"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import type { NetworkReport } from "../../src/domain/NetworkReport.ts"
import * as Stun from "../../src/domain/protocol/StunMessage.ts"
import type { Finding } from "../../src/programs/cli/Finding.ts"
import { assertNoSecrets, assertNoStacks, Tiers, tree, World } from "./Tiers.ts"

describe.skipIf(process.platform === "win32")("clawchat doctor", () => {
  let world: World
  let tiers: Tiers
  let home = ""
  beforeAll(async () => {
    world = new World()
    tiers = await Tiers.start(world)
    home = await tiers.pair("c")
  })
  afterAll(() => world.end())

  /** What it found, by name. */
  const findings = async (at: string, code = 0, ...more: ReadonlyArray<string>) => {
    const result = await world.run(["doctor", "--home", at, "--json", ...more])
    assert.strictEqual(result.code, code, JSON.stringify(result))
    const told: { readonly ok: boolean; readonly findings: ReadonlyArray<Finding> } = JSON.parse(result.stdout)
    assert.strictEqual(told.ok, code === 0)
    return new Map(told.findings.map((finding) => [finding.what, finding]))
  }

  it("tells a line for each check", async () => {
    const { stderr, stdout } = await world.ok(["doctor", "--home", home])
    assert.strictEqual(stderr, "")
    const lines = stdout.trimEnd().split("\n")
    for (const line of lines) assert.match(line, /^(ok {2}|warn) {2}\S.{13} {2}\S/)
    assert.strictEqual(
      lines[0],
      `ok    node            ${process.version} for ${process.platform} ${process.arch}, ${process.execPath}`
    )
    assert.match(stdout, /^ok {4}crypto {10}packets are sealed by (node:crypto|openssl)$/m)
    assert.match(stdout, /^ok {4}socket {10}UDP by (node:dgram|linux GSO\/GRO)$/m)
    assert.match(stdout, /^ok {4}home /m)
  })

  it("of a client: the way to its server", async () => {
    const found = await findings(home)
    assert.isUndefined(found.get("tier"))
    const detail = new RegExp(`^127\\.0\\.0\\.1:${tiers.port} in \\d+ ms, round trip [\\d.]+ ms$`)
    assert.match(found.get("server")?.detail ?? "", detail)
  })

  it("of a server: the tier", async () => {
    const found = await findings(tiers.home)
    assert.isUndefined(found.get("server"))
    assert.deepInclude(found.get("tier"), { verdict: "ok" })
    assert.match(found.get("tier")?.detail ?? "", new RegExp(`^server of version .*, pid ${tiers.server.pid}, UDP`))
  })

  it("of a home that nobody has used, and makes nothing there", async () => {
    const found = await findings(world.path("n"))
    assert.deepInclude(found.get("home"), { verdict: "warn" })
    assert.match(found.get("server")?.detail ?? "", /not paired: run clawchat pair/)
    assert.deepStrictEqual(tree(world.path("n")), {})
  })

  it("asks STUN servers that it is told, and keeps to the format of its report", async () => {
    const stun = Dgram.createSocket("udp4").bind(0, "127.0.0.1")
    await once(stun, "listening")
    stun.on("message", (bytes, { address, port }) => {
      const request = Stun.decode(new Uint8Array(bytes))
      if (request === undefined) return
      const answer = new Stun.StunWriter("success", request.method, request.transactionId)
      const mapped = { host: address, port }
      stun.send(answer.xorAddress(Stun.Attribute.xorMappedAddress, mapped).finish(), port, address)
    })
    const server = `127.0.0.1:${stun.address().port}`
    const { code, stdout } = await world.run(["doctor", "--home", world.path("n"), "--stun", server, "--json"])
    stun.close()
    assert.strictEqual(code, 0)
    const { findings, network }: { findings: ReadonlyArray<Finding>; network: NetworkReport } = JSON.parse(stdout)
    assert.hasAllKeys(network, ["nat", "candidates", "closedPorts", "connection"])
    const { ipv4, ipv6 } = network.nat
    assert.isNull(ipv6)
    assert.isNotNull(ipv4)
    const { localPort, mtu, servers, ...rest } = ipv4
    assert.deepStrictEqual(rest, {
      reflexive: `127.0.0.1:${localPort}`,
      translated: false,
      mapping: "endpoint-independent",
      filtering: null,
      portPreserved: true,
      hairpin: null,
      mappingLifetime: null
    })
    // Only a socket that can forbid fragments tells an MTU.
    assert.include([1500, null], mtu)
    assert.lengthOf(servers, 1)
    assert.deepInclude(servers[0], { server, outcome: "answered", reflexive: `127.0.0.1:${localPort}` })
    const nat = findings.find(({ what }) => what === "nat")
    assert.deepInclude(nat, { verdict: "ok" })
    assert.match(nat?.detail ?? "", /^127\.0\.0\.1:\d+, not translated, mapping endpoint-independent/)
  })

  it("refuses a STUN server that is none", async () => {
    const { code, stderr } = await world.run(["doctor", "--home", home, "--stun", "a b"])
    assert.strictEqual(code, 2)
    assert.match(stderr, /--stun: expected at most 8 servers as host:port, .*got "a b"/)
  })

  it("with the llm tier away, then without a server", async () => {
    await tiers.llm.stop()
    await tiers.server.err(/LLM connection lost/)
    const away = (await findings(tiers.home)).get("tier")
    assert.deepInclude(away, { verdict: "warn" })
    assert.match(away?.detail ?? "", /the llm tier is away: start it with clawchat llm/)
    await tiers.server.stop()
    assert.deepInclude((await findings(tiers.home)).get("tier"), { verdict: "warn" })
    const found = await findings(home, 1, "--timeout", "0.5")
    assert.deepInclude(found.get("server"), { verdict: "fail" })
    assert.match(found.get("server")?.detail ?? "", /does not answer .*it is down/)
    const told = await world.run(["doctor", "--home", home, "--timeout", "0.5"])
    assert.strictEqual(told.code, 1)
    assert.strictEqual(told.stderr, "clawchat: Not well: server\n")
    assertNoStacks(world.output())
    assertNoSecrets(world)
  })
})
