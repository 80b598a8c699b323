/**
 * Kinds of settings: how the text of a flag, variable or YAML scalar becomes a value. All sources give text, so `9000`,
 * `"9000"` and `--port 9000` mean the same. A refusal is the phrase that follows "expected".
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { Provider } from "./Llm.ts"
import { canonicalHost } from "./protocol/AddressCodec.ts"
import * as ServerName from "./ServerName.ts"

/** What a value may depend on besides its text. */
export interface Context {
  /** The home in force, absolute. */
  readonly home: string
  /** Makes a path of the source absolute. */
  readonly resolve: (path: string) => string
}

export interface Kind<A> {
  /** The phrase for documents and for values that are not even text. */
  readonly expected: string
  readonly decode: (text: string, context: Context) => Result.Result<A, string>
  /** The value never appears in a message. */
  readonly secret?: boolean
}

const make = <A>(expected: string, decode: (text: string) => A | undefined): Kind<A> => ({
  expected,
  decode: (text) => {
    const value = decode(text)
    return value === undefined ? Result.fail(expected) : Result.succeed(value)
  }
})

const hasControls = (text: string): boolean => /\p{Cc}/u.test(text)
const utf8Length = (text: string): number => new TextEncoder().encode(text).length

/** One line of text, at most so many UTF-8 bytes. */
export const line = (maxBytes: number): Kind<string> =>
  make(`one line of at most ${maxBytes} bytes`, (text) =>
    text.trim() !== "" && !hasControls(text) && utf8Length(text) <= maxBytes ? text : undefined
  )

export const oneOf = <const A extends string>(...words: ReadonlyArray<A>): Kind<A> =>
  make(words.length === 2 ? words.join(" or ") : `one of ${words.join(", ")}`, (text) =>
    words.find((word) => word === text.toLowerCase())
  )

const yes = ["true", "yes", "on", "1"]
const no = ["false", "no", "off", "0"]
export const flag: Kind<boolean> = make("true or false", (text) => {
  const word = text.toLowerCase()
  return yes.includes(word) ? true : no.includes(word) ? false : undefined
})

export const integer = (min: number, max: number): Kind<number> =>
  make(`a whole number from ${min} to ${max}`, (text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
    return value >= min && value <= max ? value : undefined
  })

export const port: Kind<number> = { ...integer(1, 65535), expected: "a port number from 1 to 65535" }

/** Milliseconds, from a plain number of the unit that the setting's name gives. */
export const amount = (unit: "minutes" | "hours", min: number, max: number): Kind<number> =>
  make(`a number of ${unit} from ${min} to ${max}`, (text) => {
    const value = /^\d{1,9}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN
    return value >= min && value <= max ? Math.round(value * (unit === "minutes" ? 60_000 : 3_600_000)) : undefined
  })

const unitsMs: ReadonlyArray<readonly [pattern: RegExp, ms: number]> = [
  [/^(ms|millis|milliseconds?)$/, 1],
  [/^(|s|secs?|seconds?)$/, 1000],
  [/^(m|mins?|minutes?)$/, 60_000],
  [/^(h|hours?)$/, 3_600_000],
  [/^(d|days?)$/, 86_400_000]
]
const inWords = (ms: number): string => {
  const [unit, size] =
    ms % 3_600_000 === 0 ? ["hour", 3_600_000] : ms % 60_000 === 0 ? ["minute", 60_000] : ["second", 1000]
  return `${ms / size} ${unit}${ms === size ? "" : "s"}`
}

/** Milliseconds, from `5 seconds`, `250 ms`, `1h`; a bare number counts seconds. */
export const duration = (minMs: number, maxMs: number): Kind<number> => {
  const expected = `a duration such as "5 seconds"`
  return {
    expected,
    decode: (text) => {
      const parts = /^(\d{1,12}(?:\.\d{1,3})?) *([a-z]*)$/.exec(text.toLowerCase())
      const size = unitsMs.find(([pattern]) => parts !== null && pattern.test(parts[2] ?? ""))?.[1]
      if (parts === null || size === undefined) return Result.fail(expected)
      const ms = Math.round(Number(parts[1]) * size)
      return ms >= minMs && ms <= maxMs
        ? Result.succeed(ms)
        : Result.fail(`a duration from ${inWords(minMs)} to ${inWords(maxMs)}`)
    }
  }
}

/** US dollars, from `5`, `0.5` or `$5`; `none` is undefined. */
export const dollars = (max: number): Kind<number | undefined> => {
  const expected = `US dollars up to ${max}, such as "2.50", or "none"`
  return {
    expected,
    decode: (text) => {
      if (text === "none") return Result.succeed(undefined)
      const value = /^\$?(\d{1,9}(?:\.\d{1,6})?)$/.exec(text)?.[1]
      return value !== undefined && Number(value) <= max ? Result.succeed(Number(value)) : Result.fail(expected)
    }
  }
}

const sizes: { readonly [unit: string]: number } = {
  "": 1,
  b: 1,
  k: 1024,
  kb: 1000,
  kib: 1024,
  m: 1024 ** 2,
  mb: 1000 ** 2,
  mib: 1024 ** 2,
  g: 1024 ** 3,
  gb: 1000 ** 3,
  gib: 1024 ** 3
}

