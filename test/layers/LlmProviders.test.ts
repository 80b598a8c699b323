/** The real SDKs against servers on loopback that speak the providers' formats, well and badly. */
import * as http from "node:http"
import * as net from "node:net"
import { afterEach, assert, beforeEach, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { vi } from "vitest"
import type { Provider } from "../../src/domain/Llm.ts"
import * as LlmAnthropic from "../../src/layers/LlmAnthropic.ts"
import * as LlmHttp from "../../src/layers/LlmHttp.ts"
import * as LlmLayers from "../../src/layers/LlmLayers.ts"
import * as LlmOpenAi from "../../src/layers/LlmOpenAi.ts"
import { type LlmError, type LlmEvent, LlmProvider, type LlmRequest } from "../../src/services/LlmProvider.ts"

const key = "sk-test-Zq81LxT4vWm7RkPd93NbYc"

interface Seen {
  readonly url: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

interface Server {
  readonly url: string
  readonly seen: Array<Seen>
}

type Answer = (response: http.ServerResponse, seen: Seen) => void

const listening = (server: net.Server) =>
  Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        if (server instanceof http.Server) server.closeAllConnections()
      })
  )

const serve = Effect.fnUntraced(function* (answer: Answer) {
  const seen: Array<Seen> = []
  const server = http.createServer((request, response) => {
    const parts: Array<Buffer> = []
    request.on("data", (part: Buffer) => parts.push(part))
    request.on("end", () => {
      const entry = { url: request.url ?? "", headers: request.headers, body: Buffer.concat(parts).toString() }
      seen.push(entry)
      answer(response, entry)
    })
  })
  const port = yield* listening(server)
  return { url: `http://127.0.0.1:${port}`, seen } satisfies Server
})

/** How one provider talks. */
interface Dialect {
  readonly provider: Provider
  readonly layer: (options: LlmHttp.LlmHttpOptions) => Layer.Layer<LlmProvider>
  readonly base: string
  readonly path: string
  readonly keyVariable: string
  readonly credential: (headers: http.IncomingHttpHeaders) => unknown
  readonly sentKey: string
  readonly start: string
  readonly delta: (text: string) => string
  readonly end: string
  readonly error: (type: string, message: string) => string
  readonly streamError: (type: string) => string
}

