/** The NATs of these tests are what they claim, seen from inside by sockets of our own, and by `clawchat doctor`. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { KINDS, type Kind, type Place } from "./Internet.ts"
import { hasCoturn, Lab, type Turn } from "./Lab.ts"
import type { Found } from "./Mirror.ts"
import { hasNamespaces, whyNot } from "./Namespaces.ts"

type Seen = Pick<Found, "mapping" | "filtering" | "portPreserved">

const ENDPOINT = "endpoint-independent"
const ADDRESS = "address-dependent"
const PORT = "address-and-port-dependent"

const EXPECTED: Readonly<Record<Exclude<Kind, "blocked">, Seen>> = {
  none: { mapping: ENDPOINT, filtering: ENDPOINT, portPreserved: true },
  "full-cone preserved": { mapping: ENDPOINT, filtering: ENDPOINT, portPreserved: true },
  "full-cone random": { mapping: ENDPOINT, filtering: ENDPOINT, portPreserved: false },
  "address-restricted preserved": { mapping: ENDPOINT, filtering: ADDRESS, portPreserved: true },
  "address-restricted random": { mapping: ENDPOINT, filtering: ADDRESS, portPreserved: false },
  "port-restricted preserved": { mapping: ENDPOINT, filtering: PORT, portPreserved: true },
  "port-restricted random": { mapping: ENDPOINT, filtering: PORT, portPreserved: false },
  carrier: { mapping: ENDPOINT, filtering: PORT, portPreserved: false },
  symmetric: { mapping: PORT, filtering: PORT, portPreserved: false }
}

/** Doctors take some seconds each; all of them with `NAT_GRID=1`. */
const DIAGNOSED: ReadonlyArray<Kind> =
  process.env.NAT_GRID === undefined
    ? ["none", "full-cone random", "address-restricted preserved", "symmetric"]
    : KINDS.filter((kind) => kind !== "blocked")

describe.skipIf(!hasNamespaces)(`kernel NATs${whyNot}`, () => {
  let lab: Lab
  let mirror: readonly [string, string]
  let turn: Turn | undefined
  const places = new Map<Kind, Place>()

  beforeAll(async () => {
    lab = await Lab.make()
    mirror = await lab.mirror()
    turn = hasCoturn ? await lab.turn() : undefined
    for (const kind of KINDS) places.set(kind, await lab.place("host", kind))
  })
  afterAll(() => lab?.end())

  const at = (kind: Kind): Place => places.get(kind) ?? assert.fail(kind)

  for (const [kind, expected] of Object.entries(EXPECTED) as ReadonlyArray<[Exclude<Kind, "blocked">, Seen]>)
    it(kind, async () => {
      const found: Found = JSON.parse(await lab.look(at(kind), mirror))
      const { outside, ...seen } = found
      assert.deepStrictEqual(seen, expected)
      assert.strictEqual(outside.split(":")[0], at(kind).outside)
    })

  it("blocked: every datagram ends in the box", async () => {
    const { host, nats } = at("blocked")
    const send = `require("node:dgram").createSocket("udp4").send("x", 7000, "${mirror[0]}", () => process.exit())`
    await lab.program(host, process.execPath, ["-e", send]).exit()
    assert.match((await nats[0]?.host.sh("nft list chain ip nat none")) ?? "", /counter packets 1 /)
  })

  it.skipIf(!hasCoturn)("clawchat doctor sees the same, asking coturn", async () => {
    await Promise.all(
      DIAGNOSED.map(async (kind) => {
        if (kind === "blocked") return
        const { host, nats, outside } = at(kind)
        const args = ["doctor", "--home", lab.world.path("none"), "--stun", turn?.server ?? "", "--json"]
        const { nat } = JSON.parse((await lab.run(host, args)).stdout).network
        const { filtering, mapping, portPreserved, reflexive, translated } = nat.ipv4
        assert.deepStrictEqual({ mapping, filtering, portPreserved }, EXPECTED[kind], kind)
        assert.deepStrictEqual([reflexive.split(":")[0], translated], [outside, nats.length > 0], kind)
      })
    )
  })
})