/** Bytes, from `10 MiB`, `500 kB`, or a plain number. */
export const size = (min: number, max: number): Kind<number> =>
  make(`a size such as "10 MiB", at least ${min} bytes`, (text) => {
    const parts = /^(\d{1,12}(?:\.\d{1,3})?) *([a-z]*)$/.exec(text.toLowerCase())
    const unit = parts === null ? undefined : sizes[parts[2] ?? ""]
    if (parts === null || unit === undefined) return undefined
    const bytes = Math.round(Number(parts[1]) * unit)
    return bytes >= min && bytes <= max ? bytes : undefined
  })

/** A numeric IPv4 or IPv6 address in the one form that addresses are compared by. */
export const ip: Kind<string> = make("a numeric IPv4 or IPv6 address", canonicalHost)

/** `http://` or `https://`, without user, query or fragment; no slash at the end. */
export const url: Kind<string> = make("a URL such as https://api.example.org/v1", (text) => {
  const parsed = URL.parse(text)
  if (parsed === null || !["http:", "https:"].includes(parsed.protocol)) return undefined
  if (parsed.username !== "" || parsed.password !== "" || parsed.search !== "" || parsed.hash !== "") return undefined
  return parsed.href.replace(/\/+$/, "")
})

const pathProblem = (text: string): boolean => text.trim() === "" || hasControls(text)

/** An absolute path; `auto` means the given place in the home. */
export const path = (automatic: (home: string) => string): Kind<string> => ({
  expected: `a path or "auto"`,
  decode: (text, context) => {
    if (text === "auto") return Result.succeed(automatic(context.home))
    return pathProblem(text) ? Result.fail(`a path or "auto"`) : Result.succeed(context.resolve(text))
  }
})

/** A path that may also be `none`. */
export const pathOrNone = (automatic: (home: string) => string | undefined): Kind<string | undefined> => ({
  expected: `a path, "auto" or "none"`,
  decode: (text, context) => {
    if (text === "none") return Result.succeed(undefined)
    if (text === "auto") return Result.succeed(automatic(context.home))
    return pathProblem(text) ? Result.fail(`a path, "auto" or "none"`) : Result.succeed(context.resolve(text))
  }
})

/** The word `auto` leaves the value to the program: undefined. */
export const autoOr = <A>(kind: Kind<A>): Kind<A | undefined> => ({
  ...kind,
  expected: `${kind.expected} or "auto"`,
  decode: (text, context) =>
    text === "auto"
      ? Result.succeed(undefined)
      : Result.mapError(kind.decode(text, context), (expected) => `${expected} or "auto"`)
})

/** A key or password of one line; the empty text means none. */
export const secret = (minLength: number, maxLength: number, spaces: "spaces" | "no spaces") => {
  const expected =
    spaces === "spaces"
      ? `one line of ${minLength} to ${maxLength} characters`
      : `${minLength} to ${maxLength} printable ASCII characters without spaces`
  const kind: Kind<Redacted.Redacted<string> | undefined> = {
    expected,
    secret: true,
    decode: (given) => {
      const text = given.trim()
      if (text === "") return Result.succeed(undefined)
      const fits = text.length >= minLength && text.length <= maxLength
      const clean = spaces === "spaces" ? !hasControls(text) : /^[\x21-\x7e]+$/.test(text)
      return fits && clean ? Result.succeed(Redacted.make(text)) : Result.fail(expected)
    }
  }
  return kind
}

/** Servers as `host:port`, separated by commas, or `none`; a port may be missing where there is a usual one. */
export const servers = (max: number, defaultPort?: number): Kind<ReadonlyArray<ServerName.ServerName>> =>
  make(`at most ${max} servers as host:port, separated by commas, or "none"`, (text) => {
    if (text === "none") return []
    const words = text.split(",").map((word) => word.trim())
    const names = words.map((word) => ServerName.parse(word, defaultPort))
    return names.length <= max && names.every((name) => name !== undefined) ? names : undefined
  })

/** A provider that stands in for another, and its model where it is not the default. */
export interface StandIn {
  readonly provider: Provider
  readonly model: string | undefined
}

/** Providers, each as `provider` or `provider/model`, separated by commas, or `none`. */
export const standIns = (max: number): Kind<ReadonlyArray<StandIn>> =>
  make(
    `at most ${max} of ${Provider.literals.join(", ")}, each with /MODEL if you like, separated by commas, or "none"`,
    (text) => {
      if (text === "none") return []
      const found = text.split(",").map((word) => {
        const [name = "", ...rest] = word.trim().split("/")
        const provider = Provider.literals.find((literal) => literal === name.toLowerCase())
        const model = rest.join("/").trim()
        const fits = rest.length === 0 || (model !== "" && !hasControls(model) && utf8Length(model) <= 200)
        return provider !== undefined && fits ? { provider, model: model === "" ? undefined : model } : undefined
      })
      return found.length <= max && found.every((one) => one !== undefined) ? found : undefined
    }
  )