const data = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`
const event = (value: { readonly type: string }) => `event: ${value.type}\n${data(value)}`

const chunk = (fields: object) =>
  data({ id: "c1", object: "chat.completion.chunk", created: 1, model: "m-1", ...fields })

const openAi: Dialect = {
  provider: "openai",
  layer: LlmOpenAi.layer,
  base: "/v1",
  path: "/v1/chat/completions",
  keyVariable: "OPENAI_API_KEY",
  credential: (headers) => headers.authorization,
  sentKey: `Bearer ${key}`,
  start: chunk({ choices: [{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }] }),
  delta: (text) => chunk({ choices: [{ index: 0, delta: { content: text }, finish_reason: null }] }),
  end: `${chunk({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] })}${chunk({
    choices: [],
    usage: { prompt_tokens: 11, completion_tokens: 3, total_tokens: 14 }
  })}data: [DONE]\n\n`,
  error: (type, message) => JSON.stringify({ error: { type, message, code: null, param: null } }),
  streamError: (type) => data({ error: { type, message: `no ${key}` } })
}

const anthropic: Dialect = {
  provider: "anthropic",
  layer: LlmAnthropic.layer,
  base: "",
  path: "/v1/messages",
  keyVariable: "ANTHROPIC_API_KEY",
  credential: (headers) => headers["x-api-key"],
  sentKey: key,
  start:
    event({
      type: "message_start",
      message: {
        id: "msg_1",
        type: "message",
        role: "assistant",
        content: [],
        model: "m-1",
        stop_reason: null,
        usage: { input_tokens: 11, output_tokens: 1 }
      }
    } as { readonly type: string }) +
    event({ type: "content_block_start", index: 0, content_block: { type: "text", text: "" } } as {
      readonly type: string
    }) +
    event({ type: "ping" }),
  delta: (text) =>
    event({ type: "content_block_delta", index: 0, delta: { type: "text_delta", text } } as { readonly type: string }),
  end:
    event({ type: "content_block_stop", index: 0 } as { readonly type: string }) +
    event({ type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 3 } } as {
      readonly type: string
    }) +
    event({ type: "message_stop" }),
  error: (type, message) => JSON.stringify({ type: "error", error: { type, message } }),
  streamError: (type) => event({ type: "error", error: { type, message: `no ${key}` } } as { readonly type: string })
}

const sse = { "content-type": "text/event-stream" }

const request: LlmRequest = {
  conversation: "main",
  system: "Be exact.",
  messages: [
    { role: "user", text: "one" },
    { role: "user", text: "two" },
    { role: "assistant", text: "three" },
    { role: "user", text: "four" }
  ]
}

interface Outcome {
  readonly text: string
  readonly done: Extract<LlmEvent, { _tag: "Done" }> | undefined
  readonly error: LlmError | undefined
}

/** Runs the request against a base URL and gathers all that came, and how it ended. */
const ask = (dialect: Dialect, url: string, options: Partial<LlmHttp.LlmHttpOptions> = {}, onText = Effect.void) =>
  Effect.gen(function* () {
    const provider = yield* LlmProvider
    let text = ""
    let done: Outcome["done"]
    const exit = yield* provider.stream(request).pipe(
      Stream.runForEach((event) => {
        if (event._tag === "Done") done = event
        else text += event.text
        return event._tag === "Delta" ? onText : Effect.void
      }),
      Effect.exit
    )
    if (exit._tag === "Success") return { text, done, error: undefined } satisfies Outcome
    const error = exit.cause.reasons.find(Cause.isFailReason)?.error
    if (error === undefined) return yield* Effect.failCause(exit.cause)
    yield* Effect.logError("the provider failed", error, exit.cause)
    return { text, done, error } satisfies Outcome
  }).pipe(
    Effect.provide(
      dialect.layer({
        provider: dialect.provider,
        model: "m-asked",
        baseUrl: url + dialect.base,
        key: Redacted.make(key),
        ...options
      })
    )
  )

/** Lets virtual time pass, second by second, while real input and output go on, until the fiber is done. */
const untilDone = <A, E>(fiber: Fiber.Fiber<A, E>) =>
  Effect.gen(function* () {
    while (fiber.pollUnsafe() === undefined) {
      yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
      yield* TestClock.adjust("1 second")
    }
    return yield* Fiber.join(fiber)
  })

// Everything that anyone prints or logs during a test, and everything that failed.
const output: Array<string> = []
const note = (...values: ReadonlyArray<unknown>) => {
  output.push(
    values.map((value) => (value instanceof Error ? `${value.message} ${value.stack}` : String(value))).join(" ")
  )
}
const recorded = Logger.layer([
  Logger.make((entry) => {
    note(Logger.formatJson.log(entry))
    note(Cause.pretty(entry.cause))
  })
])

beforeEach(() => {
  output.length = 0
  for (const method of ["log", "info", "warn", "error", "debug"] as const) {
    vi.spyOn(console, method).mockImplementation(note)
  }
  vi.spyOn(process.stderr, "write").mockImplementation((value) => {
    note(value)
    return true
  })
  vi.stubEnv("OPENAI_LOG", "debug")
  vi.stubEnv("ANTHROPIC_LOG", "debug")
})

afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
  const all = output.join("\n")
  for (let at = 8; at + 8 <= key.length; at++) assert.notInclude(all, key.slice(at, at + 8))
})

for (const dialect of [openAi, anthropic]) {
  describe(dialect.provider, () => {
    const outcomeOf = (answer: Answer, options?: Partial<LlmHttp.LlmHttpOptions>) =>
      Effect.gen(function* () {
        const server = yield* serve(answer)
        const outcome = yield* ask(dialect, server.url, options)
        if (outcome.error !== undefined) {
          assert.notInclude(outcome.error.message, "\n")
          note(JSON.stringify(outcome.error), outcome.error)
        }
        return { ...outcome, seen: server.seen }
      }).pipe(Effect.provide(recorded))

    it.effect("streams an answer", () =>
      Effect.gen(function* () {
        const { done, error, seen, text } = yield* outcomeOf((response) => {
          response.writeHead(200, sse)
          response.end(dialect.start + dialect.delta("Good ") + dialect.delta("dag, wereld ✓") + dialect.end)
        })
        assert.isUndefined(error)
        assert.strictEqual(text, "Good dag, wereld ✓")
        assert.deepStrictEqual(done, {
          _tag: "Done",
          usage: { inputTokens: 11, outputTokens: 3 },
          stopReason: "end",
          model: "m-1"
        })
        assert.strictEqual(seen.length, 1)
        assert.strictEqual(seen[0]?.url, dialect.path)
        assert.strictEqual(dialect.credential(seen[0]?.headers ?? {}), dialect.sentKey)
        const body: unknown = JSON.parse(seen[0]?.body ?? "")
        assert.nestedPropertyVal(body, "model", "m-asked")
        assert.nestedPropertyVal(body, "stream", true)
        const turns = [
          { role: "user", content: "one\n\ntwo" },
          { role: "assistant", content: "three" },
          { role: "user", content: "four" }
        ]
        assert.deepNestedInclude(
          body,
          dialect === openAi
            ? { messages: [{ role: "system", content: "Be exact." }, ...turns] }
            : { messages: turns, system: "Be exact." }
        )
      })
    )

    it.effect("reassembles an answer that arrives byte by byte", () =>
      Effect.gen(function* () {
        const bytes = Buffer.from(dialect.start + dialect.delta("dag ✓ 𝄞") + dialect.end)
        const { error, text } = yield* outcomeOf((response) => {
          response.writeHead(200, sse)
          const next = (at: number) => {
            if (at === bytes.length) response.end()
            else response.write(bytes.subarray(at, at + 1), () => setImmediate(next, at + 1))
          }
          next(0)
        })
        assert.isUndefined(error)
        assert.strictEqual(text, "dag ✓ 𝄞")
      })
    )

    it.effect("sends nothing but what a request needs", () =>
      Effect.gen(function* () {
        const trap = yield* serve((response) => response.end())
        for (const name of ["OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]) {
          vi.stubEnv(name, trap.url)
        }
        vi.stubEnv("OPENAI_ORG_ID", "org-secret")
        vi.stubEnv("OPENAI_PROJECT_ID", "project-secret")
        vi.stubEnv("OPENAI_ADMIN_KEY", "admin-secret")
        vi.stubEnv("ANTHROPIC_AUTH_TOKEN", "token-secret")
        vi.stubEnv("OPENAI_CUSTOM_HEADERS", "x-custom: header-secret\nauthorization: Bearer header-secret")
        vi.stubEnv("ANTHROPIC_CUSTOM_HEADERS", "x-custom: header-secret\nx-api-key: header-secret")
        const { error, seen } = yield* outcomeOf((response) => {
          response.writeHead(200, sse)
          response.end(dialect.start + dialect.delta("x") + dialect.end)
        })
        assert.isUndefined(error)
        assert.strictEqual(trap.seen.length, 0)
        const headers = seen[0]?.headers ?? {}
        assert.strictEqual(dialect.credential(headers), dialect.sentKey)
        assert.notInclude(JSON.stringify(headers), "secret")
        assert.notInclude(JSON.stringify(headers), "stainless")
      })
    )

    for (const status of [401, 403]) {
      it.effect(`${status}: Unauthorized, naming the variable`, () =>
        Effect.gen(function* () {
          const { error, seen } = yield* outcomeOf((response) => {
            response.writeHead(status, { "content-type": "application/json" })
            response.end(dialect.error("authentication_error", `Incorrect API key provided: ${key}`))
          })
          assert.strictEqual(error?.reason, "Unauthorized")
          assert.include(error?.message, dialect.keyVariable)
          assert.strictEqual(seen.length, 1)
        })
      )
    }

    it.effect("401 without a key: NoKey", () =>
      Effect.gen(function* () {
        const { error, seen } = yield* outcomeOf(
          (response) => {
            response.writeHead(401, { "content-type": "application/json" })
            response.end("{}")
          },
          { key: undefined }
        )
        assert.strictEqual(error?.reason, "NoKey")
        assert.isUndefined(dialect.credential(seen[0]?.headers ?? {}))
      })
    )

    it.effect("429: RateLimited, with the time to wait in seconds, milliseconds or as a date", () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(Date.UTC(2026, 0, 1))
        const waits: Array<number | undefined> = []
        for (const headers of [
          { "retry-after": "7" },
          { "retry-after-ms": "1500" },
          { "retry-after": "Thu, 01 Jan 2026 00:02:00 GMT" },
          { "retry-after": "soon" },
          {}
        ]) {
          const { error, seen } = yield* outcomeOf((response) => {
            response.writeHead(429, { "content-type": "application/json", ...headers })
            response.end(dialect.error("rate_limit_error", `slow down, ${key}`))
          })
          assert.strictEqual(error?.reason, "RateLimited")
          assert.strictEqual(seen.length, 1)
          waits.push(error?.retryAfterMs)
        }
        assert.deepStrictEqual(waits, [7000, 1500, 120_000, undefined, undefined])
      })
    )

    for (const status of [500, 503, 529]) {
      it.effect(`${status}: Unavailable, asked once`, () =>
        Effect.gen(function* () {
          const { error, seen } = yield* outcomeOf((response) => {
            response.writeHead(status, { "content-type": "text/html" })
            response.end(`<html>${key}</html>`)
          })
          assert.strictEqual(error?.reason, "Unavailable")
          assert.strictEqual(seen.length, 1)
        })
      )
    }

    it.effect("400: Refused, with the provider's words but no key", () =>
      Effect.gen(function* () {
        const { error } = yield* outcomeOf((response) => {
          response.writeHead(400, { "content-type": "application/json" })
          const pieces = `${key.slice(0, 12)} and ${key.slice(-12)}`
          response.end(dialect.error("invalid_request_error", `context is\n\u001b[31mtoo long for ${key}: ${pieces}`))
        })
        assert.strictEqual(error?.reason, "Refused")
        assert.include(error?.message, "too long for [key]")
        assert.notInclude(error?.message, "\u001b")
      })
    )

    it.effect("an endless error body is read only so far", () =>
      Effect.gen(function* () {
        const { error } = yield* outcomeOf((response) => {
          response.writeHead(500, { "content-type": "text/plain" })
          const more = () => {
            if (!response.destroyed) response.write("no\n".repeat(10_000), () => setImmediate(more))
          }
          more()
        })
        assert.strictEqual(error?.reason, "Unavailable")
      })
    )

    it.effect("a redirect is refused; the other host hears nothing", () =>
      Effect.gen(function* () {
        const other = yield* serve((response) => response.end())
        for (const status of [301, 302, 303, 307, 308]) {
          const { error } = yield* outcomeOf((response) => {
            response.writeHead(status, { location: `${other.url}${dialect.path}` })
            response.end()
          })
          assert.strictEqual(error?.reason, "Refused")
        }
        assert.strictEqual(other.seen.length, 0)
      })
    )

    it.effect("nobody there: Unavailable", () =>
      Effect.gen(function* () {
        const url = yield* Effect.scoped(
          Effect.map(
            serve(() => {}),
            (server) => server.url
          )
        )
        const { error } = yield* ask(dialect, url)
        assert.strictEqual(error?.reason, "Unavailable")
        assert.include(error?.message, "ECONNREFUSED")
      }).pipe(Effect.provide(recorded))
    )

    it.effect("something that speaks no HTTP: Broken", () =>
      Effect.gen(function* () {
        const server = net.createServer((socket) => {
          socket.on("error", () => {})
          socket.once("data", () => socket.end(`SSH-2.0-${key}\r\n`))
        })
        const port = yield* listening(server)
        const { error } = yield* ask(dialect, `http://127.0.0.1:${port}`)
        assert.strictEqual(error?.reason, "Broken")
      }).pipe(Effect.provide(recorded))
    )

    const broken: { readonly [name: string]: Answer } = {
      "the connection is cut": (response) => {
        response.writeHead(200, sse)
        response.write(dialect.start + dialect.delta("so far"), () => setImmediate(() => response.destroy()))
      },
      "the stream ends without its final event": (response) => {
        response.writeHead(200, sse)
        response.end(dialect.start + dialect.delta("so far"))
      },
      "it ends in half a JSON value": (response) => {
        response.writeHead(200, sse)
        response.end(dialect.start + dialect.delta("so far") + dialect.delta(key).slice(0, -20))
      },
      "an event is no JSON": (response) => {
        response.writeHead(200, sse)
        response.end(`${dialect.start}${dialect.delta("so far")}event: content_block_delta\ndata: {${key}\n\n`)
      },
      "an event is JSON of another kind": (response) => {
        response.writeHead(200, sse)
        response.end(`${dialect.start}${dialect.delta("so far")}event: content_block_delta\ndata: null\n\n`)
      },
      "a line never ends": (response) => {
        response.writeHead(200, sse)
        response.write(`${dialect.start}${dialect.delta("so far")}data: `)
        const more = () => {
          if (!response.destroyed) response.write("x".repeat(1024 * 1024), () => setImmediate(more))
        }
        more()
      }
    }
    for (const [name, answer] of Object.entries(broken)) {
      it.effect(`Broken, and the text so far delivered, when ${name}`, () =>
        Effect.gen(function* () {
          const { done, error, text } = yield* outcomeOf(answer)
          assert.strictEqual(error?.reason, "Broken")
          assert.strictEqual(text, "so far")
          assert.isUndefined(done)
        })
      )
    }

    it.effect("Broken when the answer is a web page", () =>
      Effect.gen(function* () {
        const { error, text } = yield* outcomeOf((response) => {
          response.writeHead(200, { "content-type": "text/html" })
          response.end(`<html><body>${key}</body></html>`)
        })
        assert.strictEqual(error?.reason, "Broken")
        assert.strictEqual(text, "")
      })
    )

    it.effect("an error inside the stream is told by its type", () =>
      Effect.gen(function* () {
        const reasons: Array<string | undefined> = []
        for (const type of ["overloaded_error", "server_error", "rate_limit_error", "odd_error"]) {
          const { error, text } = yield* outcomeOf((response) => {
            response.writeHead(200, sse)
            response.end(dialect.start + dialect.delta("so far") + dialect.streamError(type))
          })
          assert.strictEqual(text, "so far")
          reasons.push(error?.reason)
        }
        assert.deepStrictEqual(reasons, ["Unavailable", "Unavailable", "RateLimited", "Broken"])
      })
    )

    it.effect("Timeout when TLS is never taken up", () =>
      Effect.gen(function* () {
        const server = net.createServer((socket) => {
          socket.on("error", () => {})
          socket.resume()
        })
        const port = yield* listening(server)
        const fiber = yield* Effect.forkChild(ask(dialect, `https://127.0.0.1:${port}`))
        const { error } = yield* untilDone(fiber)
        assert.strictEqual(error?.reason, "Timeout")
        assert.include(error?.message, "connection within 30 s")
      }).pipe(Effect.provide(recorded))
    )

    for (const [name, answer] of Object.entries<Answer>({
      "nothing comes": () => {},
      "no more than the head comes": (response) => {
        response.writeHead(200, sse)
        response.flushHeaders()
      },
      "only keep-alives come": (response) => {
        response.writeHead(200, sse)
        response.write(": keep-alive\n\n")
      }
    })) {
      it.effect(`Timeout when ${name}; the connection is closed`, () =>
        Effect.gen(function* () {
          const closed = yield* Deferred.make<void>()
          const server = yield* serve((response, seen) => {
            response.once("close", () => Deferred.doneUnsafe(closed, Effect.void))
            answer(response, seen)
          })
          const { error } = yield* untilDone(yield* Effect.forkChild(ask(dialect, server.url)))
          assert.strictEqual(error?.reason, "Timeout")
          assert.include(error?.message, "begin to answer within 60 s")
          yield* Deferred.await(closed)
        }).pipe(Effect.provide(recorded))
      )
    }

    it.effect("Timeout when the answer stops in its midst, counted from the last byte", () =>
      Effect.gen(function* () {
        let write: (text: string) => void = () => {}
        const server = yield* serve((response) => {
          response.writeHead(200, sse)
          response.write(dialect.start + dialect.delta("a"))
          write = (text) => response.write(text)
        })
        const came = [yield* Deferred.make<void>(), yield* Deferred.make<void>(), yield* Deferred.make<void>()] as const
        let index = 0
        const onText = Effect.suspend(() => Deferred.succeed(came[Math.min(index++, 2)] ?? came[2], undefined))
        const fiber = yield* Effect.forkChild(ask(dialect, server.url, {}, Effect.asVoid(onText)))
        yield* Deferred.await(came[0])
        yield* TestClock.adjust("59 seconds")
        write(dialect.delta("b"))
        yield* Deferred.await(came[1])
        yield* TestClock.adjust("59 seconds")
        write(dialect.delta("c"))
        yield* Deferred.await(came[2])
        const { error, text } = yield* untilDone(fiber)
        assert.strictEqual(text, "abc")
        assert.strictEqual(error?.reason, "Timeout")
        assert.include(error?.message, "silent for 60 s")
      }).pipe(Effect.provide(recorded))
    )

    it.effect("keep-alives in mid-answer are no silence", () =>
      Effect.gen(function* () {
        let to: http.ServerResponse | undefined
        const server = yield* serve((response) => {
          response.writeHead(200, sse)
          response.write(dialect.start + dialect.delta("a"))
          to = response
        })
        const came = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkChild(
          ask(dialect, server.url, {}, Effect.asVoid(Deferred.succeed(came, undefined)))
        )
        yield* Deferred.await(came)
        for (let seconds = 0; seconds < 300; seconds++) {
          yield* Effect.callback<void>((resume) => void to?.write(": keep-alive\n\n", () => resume(Effect.void)))
          // Both ends live in this process: the next turns of its event loop deliver.
          yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
          yield* TestClock.adjust("1 second")
        }
        assert.isUndefined(fiber.pollUnsafe())
        to?.end(dialect.delta("b") + dialect.end)
        const { error, text } = yield* Fiber.join(fiber)
        assert.isUndefined(error)
        assert.strictEqual(text, "ab")
      }).pipe(Effect.provide(recorded))
    )

    it.effect("cancelling closes the connection", () =>
      Effect.gen(function* () {
        const closed = yield* Deferred.make<void>()
        const came = yield* Deferred.make<void>()
        const server = yield* serve((response) => {
          response.once("close", () => Deferred.doneUnsafe(closed, Effect.void))
          response.writeHead(200, sse)
          response.write(dialect.start + dialect.delta("one"))
        })
        const onText = Effect.asVoid(Deferred.succeed(came, undefined))
        const fiber = yield* Effect.forkChild(ask(dialect, server.url, {}, onText))
        yield* Deferred.await(came)
        yield* Fiber.interrupt(fiber)
        yield* Deferred.await(closed)
        assert.strictEqual(server.seen.length, 1)
      }).pipe(Effect.provide(recorded))
    )

    it.effect("cancelling before the answer begins closes the connection", () =>
      Effect.gen(function* () {
        const closed = yield* Deferred.make<void>()
        const arrived = yield* Deferred.make<void>()
        const server = yield* serve((response) => {
          response.once("close", () => Deferred.doneUnsafe(closed, Effect.void))
          Deferred.doneUnsafe(arrived, Effect.void)
        })
        const fiber = yield* Effect.forkChild(ask(dialect, server.url))
        yield* Deferred.await(arrived)
        yield* Fiber.interrupt(fiber)
        yield* Deferred.await(closed)
        assert.strictEqual(server.seen.length, 1)
      }).pipe(Effect.provide(recorded))
    )
  })
}

