/**
 * Devices behind every kind of NAT and servers behind every kind of NAT find each other: real programs, kernel NATs, real
 * coturn. Here a dozen cells that have all kinds in them; `NAT_GRID=1 npx vitest run test/nat/Grid.test.ts` visits them all
 * and prints the table.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { type Cell, isDirect, median, table, visit, WITH_UDP } from "./Cells.ts"
import type { Kind, Place } from "./Internet.ts"
import { hasCoturn, Lab, type Rendezvous, type Turn } from "./Lab.ts"
import { hasNamespaces, whyNot } from "./Namespaces.ts"
import { Device, type Helpers, ServerSide } from "./Sides.ts"

const isWhole = process.env.NAT_GRID !== undefined
const why = hasNamespaces && !hasCoturn ? " (skipped: turnserver, of the package coturn, is not installed)" : whyNot
const WHOLE_MS = 1_200_000

/** By server. */
const CHOSEN: ReadonlyArray<readonly [Kind, ReadonlyArray<Kind>]> = [
  ["none", ["none", "symmetric"]],
  ["full-cone random", ["symmetric"]],
  [
    "port-restricted random",
    ["full-cone preserved", "address-restricted random", "port-restricted preserved", "carrier"]
  ],
  ["carrier", ["carrier"]],
  ["symmetric", ["address-restricted preserved", "port-restricted random"]]
]

describe.skipIf(!hasNamespaces || !hasCoturn)(`the grid${why}`, () => {
  let lab: Lab
  let turn: Turn
  let rendezvous: Rendezvous
  const places = new Map<Kind, Place>()

  beforeAll(async () => {
    lab = await Lab.make()
    turn = await lab.turn()
    rendezvous = await lab.rendezvous()
  })
  afterAll(() => lab?.end())

  const client = async (kind: Kind): Promise<Place> => {
    const known = places.get(kind) ?? (await lab.place("client", kind))
    places.set(kind, known)
    return known
  }

  /** A server there with these helpers, for as long as `use` takes. */
  const withServer = async (
    kind: Kind,
    helpers: Helpers,
    use: (server: ServerSide) => Promise<void>
  ): Promise<void> => {
    const place = await lab.place("server", kind)
    const server = await ServerSide.start(lab, place, `server-${lab.number()}`, helpers)
    await use(server)
    await server.stop()
    await place.end()
  }

  /** Pairing from where no UDP leaves. */
  const refuse = async (server: ServerSide): Promise<void> => {
    const device = new Device(lab, await client("blocked"), `device-${lab.number()}`)
    const file = [await server.credential(), "--key-file", server.keyFile]
    const pair = await device.timed(["pair", ...file, "--timeout", "2"])
    assert.deepStrictEqual([pair.code, pair.stdout], [69, ""])
    assert.match(pair.stderr, /does not answer/)
  }

  const row = async (kind: Kind, clients: ReadonlyArray<Kind>): Promise<ReadonlyArray<Cell>> => {
    const cells: Array<Cell> = []
    await withServer(kind, { stun: turn, turn, rendezvous }, async (server) => {
      for (const other of clients) {
        const cell = await visit(lab, server, await client(other), { turn, rendezvous })
        assert.strictEqual(["direct", "punched"].includes(cell.way), isDirect(other, kind), JSON.stringify(cell))
        cells.push(cell)
      }
      if (kind === "none") await refuse(server)
    })
    return cells
  }

  for (const [kind, clients] of isWhole ? [] : CHOSEN)
    it(`server ${kind}, clients ${clients.join(", ")}${kind === "none" ? "; blocked ones are told" : ""}`, async () => {
      const cells = await row(kind, clients)
      assert.strictEqual(cells.length, clients.length)
    })

  for (const by of ["rendezvous", "turn"] as const)
    it(`both symmetric, by ${by} alone`, () =>
      withServer("symmetric", by === "turn" ? { turn } : { rendezvous }, async (server) => {
        const { way } = await visit(lab, server, await client("symmetric"), { turn, rendezvous })
        assert.strictEqual(way, by)
      }))

  it.runIf(isWhole)(
    "all of it",
    async () => {
      const cells: Array<Cell> = []
      for (const kind of WITH_UDP) cells.push(...(await row(kind, WITH_UDP)))
      const times = cells.map(({ cameMs }) => cameMs)
      const words = `${table(cells)}\n\n${cells.length} cells, median ${median(times)} ms, longest ${Math.max(...times)} ms\n`
      process.stdout.write(words)
      assert.strictEqual(cells.length, WITH_UDP.length ** 2)
      assert.isBelow(Math.max(...times), 10_000)
      assert.isBelow(median(times), 1000)
    },
    WHOLE_MS
  )
})
