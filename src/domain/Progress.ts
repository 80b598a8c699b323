/** How far a transfer is, in words and in one line of a terminal. Time is an argument. */
import * as Printable from "./Printable.ts"

/** Milliseconds over which a rate is taken, and the samples kept of them. */
const WINDOW_MS = 5000
const SAMPLES = 64
/** Milliseconds after which a first rate is worth telling. */
const FIRST_MS = 500

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"] as const

/** Three digits and a unit, decimal: `999 B`, `1.23 MB`. */
export const size = (bytes: number): string => {
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit++
  }
  const digits = unit === 0 ? 0 : value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

/** `0:07`, `12:34`, `1:02:03`. */
export const clock = (ms: number): string => {
  const seconds = Math.max(0, Math.round(ms / 1000))
  const two = (n: number): string => String(n).padStart(2, "0")
  const hours = Math.floor(seconds / 3600)
  const minutes = Math.floor(seconds / 60) % 60
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`
}

/** The rate of the last seconds. */
export class Meter {
  readonly #samples: Array<{ readonly at: number; readonly bytes: number }>

  /** `now`: milliseconds, never going back. */
  constructor(now: number) {
    this.#samples = [{ at: now, bytes: 0 }]
  }

  /** `bytes`: all so far. */
  add(now: number, bytes: number): void {
    const last = this.#samples.at(-1)
    // Samples too close together replace each other, so that they cover the window.
    if (this.#samples.length > 1 && last !== undefined && now - last.at < WINDOW_MS / SAMPLES) this.#samples.pop()
    this.#samples.push({ at: last === undefined ? now : Math.max(now, last.at), bytes })
    while (this.#samples.length > 2 && now - (this.#samples[1]?.at ?? now) >= WINDOW_MS) this.#samples.shift()
  }

  /** Bytes per second; undefined while it is too early to tell. */
  rate(now: number): number | undefined {
    const first = this.#samples[0]
    const last = this.#samples.at(-1)
    if (first === undefined || last === undefined || now - first.at < FIRST_MS) return undefined
    return ((last.bytes - first.bytes) * 1000) / (now - first.at)
  }
}

const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u
const NONE = /^[\p{Mn}\p{Me}\p{Cf}]$/u

/** Columns that a character takes in a terminal (Unicode UAX 11, wide and fullwidth: two). */
const widthOf = (char: string): number => (NONE.test(char) ? 0 : WIDE.test(char) ? 2 : 1)

/** Columns that a text takes in a terminal. */
export const width = (text: string): number => {
  let columns = 0
  for (const char of text) columns += widthOf(char)
  return columns
}

/** The end of a text, which tells most of a path, in so many columns. */
export const tail = (text: string, columns: number): string => {
  if (width(text) <= columns) return text
  const chars = [...text]
  let left = columns - 1
  let start = chars.length
  while (start > 0) {
    const next = widthOf(chars[start - 1] ?? "")
    if (next > left) break
    left -= next
    start--
  }
  return columns < 1 ? "" : `\u2026${chars.slice(start).join("")}`
}

export interface Standing {
  /** Of the file under way. */
  readonly path: string
  readonly bytes: number
  /** Bytes of it in all; null when nobody knows. */
  readonly size: number | null
  /** Bytes per second. */
  readonly rate: number | undefined
  /** Files that are done with. */
  readonly files: number
}

/** Columns of the bar without its brackets, and the fewest that a path is given. */
const BAR = 20
const PATH = 10

/** One line for a terminal, at most `columns` wide; what matters least goes first. */
export const line = ({ bytes, files, path, rate, size: total }: Standing, columns: number): string => {
  const share = total === null || total === 0 ? undefined : Math.min(1, bytes / total)
  const done = share === undefined ? 0 : Math.floor(share * BAR)
  const left = rate === undefined || total === null || rate < 1 ? undefined : ((total - bytes) / rate) * 1000
  const parts = [
    ...(share === undefined ? [] : [`[${"#".repeat(done)}${".".repeat(BAR - done)}]`]),
    ...(share === undefined ? [] : [`${String(Math.floor(share * 100)).padStart(3)} %`]),
    size(bytes).padStart(7),
    ...(rate === undefined ? [] : [`${size(rate)}/s`]),
    ...(left === undefined ? [] : [`${clock(left)} left`]),
    ...(files === 0 ? [] : [`(${files} done)`])
  ]
  while (parts.length > 1 && columns - parts.join("  ").length - 2 < PATH) parts.shift()
  const rest = parts.join("  ")
  const name = tail(Printable.line(path), Math.max(0, columns - rest.length - 2))
  return name === "" ? tail(rest, columns) : `${name}  ${rest}`
}
