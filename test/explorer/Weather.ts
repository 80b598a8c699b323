/**
 * What happens in an explored world: a plan that a seed draws, plain data that can be printed, shortened and run again.
 * Times are milliseconds from the moment at which all clients are connected.
 */

import { SeededRandom } from "../../src/layers/SeededRandom.ts"
import type { LinkOptions } from "../../src/layers/SimulatedLink.ts"

export type Tier = "server" | "llm" | number

export type Happening =
  /** A power cut, or an end in good order, and a start `backMs` later. */
  | { readonly what: "kill" | "stop"; readonly who: Tier; readonly backMs: number }
  /** A cable is pulled. */
  | { readonly what: "cut"; readonly who: "server" | number; readonly forMs: number }
  | { readonly what: "link"; readonly who: "server" | number; readonly link: LinkOptions }
  /** A translator forgets, and gets another address. */
  | { readonly what: "rebind"; readonly who: number; readonly address: string | undefined }
  /** To another network, behind a translator or not. */
  | { readonly what: "move"; readonly who: number; readonly to: string; readonly nat: NatKind | undefined }
  | { readonly what: "sleep"; readonly who: number; readonly forMs: number }
  | { readonly what: "clock"; readonly who: number; readonly skewMs: number }
  | { readonly what: "rekey"; readonly who: number }
  /** Somebody else has the first choices of the server's next period. */
  | { readonly what: "occupy"; readonly count: number }
  /** The ports that the server does not have yet are closed to a client. */
  | { readonly what: "firewall"; readonly who: number; readonly forMs: number }
  /** Junk and what was recorded, to all whose addresses are known. */
  | { readonly what: "stranger"; readonly datagrams: number }
  /** One more device comes with a file. */
  | { readonly what: "pair" }

/** Who says COMPROMISED in the end: the server's home, its owner's device, or another one. */
export interface Finale {
  readonly by: "server" | "owner" | "member"
  /** A power cut of the server so long after it, and a start at once. */
  readonly killMs: number | undefined
  /** Those who are to hear of it cannot be reached meanwhile. */
  readonly unheard: boolean
}

export type NatKind = "fullCone" | "restricted" | "portRestricted" | "symmetric"

export interface Place {
  readonly nat: NatKind | undefined
  /** Behind a carrier's translator, too. */
  readonly carrier: boolean
  readonly natTimeoutMs: number
  readonly link: LinkOptions
}

export interface Plan {
  readonly seed: number
  readonly places: ReadonlyArray<Place>
  readonly serverLink: LinkOptions
  readonly portRotationMs: number
  readonly keyRotationMs: number
  /** Longest pause between two questions of a client. */
  readonly pauseMs: number
  readonly happenings: ReadonlyArray<Happening & { readonly at: number }>
  readonly finale: Finale | undefined
  /** A rendezvous that all know, and what the server is behind then. */
  readonly relay: { readonly serverNat: NatKind | undefined } | undefined
}

const KINDS: ReadonlyArray<NatKind> = ["fullCone", "restricted", "portRestricted", "symmetric"]
const PORT_PERIODS = [20_000, 45_000, 120_000, 3_600_000]
const KEY_PERIODS = [2000, 10_000, 60_000, 3_600_000]

class Dice {
  readonly #random: SeededRandom

  constructor(seed: number) {
    this.#random = new SeededRandom(seed).fork("plan")
  }

  /** From `least` to `most`, whole. */
  between(least: number, most: number): number {
    return least + this.#random.below(most - least + 1)
  }

