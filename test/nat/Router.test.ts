/** A server behind a home router that maps ports. No setting says anything of that. */
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { bin } from "../Program.ts"
import { type Running, World } from "../processes/Tiers.ts"
import { connect, Host, hasNamespaces, whyNot } from "./Namespaces.ts"

const ROUTER = "192.168.77.1"
const SERVER = "192.168.77.2"
/** One that does not change within the test. */
const PORT = 50_123
const PROGRAM = Path.join(import.meta.dirname, "RouterProgram.ts")

describe.skipIf(!hasNamespaces)(`a router that maps ports${whyNot}`, () => {
  let world: World
  let router: Host
  let host: Host

  const inside = (at: Host, args: ReadonlyArray<string>): Running => {
    const command = at.command(process.execPath, args)
    return world.start(command.args, { program: command.program })
  }
  const clawchat = (...args: ReadonlyArray<string>): Running => inside(host, [bin, ...args])
  const ok = async (...args: ReadonlyArray<string>): Promise<string> => {
    const running = clawchat(...args)
    assert.strictEqual((await running.exit()).code, 0, running.said())
    return running.stdout
  }

  beforeAll(async () => {
    world = new World()
    router = await Host.make("router")
    host = await Host.make("server")
    await connect(
      { host: router, name: "lan", address: `${ROUTER}/24` },
      { host, name: "eth0", address: `${SERVER}/24` }
    )
    // The kernel tells of a cable's carrier some time after both ends are up; until then the host has no address.
    await host.sh(
      `ip route add default via ${ROUTER}; until ip link show eth0 | grep -q "state UP"; do sleep 0.05; done`
    )
  })
  afterAll(async () => {
    await world?.end()
    await router?.end()
    await host?.end()
  })

  for (const [index, protocol] of (["PCP", "NAT-PMP", "UPnP"] as const).entries())
    it(`${protocol}: the port is mapped, told in credential files, and seen by doctor`, async () => {
      const outside = `203.0.113.${7 + index}`
      const box = inside(router, [PROGRAM, ROUTER, protocol, outside])
      try {
        await box.out(/^ready$/m)
        const home = world.path(protocol)
        const server = clawchat("server", "--home", home, "--port", String(PORT))
        await server.err(
          new RegExp(`Port ${PORT} is ${outside}:${PORT} on the internet: ${protocol}, router ${ROUTER}`)
        )
        const file = world.path(`${protocol}.sec`)
        await ok("sec", "new", "--home", home, "--out", file)
        const shown = JSON.parse(
          await ok("sec", "show", file, "--json", "--home", home, "--key-file", Path.join(home, "config/bootstrap.key"))
        )
        // A private address is of use to nobody else: this one stands in its place.
        assert.deepStrictEqual([shown.server_public_ip, shown.server_udp_port], [outside, PORT])
        const doctor = clawchat("doctor", "--home", home)
        await doctor.exit()
        assert.match(
          doctor.stdout,
          new RegExp(`port mapping +the router ${ROUTER.replaceAll(".", "\\.")} speaks ${protocol}`)
        )
        assert.strictEqual((await server.stop()).code, 0)
      } finally {
        await box.stop()
      }
    })

  it("none: the server starts all the same, and doctor says so", async () => {
    const home = world.path("none")
    const server = clawchat("server", "--home", home, "--port", String(PORT))
    await server.out(/^Credential file: /m)
    const doctor = clawchat("doctor", "--home", home)
    await doctor.exit()
    assert.match(doctor.stdout, /port mapping +none: no router answers PCP, NAT-PMP or UPnP/)
    assert.strictEqual((await server.stop()).code, 0)
  })
})
