/**
 * What the providers' SDKs stand on here: one HTTP request per answer, no retries, no timeouts but our own.
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
import type { Provider } from "../domain/Llm.ts"
import { LlmError, type LlmEvent, type LlmRequest } from "../services/LlmProvider.ts"
import { OversizeError, StatusError, scrub, toLlmError } from "./LlmFailures.ts"

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
const maxEventBytes = 4 * 1024 * 1024

/** Bytes of an error's body that are read. */
const maxErrorBytes = 64 * 1024

/** Headers of the SDKs that are passed on. */
const passedHeaders = ["accept", "anthropic-version", "content-type"]

/** Tokens of one request; more is no count, and sums of it would pass what a number holds. */
const maxTokens = 1e9

/** A number of tokens, whatever a provider sent in its place. */
export const count = (value: unknown): number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= maxTokens ? value : 0

/** The model's name that a provider reports, or else the one asked for. */
export const modelName = (value: unknown, asked: string, key: Redacted.Redacted | undefined): string =>
  typeof value === "string" && value !== "" ? scrub(value, key) : asked

export type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>

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
        request.on("error", reject)
        request.once("response", (response) => {
          const status = response.statusCode ?? 500
          // What is thrown here would end the program.
          if (!isAnswer(status)) {
            response.destroy()
            reject(new StatusError(status))
            return
          }
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

/** Whether a status may stand with a body, as `Response` has it. */
const isAnswer = (status: number): boolean => status >= 200 && status <= 599 && ![204, 205, 304].includes(status)

/** Bytes since the last blank line, which ends an event; lines end with LF, CR or both. */
class EventSize {
  bytes = 0
  #isBlank = true
  #afterCr = false

  add(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]
      const isPair = byte === 10 && this.#afterCr
      this.#afterCr = byte === 13
      if (isPair) continue
      if (byte !== 10 && byte !== 13) {
        this.#isBlank = false
        this.bytes++
      } else {
        if (this.#isBlank) this.bytes = 0
        this.#isBlank = true
      }
    }
  }
}

/** The body as it comes, bounded: in the length of an event, and as a whole where it only explains an error. */
async function* bodyOf(line: Line, response: http.IncomingMessage, status: number) {
  const event = new EventSize()
  let total = 0
  for await (const chunk of response) {
    const bytes: Uint8Array = chunk
    line.received += bytes.length
    total += bytes.length
    event.add(bytes)
    if (event.bytes > maxEventBytes) throw new OversizeError()
    yield bytes
    if (status >= 300 && total > maxErrorBytes) return
  }
}

/** How one provider's SDK is driven; one of these is made per request and may hold state. */
export interface Exchange<Chunk> {
  /** Sends the request. */
  readonly open: (fetch: Fetch, signal: AbortSignal) => Promise<AsyncIterable<Chunk>>
  /** What a chunk adds. May throw on what is no chunk at all. */
  readonly read: (chunk: Chunk) => ReadonlyArray<LlmEvent>
  /** The calls of a complete answer, then `Done`; undefined where the end was not seen. May throw like `read`. */
  readonly end: () => ReadonlyArray<LlmEvent> | undefined
}

/** How a provider is reached. */
export interface Access {
  readonly http: LlmHttpOptions
  /** Named where a key is missing or refused. */
  readonly keyName: string
  readonly auth: (key: string) => readonly [name: string, value: string]
}

/** Aborted when the scope closes, which closes the connection. */
const aborting = Effect.acquireRelease(
  Effect.sync(() => new AbortController()),
  (controller) => Effect.sync(() => controller.abort())
)

/** Runs one request. The connection is closed at once when the stream ends, fails or is interrupted. */
export const run = <Chunk>(
  options: Access & {
    /** Fails where the request cannot be said in the provider's format; then nothing is sent. */
    readonly exchange: (request: LlmRequest) => Effect.Effect<Exchange<Chunk>, LlmError>
    readonly request: LlmRequest
  }
): Stream.Stream<LlmEvent, LlmError> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const { http: settings, keyName } = options
      const { connectMs = 30_000, firstTokenMs = 60_000, idleMs = 60_000 } = settings.timeouts ?? {}
      const exchange = yield* options.exchange(options.request)
      const line = openLine(options.auth, settings.key)
      const controller = yield* aborting

      const late = (message: string) => () => Effect.fail(new LlmError({ reason: "Timeout", message }))
      const attempt = <A>(begun: boolean, promise: () => Promise<A>) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) =>
          Effect.tryPromise({
            try: promise,
            catch: (error) =>
              toLlmError(error, begun, { ...settings, reached: Deferred.isDoneUnsafe(line.connected) }, keyName, now)
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
      const broken = (what: string) =>
        new LlmError({ reason: "Broken", message: `${settings.provider}'s answer ${what}: ask again` })
      const understood = <A>(run: () => A) => Effect.try({ try: run, catch: () => broken("is garbled") })
      const page = Effect.fnUntraced(function* (next: Next): Effect.fn.Return<Page, LlmError> {
        if (next.done !== true) {
          return [yield* understood(() => exchange.read(next.value)), Option.some(undefined)]
        }
        const end = yield* understood(exchange.end)
        if (end !== undefined) return [end, Option.none()]
        return yield* broken("was cut off")
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

/** Names of models in one list; more are left out. */
const maxModels = 2000

/** The names of the provider's models, in their order. One request, or a few where the provider pages; ten seconds for all. */
export const list = (
  options: Access & {
    readonly open: (fetch: Fetch, signal: AbortSignal) => AsyncIterable<{ readonly id: string }>
  }
): Effect.Effect<ReadonlyArray<string>, LlmError> =>
  Effect.gen(function* () {
    const { http: settings, keyName } = options
    const line = openLine(options.auth, settings.key)
    const { signal } = yield* aborting
    const now = yield* Clock.currentTimeMillis
    return yield* Effect.tryPromise({
      try: async () => {
        const names = new Set<string>()
        for await (const { id } of options.open(line.fetch, signal)) {
          const name = typeof id === "string" ? scrub(id, settings.key) : ""
          if (name !== "") names.add(name)
          if (names.size >= maxModels) break
        }
        return [...names].sort()
      },
      catch: (error) => toLlmError(error, line.received > 0, settings, keyName, now)
    }).pipe(
      Effect.timeoutOrElse({
        duration: 10_000,
        orElse: () => {
          const message = `${settings.provider} did not list its models within 10 s: try again`
          return Effect.fail(new LlmError({ reason: "Timeout", message }))
        }
      })
    )
  }).pipe(Effect.scoped)
