/** One way from whatever goes wrong with a provider to `LlmError`, in words that carry no key. */
import * as Redacted from "effect/Redacted"
import type { FailureReason, Provider } from "../domain/Llm.ts"
import { LlmError } from "../services/LlmProvider.ts"

/** Who failed. */
interface Who {
  readonly provider: Provider
  readonly model: string
  readonly baseUrl: string
  readonly key?: Redacted.Redacted | undefined
  /** The connection stood, so the request may have been taken up. */
  readonly reached?: boolean
}

/** The answer is longer than any language model's. */
export class OversizeError extends Error {}

/** A status that goes with no answer, such as 204 or 999. */
export class StatusError extends Error {
  readonly code: string

  constructor(status: number) {
    super("no answer")
    this.code = `STATUS_${status}`
  }
}

/** A value's string field, if it has one. */
const stringOf = (value: unknown, field: string): string | undefined => {
  if (typeof value !== "object" || value === null) return undefined
  const found: unknown = Reflect.get(value, field)
  return typeof found === "string" ? found : undefined
}

/** The first system error code along a chain of causes: ECONNREFUSED, ENOTFOUND, CERT_HAS_EXPIRED. */
const codeOf = (error: unknown): string | undefined => {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const code = stringOf(at, "code")
    if (code !== undefined && /^[A-Z][A-Z0-9_]+$/.test(code)) return code
  }
  return undefined
}

/** A provider's words, fit for one line: no control characters, no key nor any piece of one, at most 200 characters. */
export const scrub = (text: string, key: Redacted.Redacted | undefined): string => {
  const secret = key === undefined ? "" : Redacted.value(key)
  const plain = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, " ")
  const whole = secret === "" ? plain : plain.replaceAll(secret, "[key]")
  return whole
    .replace(/\b(?:sk|key|pk)[-_][\w*.-]{6,}/gi, "[key]")
    .replace(/[\w+/=.-]{6,}/g, (word) => (secret.includes(word) ? "[key]" : word))
    .slice(0, 200)
    .trim()
}

/** Seconds, a date, or milliseconds in a header of its own; at most a day. */
const retryAfter = (headers: unknown, now: number): number | undefined => {
  if (!(headers instanceof Headers)) return undefined
  const inMs = Number(headers.get("retry-after-ms") ?? Number.NaN)
  const after = headers.get("retry-after")
  const ms = Number.isFinite(inMs)
    ? inMs
    : after === null
      ? Number.NaN
      : /^\d+(\.\d+)?$/.test(after.trim())
        ? Number(after) * 1000
        : Date.parse(after) - now
  return Number.isFinite(ms) ? Math.min(Math.max(0, Math.round(ms)), 24 * 60 * 60 * 1000) : undefined
}

/** What an SDK threw, in our words. `begun`: the answer's head had been received without an error status. */
export const toLlmError = (error: unknown, begun: boolean, options: Who, keyName: string, now: number): LlmError => {
  const fail = (reason: FailureReason, message: string, retryAfterMs?: number) =>
    new LlmError({ reason, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) })
  const who = options.provider
  const where = new URL(options.baseUrl).host
  const status: unknown = error instanceof Error ? Reflect.get(error, "status") : undefined
  const kind = stringOf(error, "type") ?? stringOf(error, "code") ?? ""

  if (typeof status === "number") {
    const words = scrub(error instanceof Error ? error.message : "", options.key)
    if (status === 401 || status === 403) {
      return options.key === undefined
        ? fail("NoKey", `${who} asks for a key: set ${keyName} and start again`)
        : fail("Unauthorized", `${who} refused the key (${status}): check ${keyName} and start again`)
    }
    const ms = retryAfter(error instanceof Error ? Reflect.get(error, "headers") : undefined, now)
    if (status === 429) {
      const when = ms === undefined ? "in a while" : `in ${Math.ceil(ms / 1000)} s`
      return fail(
        "RateLimited",
        `${who} takes no more requests for now, or the account is out of credit (429): try again ${when}`,
        ms
      )
    }
    if (status === 402) return fail("Refused", `${who} says that the account is out of credit (402): top it up`)
    if (status === 408) return fail("Timeout", `${who} gave up waiting (408): try again`)
    if (status >= 500) return fail("Unavailable", `${who} is in trouble (${status}): try again in a while`, ms)
    if (status < 400) {
      return fail(
        "Refused",
        `${who} at ${where} redirects elsewhere (${status}), which is not followed: set the right base URL`
      )
    }
    return fail(
      "Refused",
      `${who} did not accept the request: ${words}; check the model (${options.model}) and the base URL`
    )
  }
  if (begun) {
    if (error instanceof OversizeError) return fail("Broken", `${who} sent more than a language model says: ask again`)
    if (/rate_limit|quota/.test(kind))
      return fail("RateLimited", `${who} takes no more requests for now: try again in a while`)
    if (/overloaded|server_error|api_error/.test(kind)) {
      return fail("Unavailable", `${who} is in trouble (${scrub(kind, options.key)}): try again in a while`)
    }
    return fail("Broken", `${who}'s answer was cut off or garbled: ask again`)
  }
  const code = codeOf(error)
  if (code?.startsWith("STATUS_")) {
    return fail("Broken", `${who} at ${where} gave no answer (status ${code.slice(7)}): check the base URL`)
  }
  if (code?.startsWith("HPE_")) return fail("Broken", `${where} does not speak HTTP (${code}): check the base URL`)
  if (options.reached === true) {
    return fail("Broken", `${who} at ${where} hung up before it answered (${code ?? "no reason"}): ask again`)
  }
  return fail(
    "Unavailable",
    `${who} at ${where} cannot be reached (${code ?? "no connection"}): check the network and the base URL`
  )
}
