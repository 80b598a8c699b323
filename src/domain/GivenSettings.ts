/**
 * The settings in force from what flags, environment and files give.
 *
 * Strongest first: flags, environment, `.env`, YAML, defaults. Every value that is given is checked, also one that a
 * stronger source hides.
 */
import * as Result from "effect/Result"
import type * as Kinds from "./SettingKinds.ts"
import { defaultOf, entries, type Role, table, type Values } from "./Settings.ts"

/** One value that some source gives. */
export interface Given {
  readonly key: string
  readonly text: string
  readonly source: "flag" | "environment" | "user .env" | "home .env" | "yaml"
  /** Where it stands and under which name: `config/server.yaml:12: networking.retry_interval`, `--port`. */
  readonly where: string
  readonly resolve: (path: string) => string
}

export interface Resolved {
  readonly values: Values
  /** One line each; none when all is well. */
  readonly problems: ReadonlyArray<string>
  /** Where the value in force of a key was given; keys at their defaults are not there. */
  readonly origins: ReadonlyMap<string, string>
}

const MAX_SHOWN = 60

/** A refused value as messages show it: quoted, escaped, cut. */
export const shown = (text: string): string => {
  const points = Array.from(text)
  const cut = points.length > MAX_SHOWN ? `${points.slice(0, MAX_SHOWN).join("")}...` : text
  return JSON.stringify(cut).replace(
    /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`
  )
}

const complaint = (where: string, kind: Kinds.Kind<unknown>, expected: string, text: string): string =>
  kind.secret === true ? `${where}: expected ${expected}` : `${where}: expected ${expected}, got ${shown(text)}`

/**
 * The values in force from all that is given, the strongest first. A key whose every value is refused shows its default,
 * beside the problem.
 */
export const resolve = (role: Role, home: string, given: ReadonlyArray<Given>): Resolved => {
  const problems: Array<string> = []
  const origins = new Map<string, string>()
  const winners = new Map<string, Given>()
  const values = table((key, kind, details) => {
    let winner = defaultOf(key, kind, details, { home, resolve: (path) => path })
    let found = false
    for (const one of given) {
      if (one.key !== key) continue
      const decoded = kind.decode(one.text, { home, resolve: one.resolve })
      if (Result.isFailure(decoded)) problems.push(complaint(one.where, kind, decoded.failure, one.text))
      else if (!found) {
        found = true
        winner = decoded.success
        origins.set(key, one.where)
        winners.set(key, one)
      }
    }
    return winner
  }, role)
  if (problems.length === 0) problems.push(...contradictions(values, winners))
  return { values: { ...values, home }, problems, origins }
}

/** What no single value shows. */
const contradictions = (values: Values, winners: ReadonlyMap<string, Given>): ReadonlyArray<string> => {
  const problems: Array<string> = []
  const at = (...keys: ReadonlyArray<string>): string =>
    keys.map((key) => winners.get(key)?.where).find((where) => where !== undefined) ?? keys.join(", ")
  if (values.security.autoRegenerateMs >= values.security.fileValidityMs) {
    const where = at("security.auto_regenerate_minutes", "security.file_validity_minutes")
    problems.push(`${where}: security.auto_regenerate_minutes must be less than security.file_validity_minutes`)
  }
  if (values.networking.keepaliveIntervalMs * 2 > values.networking.idleTimeoutMs) {
    const where = at("networking.keepalive_interval", "networking.idle_timeout")
    problems.push(`${where}: networking.keepalive_interval must be at most half of networking.idle_timeout`)
  }
  const { cached, input, output } = values.llm.price
  if ((input === undefined) !== (output === undefined) || (cached !== undefined && input === undefined)) {
    const where = at("llm.price.input", "llm.price.output", "llm.price.cached")
    problems.push(`${where}: llm.price.input and llm.price.output must be set together`)
  }
  // A `.env` that came with someone's folder must not send the user's keys to a host of its choice.
  const baseUrl = winners.get("llm.base_url")
  if (baseUrl?.source === "user .env") {
    const foreign = entries.filter((entry) => entry.key.endsWith("api_key") && entry.kind.secret === true)
    if (foreign.some(({ key }) => !["user .env", undefined].includes(winners.get(key)?.source))) {
      problems.push(
        `${baseUrl.where}: the .env of the current folder may not choose a host for keys that were set elsewhere; set it where the key is set`
      )
    }
  }
  return problems
}
