/**
 * The packet filter's rules that are shipped for servers (`systemd/clawchat.nft`), in kernels' network namespaces: closed ports
 * are silent, open ones work, ports and addresses may change, and nothing else on the host is touched.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import type { NetworkReport } from "../../src/domain/NetworkReport.ts"
import { PORT_FIRST } from "../../src/domain/protocol/Constants.ts"
import { root } from "../Program.ts"
import { type Running, readOr, until } from "../processes/Tiers.ts"
import type { Place } from "./Internet.ts"
import { hasCoturn, Lab } from "./Lab.ts"
import { connect, Host, hasNamespaces, whyNot } from "./Namespaces.ts"
import { Device, ServerSide } from "./Sides.ts"

const RULES = Path.join(root, "systemd/clawchat.nft")
const SCAN = Path.join(import.meta.dirname, "Scan.ts")
const CLOSED = "50000-51999"
const PORTS = 2000
/** Ports of the range that may be the server's at some time of a scan. */
const OPEN = 4
/** That Scan.ts sends to each port. */
const DATAGRAMS = 3
const SERVER_V6 = "2001:db8::5"

describe.skipIf(!hasNamespaces)(`the firewall of an installed server${whyNot}`, () => {
  let lab: Lab
  let host: Host
  let prober: Host
  let address = ""
  let server: ServerSide
  let phone: Place
  let chat: Running
  let words = 0

  /** Everything but the neighbours' questions that the prober got from the server, in packets. */
  const received = async (): Promise<number> => {
    const counters = await prober.sh("nft list chain inet seen input")
    return [...counters.matchAll(/packets (\d+)/g)].reduce((sum, [, packets]) => sum + Number(packets), 0)
  }
  const drops = async (): Promise<number> =>
    Number(/packets (\d+) bytes \d+ drop/.exec(await host.sh("nft list table inet clawchat"))?.[1])
  const scan = async (target: string, ...ports: ReadonlyArray<string>): Promise<number> => {
    const before = await received()
    const scanning = lab.program(prober, process.execPath, [SCAN, target, ...ports])
    assert.deepStrictEqual(await scanning.exit(), { code: 0, signal: null }, scanning.said())
    return (await received()) - before
  }
  const doctor = async (home: string, at: Host, ...more: ReadonlyArray<string>) => {
    const { stdout } = await lab.run(at, ["doctor", "--home", home, "--json", ...more])
    const told: {
      readonly network: NetworkReport
      readonly findings: ReadonlyArray<{ readonly what: string; readonly verdict: string; readonly detail: string }>
    } = JSON.parse(stdout)
    return { closed: told.network.closedPorts, finding: told.findings.find(({ what }) => what === "closed ports") }
  }
  const say = async (): Promise<void> => {
    chat.write(`word ${++words}\n`)
    await chat.out(new RegExp(`^ *> word ${words}$`, "m"))
  }
  /** The port that a credential file would name now. */
  const port = (): number => Number(readOr(Path.join(server.home, "identity/port")))
  /** UDP ports of the server's range that are open on its host. */
  const ports = (): ReadonlyArray<number> =>
    [...readOr(`/proc/${server.server.pid}/net/udp`).matchAll(/^ *\d+: 00000000:([0-9A-F]{4})/gm)]
      .map(([, port = ""]) => Number.parseInt(port, 16))
      .filter((port) => port >= PORT_FIRST)

  beforeAll(async () => {
    lab = await Lab.make()
    const place = await lab.place("server", "none")
    host = place.host
    address = place.address
    const from = lab.internet.address()
    prober = await lab.internet.host("prober", [from])
    // As many ICMP messages as there are reasons, so that a silence is one.
    await host.sh("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")
    await host.sh(`ip addr add ${SERVER_V6}/64 dev wan nodad`)
    await prober.sh("ip addr add 2001:db8::6/64 dev wan nodad")
    await prober.nft(`table inet seen {
  chain input {
    type filter hook input priority raw
    iif lo accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report } accept
    counter
  }
}`)
    Fs.mkdirSync(lab.world.path("server", "config"), { recursive: true, mode: 0o700 })
    Fs.writeFileSync(lab.world.path("server", "config/server.yaml"), "networking:\n  port_rotation_interval: 5s\n")
    server = await ServerSide.start(lab, place, "server", {})
    phone = await lab.place("phone", "none")
    const device = new Device(lab, phone, "phone")
    const file = ["--sec", await server.credential(), "--key-file", server.keyFile]
    chat = device.start(["chat", ...file], true)
    await say()
  })
  afterAll(() => lab?.end())

  it("without it closed ports answer, and doctor says what to do", async () => {
    assert.isAbove(await scan(address, CLOSED), 0)
    assert.isAbove(await scan(SERVER_V6, CLOSED), 0)
    const { closed, finding } = await doctor(server.home, host)
    assert.strictEqual(closed, "answer")
    assert.deepInclude(finding, { verdict: "warn" })
    assert.match(finding?.detail ?? "", /clawchat-firewall/)
    // A device has nothing to hide.
    const device = await doctor(lab.world.path("unpaired"), phone.host)
    assert.deepInclude(device.finding, { verdict: "ok" })
  })

  it("with it nothing comes back, from closed ports or the server's, and doctor is content", async () => {
    await host.sh(`nft -c -f ${RULES} && nft -f ${RULES}`)
    assert.strictEqual(await scan(address, CLOSED), 0)
    assert.isAtLeast(await drops(), (PORTS - OPEN) * DATAGRAMS)
    assert.strictEqual(await scan(SERVER_V6, CLOSED), 0)
    assert.isAtLeast(await drops(), 2 * (PORTS - OPEN) * DATAGRAMS)
    const open = ports()
    assert.isAbove(open.length, 0)
    assert.strictEqual(await scan(address, ...open.map(String)), 0)
    await say()
    const { closed, finding } = await doctor(server.home, host)
    assert.strictEqual(closed, "silent")
    assert.deepInclude(finding, { verdict: "ok" })
  })

  it.skipIf(!hasCoturn)(
    `doctor sees the silence from outside, too${hasCoturn ? "" : " (skipped: no coturn)"}`,
    async () => {
      const { server: stun } = await lab.turn()
      assert.strictEqual((await doctor(server.home, host, "--stun", stun)).closed, "silent")
      await host.sh("nft delete table inet clawchat")
      assert.strictEqual((await doctor(server.home, host, "--stun", stun)).closed, "answer")
      await host.sh(`nft -f ${RULES}`)
    }
  )

  it("the server's port may change, and the client's address; old ports fall silent", async () => {
    const first = port()
    await until(() => port() !== first, "another port")
    await say()
    await until(() => !ports().includes(first), "the end of the first port")
    const before = await drops()
    assert.strictEqual(await scan(address, String(first)), 0)
    assert.isAtLeast(await drops(), before + DATAGRAMS)
    await phone.moveTo(lab.internet.address())
    await say()
  })

  it("others' services work, and routers may tell of a small MTU", async () => {
    const echo = `const s = require("node:dgram").createSocket("udp4").bind(7007, () => console.log("here"))
      s.on("message", (bytes, { address, port }) => s.send(bytes, port, address))`
    const serving = lab.program(host, process.execPath, ["-e", echo])
    await serving.out(/^here$/m)
    const ask = `const s = require("node:dgram").createSocket("udp4").on("message", () => process.exit(0))
      s.send("x", 7007, "${address}")`
    assert.deepStrictEqual(await lab.program(prober, process.execPath, ["-e", ask]).exit(), { code: 0, signal: null })

    const by = lab.internet.address()
    const router = await lab.internet.host("router", [by])
    const far = await Host.make("far")
    try {
      await connect(
        { host: router, name: "lan", address: "10.9.0.1/24" },
        { host: far, name: "wan", address: "10.9.0.2/24" }
      )
      await router.sh("sysctl -qw net.ipv4.ip_forward=1 && ip link set lan mtu 1280")
      await host.sh(`ip route add 10.9.0.0/24 via ${by}`)
      const send = `require("node:dgram").createSocket("udp4").send(Buffer.alloc(1400), 9, "10.9.0.2", () => process.exit())`
      await lab.program(host, process.execPath, ["-e", send]).exit()
      assert.match(await host.sh("ip route get 10.9.0.2"), / mtu 1280/)
    } finally {
      await far.end()
    }
  })

  it("another firewall that would say no does not get to, and stays when ours goes", async () => {
    await host.nft(`table inet admin {
  chain input {
    type filter hook input priority filter
    policy drop
    iif lo accept
    ct state established,related accept
    udp dport 49152-65535 accept
    reject with icmpx admin-prohibited
  }
}`)
    assert.strictEqual(await scan(address, CLOSED, "4000-4020"), 0)
    assert.strictEqual((await doctor(server.home, host)).closed, "silent")
    await say()
    const admin = await host.sh("nft list table inet admin")
    const counted = await drops()
    await host.sh(`nft -f ${RULES}`)
    assert.isBelow(await drops(), counted)
    await host.sh("nft delete table inet clawchat")
    assert.strictEqual(await host.sh("nft list ruleset"), admin)
    assert.isAbove(await scan(address, "4000-4020"), 0)
    assert.isAbove(await scan(address, CLOSED), 0)
    assert.strictEqual((await doctor(server.home, host)).closed, "answer")
    await say()
    chat.end()
    assert.deepStrictEqual(await chat.exit(), { code: 0, signal: null }, chat.said())
  })
})
