/** One cell of the grid: a device behind one NAT, a server behind another; how they find each other, and how soon. */
import { assert } from "@effect/vitest"
import type { Running } from "../processes/Tiers.ts"
import type { Kind, Place } from "./Internet.ts"
import { KINDS } from "./Internet.ts"
import type { Lab, Rendezvous, Turn } from "./Lab.ts"
import type { Said } from "./Line.ts"
import { Device, type ServerSide } from "./Sides.ts"

export type Way = "direct" | "punched" | "rendezvous" | "turn"

export interface Cell {
  readonly client: Kind
  readonly server: Kind
  /** By which way the server first answered, and where the session went. */
  readonly first: Way
  readonly way: Way
  /** Milliseconds from the start of `clawchat chat` with a fresh file to the end of its answer. */
  readonly cameMs: number
  /** Milliseconds of the next line: until the server answered, and until the session went its way. */
  readonly answeredMs: number
  readonly wayMs: number
}

const QUESTION = "hello"
const ANSWER = /offline assistant/

const isCone = (kind: Kind): boolean => kind !== "symmetric" && kind !== "blocked"
/** Lets in an answer from another port than the one that was asked. */
const isWide = (kind: Kind): boolean => kind === "none" || /^(full-cone|address-restricted)/.test(kind)

/** Whether two such places can speak without a third once they know of each other. */
export const isDirect = (a: Kind, b: Kind): boolean =>
  isCone(a) && isCone(b) ? true : (isCone(a) && isWide(a) && b === "symmetric") || (isWide(b) && a === "symmetric")

export const WITH_UDP = KINDS.filter((kind) => kind !== "blocked")

interface Helping {
  readonly turn: Turn
  readonly rendezvous: Rendezvous
}

/** Where a session leads that was dialled so. */
const wayOf = (
  { address, relayed }: Said,
  { place }: ServerSide,
  { rendezvous, turn }: Helping,
  isFirst: boolean
): Way => {
  const host = address.split(":")[0]
  if (host === rendezvous.address) return "rendezvous"
  if (host !== undefined && turn.addresses.includes(host)) return "turn"
  assert.deepStrictEqual([host, relayed], [place.outside, false])
  return isFirst ? "direct" : "punched"
}

const said = (line: Running): ReadonlyArray<Said> =>
  line.stdout
    .split("\n")
    .filter((text) => text.endsWith("}"))
    .map((text) => JSON.parse(text))

/** A new device there comes with a file and asks a question; then it keeps a line until that is direct, if it can be. */
export const visit = async (lab: Lab, server: ServerSide, place: Place, helping: Helping): Promise<Cell> => {
  const device = new Device(lab, place, `device-${lab.number()}`)
  const about = `${place.kind} to ${server.place.kind}`
  const file = ["--sec", await server.credential(), "--key-file", server.keyFile]
  const came = await device.timed(["chat", QUESTION, ...file])
  assert.strictEqual(came.code, 0, `${about}: ${came.stderr}`)
  assert.match(came.stdout, ANSWER, about)
  const line = device.line()
  await line.out(isDirect(place.kind, server.place.kind) ? /"relayed":false/ : /\}\n/)
  line.end()
  await line.exit()
  const [first, ...others] = said(line)
  const last = others.at(-1) ?? first
  if (first === undefined || last === undefined) return assert.fail(line.said())
  const by = wayOf(first, server, helping, true)
  return {
    client: place.kind,
    server: server.place.kind,
    first: by,
    way: last === first ? by : wayOf(last, server, helping, by === "direct"),
    cameMs: Math.round(came.ms),
    answeredMs: first.ms,
    wayMs: last.ms
  }
}

const SHORT: Readonly<Record<Kind, string>> = {
  none: "none",
  "full-cone preserved": "full-p",
  "full-cone random": "full-r",
  "address-restricted preserved": "addr-p",
  "address-restricted random": "addr-r",
  "port-restricted preserved": "port-p",
  "port-restricted random": "port-r",
  carrier: "carrier",
  symmetric: "symm",
  blocked: "blocked"
}

const LETTER: Readonly<Record<Way, string>> = { direct: "direct", punched: "punch", rendezvous: "rdv", turn: "turn" }

/** Clients down, servers across: the way kept, ms until the first answer of a device that comes with a file, and of one that comes back. */
export const table = (cells: ReadonlyArray<Cell>): string => {
  const servers = [...new Set(cells.map(({ server }) => server))]
  const clients = [...new Set(cells.map(({ client }) => client))]
  const row = (client: Kind): ReadonlyArray<string> => [
    SHORT[client],
    ...servers.map((server) => {
      const cell = cells.find((one) => one.client === client && one.server === server)
      return cell === undefined ? "" : `${LETTER[cell.way]} ${cell.cameMs}/${cell.answeredMs}`
    })
  ]
  const rows = [["client \\ server", ...servers.map((kind) => SHORT[kind])], ...clients.map(row)]
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((cols) => cols[i]?.length ?? 0))) ?? []
  return rows
    .map((cols) =>
      cols
        .map((text, i) => text.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd()
    )
    .join("\n")
}

export const median = (values: ReadonlyArray<number>): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