  /** The same, but as often below a tenth as above it. */
  skewed(least: number, most: number): number {
    return Math.round(least * (most / least) ** this.#random.unit())
  }

  chance(probability: number): boolean {
    return this.#random.chance(probability)
  }

  pick<A>(all: ReadonlyArray<A>): A {
    return all[this.#random.below(all.length)] as A
  }
}

const linkOf = (dice: Dice): LinkOptions => {
  const bad = dice.chance(0.5)
  const some = (probability: number, value: number): number => (dice.chance(probability) ? value : 0)
  return {
    delayMs: dice.skewed(1, 200),
    jitterMs: some(0.5, dice.skewed(1, 40)),
    loss: bad ? dice.between(1, 12) / 100 : 0,
    reorder: { probability: some(0.4, 0.05), byMs: dice.skewed(2, 60) },
    duplicate: some(0.3, 0.05),
    corrupt: some(0.3, 0.01),
    ...(dice.chance(0.15) ? { rate: { bitsPerSecond: 400_000, queueBytes: 30_000 } } : {})
  }
}

/** The plan of a seed. */
export const draw = (seed: number): Plan => {
  const dice = new Dice(seed)
  const places = Array.from({ length: dice.pick([1, 1, 2, 3]) }, (): Place => {
    const nat = dice.chance(0.7) ? dice.pick(KINDS) : undefined
    return {
      nat,
      carrier: nat !== undefined && dice.chance(0.2),
      natTimeoutMs: dice.pick([20_000, 30_000, 60_000, 300_000]),
      link: linkOf(dice)
    }
  })
  const portRotationMs = dice.pick(PORT_PERIODS)
  const happenings: Array<Happening & { readonly at: number }> = []
  const count = dice.between(2, 12)
  const client = (): number => dice.between(0, places.length - 1)
  let at = 0
  for (let n = 0; n < count; n++) {
    at += dice.skewed(5, 15_000)
    happenings.push({ at, ...happeningOf(dice, client, portRotationMs, n) })
  }
  return {
    seed,
    places,
    serverLink: dice.chance(0.7) ? { delayMs: 5 } : linkOf(dice),
    portRotationMs,
    keyRotationMs: dice.pick(KEY_PERIODS),
    pauseMs: dice.pick([300, 2000, 8000]),
    happenings,
    finale: dice.chance(0.2) ? finaleOf(dice) : undefined,
    relay: dice.chance(0.2) ? { serverNat: dice.chance(0.7) ? dice.pick(KINDS) : undefined } : undefined
  }
}

const happeningOf = (dice: Dice, client: () => number, portRotationMs: number, n: number): Happening => {
  const end = dice.chance(0.7) ? "kill" : "stop"
  switch (dice.between(0, 13)) {
    case 0:
      return { what: end, who: "server", backMs: dice.skewed(1, 20_000) }
    case 1:
      return { what: end, who: "llm", backMs: dice.skewed(1, 20_000) }
    case 2:
      return { what: end, who: client(), backMs: dice.skewed(1, 60_000) }
    case 3:
      return { what: "cut", who: dice.chance(0.3) ? "server" : client(), forMs: dice.skewed(100, 60_000) }
    case 4:
      return { what: "link", who: dice.chance(0.3) ? "server" : client(), link: linkOf(dice) }
    case 5:
    case 6:
      return { what: "rebind", who: client(), address: dice.chance(0.6) ? `203.0.113.${100 + n}` : undefined }
    case 7:
      return dice.chance(0.5)
        ? { what: "move", who: client(), to: `10.9.${n}.2`, nat: dice.pick(KINDS) }
        : { what: "move", who: client(), to: `192.0.2.${100 + n}`, nat: undefined }
    case 8:
      return { what: "sleep", who: client(), forMs: dice.skewed(500, 200_000) }
    case 9:
      // Who looks for a port that is open for seconds must know the second.
      return { what: "clock", who: client(), skewMs: skewOf(dice, portRotationMs) }
    case 10:
      return { what: "rekey", who: client() }
    case 11:
      return dice.chance(0.5)
        ? { what: "occupy", count: dice.between(1, 3) }
        : { what: "firewall", who: client(), forMs: dice.skewed(1000, 100_000) }
    case 12:
      return { what: "stranger", datagrams: dice.between(10, 300) }
    default:
      return { what: "pair" }
  }
}

const finaleOf = (dice: Dice): Finale => ({
  by: dice.pick(["server", "owner", "member"]),
  killMs: dice.chance(0.4) ? dice.skewed(1, 3000) : undefined,
  unheard: dice.chance(0.3)
})

const skewOf = (dice: Dice, portRotationMs: number): number => {
  if (portRotationMs < 3_600_000) return dice.between(-1500, 1500)
  return dice.chance(0.5) ? dice.between(-11, 11) * 3_600_000 : dice.between(-400_000, 400_000)
}
