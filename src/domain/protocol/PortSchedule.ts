/**
 * Where a server is to be found at what time, for whoever knows its port seed: a port of each period, drawn from the seed,
 * with several to choose from where one is taken. The phase of the periods comes from the seed, too, so that servers do not
 * all move on the hour. The seed finds ports; it opens nothing.
 */
import { PORT_CHOICES, PORT_COUNT, PORT_FIRST, PROTOCOL_NAME } from "./Constants.ts"
import { utf8, Writer } from "./Cursor.ts"
import type { Primitives } from "./Primitives.ts"

const EMPTY = new Uint8Array(0)
const PORT = utf8(`${PROTOCOL_NAME} port`)
const PHASE = utf8(`${PROTOCOL_NAME} port phase`)

export interface PortSchedule {
  /** The period that a time of day belongs to. */
  readonly periodAt: (wallMs: number) => number
  /** When a period begins, ms since 1970. */
  readonly startOf: (period: number) => number
  /** The ports of a period in the order in which they are tried, `PORT_CHOICES` of them, all different. */
  readonly portsOf: (period: number) => ReadonlyArray<number>
}

const u32 = (bytes: Uint8Array): number =>
  (((bytes[0] as number) << 24) | ((bytes[1] as number) << 16) | ((bytes[2] as number) << 8) | (bytes[3] as number)) >>>
  0

/**
 * The schedule of a 32-byte seed with periods of `periodMs`, which both sides must know. The phase is
 * `HKDF("", seed, "clawchat/1 port phase", 4) mod periodMs`; port `k` of a period is
 * `49152 + HKDF("", seed, "clawchat/1 port" | period u64 | k u8, 4) mod 16384`, a repetition left out.
 */
export const make = (p: Primitives, seed: Uint8Array, periodMs: number): PortSchedule => {
  const phase = u32(p.hkdf(EMPTY, seed, PHASE, 4)) % periodMs
  const draw = (period: number, k: number): number => {
    const info = new Writer(new Uint8Array(PORT.length + 9)).put(PORT).u64(period).u8(k)
    return PORT_FIRST + (u32(p.hkdf(EMPTY, seed, info.bytes, 4)) % PORT_COUNT)
  }
  return {
    periodAt: (wallMs) => Math.max(0, Math.floor((wallMs - phase) / periodMs)),
    startOf: (period) => period * periodMs + phase,
    portsOf: (period) => {
      const ports = new Set<number>()
      for (let k = 0; ports.size < PORT_CHOICES; k++) ports.add(draw(period, k))
      return [...ports]
    }
  }
}

/**
 * Where to look for a server at a time, most likely first: the first choices of this period and its neighbours (the next
 * one opens early, the last one closes late), then what was taken when those were.
 */
export const candidates = (schedule: PortSchedule, wallMs: number): ReadonlyArray<number> => {
  const period = schedule.periodAt(wallMs)
  const rows = [period, period - 1, period + 1].filter((each) => each >= 0).map(schedule.portsOf)
  const ports = new Set<number>()
  for (let k = 0; k < PORT_CHOICES; k++) for (const row of rows) ports.add(row[k] as number)
  return [...ports]
}
