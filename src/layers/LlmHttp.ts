/**
 * What the providers' SDKs stand on here: one HTTP request per answer, and one way from whatever goes wrong to `LlmError`.
 *
 * The SDKs never see a key. They are given a placeholder and a `fetch` of ours, which sends the few headers that a request
 * needs and puts the key in itself; so nothing an SDK logs, throws or reads from the environment can carry a key, or
 * carry it elsewhere. Redirects and proxies are not followed. Node's own fetch is not used since it neither tells when
 * the connection stands nor lets its timeouts be set, and every timeout here runs on Effect's clock.
 */
import * as http from "node:http"
import * as https from "node:https"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import type { FailureReason, Provider } from "../domain/Llm.ts"
import { LlmError, type LlmEvent, type LlmRequest } from "../services/LlmProvider.ts"

export interface LlmTimeouts {
  /** Until the connection (TLS included) stands. Default 30 s. */
  readonly connectMs?: number | undefined
  /** From there to the first event of the answer. Default 60 s. */
  readonly firstTokenMs?: number | undefined
  /** From then on, without a byte from the provider. Default 60 s. */
  readonly idleMs?: number | undefined
}

export interface LlmHttpOptions {
  readonly provider: Provider
  readonly model: string
  /** Absolute; `http:` or `https:`. */
  readonly baseUrl: string
  readonly key?: Redacted.Redacted | undefined
  /** Sent unless the request says otherwise. */
  readonly maxTokens?: number | undefined
  readonly timeouts?: LlmTimeouts | undefined
  /** How it came to be chosen, for `Status`. */
  readonly chosen?: string | undefined
}

/** Given to the SDKs where they insist on a key. */
export const placeholderKey = "kept-elsewhere"

/** Takes the SDKs' log lines; they print none. */
const nothing = () => {}
export const silent = { error: nothing, warn: nothing, info: nothing, debug: nothing }

/** The SDKs' own timeout, ms: longer than any of ours. */
export const sdkTimeoutMs = 24 * 60 * 60 * 1000

/** One event of a stream may have this many bytes; more is no answer of a language model. */
const maxLineBytes = 4 * 1024 * 1024

/** Bytes of an error's body that are read. */
const maxErrorBytes = 64 * 1024

/** Headers of the SDKs that are passed on. */
const passedHeaders = ["accept", "anthropic-version", "content-type"]

class OversizeError extends Error {}

/** A number of tokens, whatever a provider sent in its place. */
export const count = (value: unknown): number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : 0

/** The model's name that a provider reports, or else the one asked for. */
export const modelName = (value: unknown, asked: string): string =>
  typeof value === "string" && value !== "" ? scrub(value, undefined) : asked

type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>

/** A request's progress, seen from outside its `fetch`. */
interface Line {
  readonly fetch: Fetch
  readonly connected: Deferred.Deferred<void>
  /** Changes with every byte received. */
  received: number
}

const openLine = (
  auth: (key: string) => readonly [name: string, value: string],
  key: Redacted.Redacted | undefined
) => {
  const connected = Deferred.makeUnsafe<void>()
  const line: Line = {
    connected,
    received: 0,
    fetch: (input, init = {}) =>
      new Promise((resolve, reject) => {
        const url = new URL(input instanceof Request ? input.url : input)
        const given = new Headers(init.headers)
        const headers: Record<string, string> = { "accept-encoding": "identity", "user-agent": "clawchat" }
        for (const name of passedHeaders) {
          const value = given.get(name)
          if (value !== null) headers[name] = value
        }
        if (key !== undefined) {
          const [name, value] = auth(Redacted.value(key))
          headers[name] = value
        }
        const body = typeof init.body === "string" ? init.body : ""
        const secure = url.protocol === "https:"
        const request = (secure ? https : http).request(url, {
          method: init.method ?? "GET",
          headers: { ...headers, "content-length": Buffer.byteLength(body) },
          agent: false,
          ...(init.signal ? { signal: init.signal } : {})
        })
        request.once("socket", (socket) => {
          socket.once(secure ? "secureConnect" : "connect", () => Deferred.doneUnsafe(connected, Effect.void))
        })
        request.once("error", reject)
        request.once("response", (response) => {
          const status = response.statusCode ?? 500
          const head = new Headers()
          for (const name of ["content-type", "retry-after", "retry-after-ms"]) {
            const value = response.headers[name]
            if (typeof value === "string") head.set(name, value)
          }
          resolve(new Response(ReadableStream.from(bodyOf(line, response, status)), { status, headers: head }))
        })
        request.end(body)
      })
  }
  return line
}