describe("scrub", () => {
  it("leaves words alone and takes out the key, its pieces, and what looks like one", () => {
    assert.strictEqual(
      LlmHttp.scrub("the model gpt does not exist", Redacted.make(key)),
      "the model gpt does not exist"
    )
    assert.strictEqual(LlmHttp.scrub(`a ${key} b`, Redacted.make(key)), "a [key] b")
    assert.strictEqual(LlmHttp.scrub("key sk-ab****wxyz is bad", Redacted.make(key)), "key [key] is bad")
    assert.strictEqual(LlmHttp.scrub(`tail ${key.slice(9, 20)}!`, Redacted.make(key)), "tail [key]!")
    assert.strictEqual(LlmHttp.scrub("x".repeat(500), undefined).length, 200)
  })
})

describe("LlmLayers.choose", () => {
  const offline = { list: () => Effect.succeed([]) }
  const some = Redacted.make(key)
  const choose = (settings: Omit<LlmLayers.LlmSettings, "offline">) => LlmLayers.choose({ ...settings, offline })

  it.effect("is offline with nothing set", () =>
    Effect.map(choose({ keys: { openai: Redacted.make(" ") } }), (choice) => {
      assert.deepStrictEqual(choice, { provider: "offline", chosen: "no provider is set and no key was found" })
    })
  )

  it.effect("takes the first key in the order anthropic, openai, deepseek", () =>
    Effect.gen(function* () {
      const names = []
      for (const keys of [
        { anthropic: some, openai: some, deepseek: some },
        { openai: some, deepseek: some },
        { deepseek: some }
      ]) {
        const choice = yield* choose({ keys })
        names.push([choice.provider, choice.chosen])
      }
      assert.deepStrictEqual(names, [
        ["anthropic", "ANTHROPIC_API_KEY is the first key found"],
        ["openai", "OPENAI_API_KEY is the first key found"],
        ["deepseek", "DEEPSEEK_API_KEY is the first key found"]
      ])
    })
  )

  it.effect("lets the setting win; DeepSeek has its model and address", () =>
    Effect.gen(function* () {
      const choice = yield* choose({ provider: "deepseek", keys: { anthropic: some, deepseek: some } })
      assert.deepInclude(choice, {
        provider: "deepseek",
        model: "deepseek-v4-flash",
        baseUrl: "https://api.deepseek.com",
        chosen: "it is set"
      })
      assert.strictEqual((yield* choose({ provider: "offline", keys: { anthropic: some } })).provider, "offline")
    })
  )

  it.effect("a base URL of one's own never gets the key of a provider that was not named", () =>
    Effect.gen(function* () {
      const baseUrl = "http://localhost:11434/v1"
      const choice = yield* choose({ baseUrl, model: "m", keys: { anthropic: some, openai: some } })
      assert.deepInclude(choice, { provider: "openai-compatible", baseUrl, key: undefined })
    })
  )

  it.effect("names what is missing or unusable", () =>
    Effect.gen(function* () {
      const messages: Array<string> = []
      for (const settings of [
        { provider: "anthropic", keys: {} },
        { provider: "deepseek", keys: { openai: some } },
        { provider: "openai", keys: { openai: Redacted.make(`${key}\u2028x`) } },
        { provider: "openai-compatible", keys: {}, model: "m" },
        { provider: "openai-compatible", keys: {}, baseUrl: "http://localhost" },
        { provider: "openai-compatible", keys: {}, model: "m", baseUrl: "file:///etc/passwd" },
        { provider: "openai-compatible", keys: {}, model: "m", baseUrl: `http://u:${key}@localhost/v1` }
      ] satisfies ReadonlyArray<Omit<LlmLayers.LlmSettings, "offline">>) {
        const error = yield* Effect.flip(choose(settings))
        note(error)
        messages.push(`${error.reason}: ${error.message}`)
      }
      const expected = [
        "NoKey: the provider anthropic needs a key: set ANTHROPIC_API_KEY",
        "NoKey: the provider deepseek needs a key: set DEEPSEEK_API_KEY",
        "Refused: OPENAI_API_KEY holds characters",
        "Refused: the provider openai-compatible needs a base URL",
        "Refused: the provider openai-compatible has no default model",
        "Refused: the provider's base URL is no http",
        "Refused: the provider's base URL holds more than"
      ]
      for (const [index, start] of expected.entries())
        assert.isTrue(messages[index]?.startsWith(start), messages[index])
      assert.strictEqual(messages.length, expected.length)
    })
  )
})