/** The body as it comes, bounded: in the length of a line, and as a whole where it only explains an error. */
async function* bodyOf(line: Line, response: http.IncomingMessage, status: number) {
  let lineBytes = 0
  let total = 0
  for await (const chunk of response) {
    const bytes: Uint8Array = chunk
    line.received += bytes.length
    total += bytes.length
    const end = bytes.lastIndexOf(10)
    lineBytes = end === -1 ? lineBytes + bytes.length : bytes.length - end - 1
    if (lineBytes > maxLineBytes) throw new OversizeError()
    yield bytes
    if (status >= 300 && total > maxErrorBytes) return
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
const toLlmError = (
  error: unknown,
  begun: boolean,
  options: LlmHttpOptions,
  keyName: string,
  now: number
): LlmError => {
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
    if (status === 429) {
      const ms = Reflect.has(Object(error), "headers")
        ? retryAfter(Reflect.get(Object(error), "headers"), now)
        : undefined
      const when = ms === undefined ? "in a while" : `in ${Math.ceil(ms / 1000)} s`
      return fail(
        "RateLimited",
        `${who} takes no more requests for now, or the account is out of credit (429): try again ${when}`,
        ms
      )
    }
    if (status === 408) return fail("Timeout", `${who} gave up waiting (408): try again`)
    if (status >= 500) return fail("Unavailable", `${who} is in trouble (${status}): try again in a while`)
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
  if (code?.startsWith("HPE_")) return fail("Broken", `${where} does not speak HTTP (${code}): check the base URL`)
  return fail(
    "Unavailable",
    `${who} at ${where} cannot be reached (${code ?? "no connection"}): check the network and the base URL`
  )
}

/** How one provider's SDK is driven; one of these is made per request and may hold state. */
export interface Exchange<Chunk> {
  /** Sends the request. */
  readonly open: (fetch: Fetch, signal: AbortSignal) => Promise<AsyncIterable<Chunk>>
  /** The text in a chunk, if any. May throw on what is no chunk at all. */
  readonly text: (chunk: Chunk) => string | undefined
  /** The answer's end, if it has been seen. */
  readonly done: () => LlmEvent | undefined
}

/** Runs one request. The connection is closed at once when the stream ends, fails or is interrupted. */
export const run = <Chunk>(options: {
  readonly http: LlmHttpOptions
  /** Named where a key is missing or refused. */
  readonly keyName: string
  readonly auth: (key: string) => readonly [name: string, value: string]
  readonly exchange: (request: LlmRequest) => Exchange<Chunk>
  readonly request: LlmRequest
}): Stream.Stream<LlmEvent, LlmError> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const { http: settings, keyName } = options
      const { connectMs = 30_000, firstTokenMs = 60_000, idleMs = 60_000 } = settings.timeouts ?? {}
      const exchange = options.exchange(options.request)
      const line = openLine(options.auth, settings.key)
      const controller = yield* Effect.acquireRelease(
        Effect.sync(() => new AbortController()),
        (controller) => Effect.sync(() => controller.abort())
      )

      const late = (message: string) => () => Effect.fail(new LlmError({ reason: "Timeout", message }))
      const attempt = <A>(begun: boolean, promise: () => Promise<A>) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) =>
          Effect.tryPromise({
            try: promise,
            catch: (error) => toLlmError(error, begun, settings, keyName, now)
          })
        )

      const opening = exchange.open(line.fetch, controller.signal)
      opening.catch(nothing)
      const opened = attempt(false, () => opening)
      yield* Effect.raceFirst(Deferred.await(line.connected), opened).pipe(
        Effect.timeoutOrElse({
          duration: connectMs,
          orElse: late(`${settings.provider} did not take the connection within ${connectMs / 1000} s: try again`)
        })
      )

      // Fails once nothing, not even a keep-alive, has come for the time.
      const silence: Effect.Effect<never, LlmError> = Effect.suspend(() => {
        const before = line.received
        return Effect.andThen(
          Effect.sleep(idleMs),
          Effect.suspend(() =>
            line.received === before
              ? late(`${settings.provider} fell silent for ${idleMs / 1000} s in mid-answer: ask again`)()
              : silence
          )
        )
      })

      const iterator = yield* Effect.gen(function* () {
        const chunks = (yield* opened)[Symbol.asyncIterator]()
        return { chunks, first: yield* attempt(true, () => chunks.next()) }
      }).pipe(
        Effect.timeoutOrElse({
          duration: firstTokenMs,
          orElse: late(`${settings.provider} did not begin to answer within ${firstTokenMs / 1000} s: try again`)
        })
      )

      type Next = IteratorResult<Chunk>
      type Page = readonly [ReadonlyArray<LlmEvent>, Option.Option<Next | undefined>]
      const page = Effect.fnUntraced(function* (next: Next): Effect.fn.Return<Page, LlmError> {
        if (next.done !== true) {
          const text = yield* Effect.try({
            try: () => exchange.text(next.value),
            catch: () =>
              new LlmError({ reason: "Broken", message: `${settings.provider}'s answer is garbled: ask again` })
          })
          return [text === undefined || text === "" ? [] : [{ _tag: "Delta", text }], Option.some(undefined)]
        }
        const end = exchange.done()
        if (end !== undefined) return [[end], Option.none()]
        return yield* new LlmError({
          reason: "Broken",
          message: `${settings.provider}'s answer was cut off: ask again`
        })
      })
      const { chunks, first } = iterator
      const further = Effect.suspend(() =>
        Effect.raceFirst(
          attempt(true, () => chunks.next()),
          silence
        )
      )
      return Stream.paginate<Next | undefined, LlmEvent, LlmError>(first, (given) =>
        given === undefined ? Effect.flatMap(further, page) : page(given)
      )
    })
  )
