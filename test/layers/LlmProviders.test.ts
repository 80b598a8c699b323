/** The real SDKs against servers on loopback that speak the providers' formats, well and badly. */
import type * as http from "node:http"
import * as net from "node:net"
import { afterEach, assert, beforeEach, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { vi } from "vitest"
import * as LlmFailures from "../../src/layers/LlmFailures.ts"
import type * as LlmHttp from "../../src/layers/LlmHttp.ts"
import { type LlmError, type LlmEvent, LlmProvider, type LlmRequest } from "../../src/services/LlmProvider.ts"
import { type Answer, anthropic, type Dialect, key, listening, openAi, serve, sse } from "./FakeProviders.ts"

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
        else if (event._tag === "Delta") text += event.text
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
        const cache = { cache_control: { type: "ephemeral" } }
        assert.deepNestedInclude(
          body,
          dialect === openAi
            ? {
                messages: [
                  { role: "system", content: "Be exact." },
                  { role: "user", content: "one\n\ntwo" },
                  { role: "assistant", content: "three" },
                  { role: "user", content: "four" }
                ]
              }
            : {
                messages: [
                  {
                    role: "user",
                    content: [
                      { type: "text", text: "one" },
                      { type: "text", text: "two" }
                    ]
                  },
                  { role: "assistant", content: [{ type: "text", text: "three", ...cache }] },
                  { role: "user", content: [{ type: "text", text: "four" }] }
                ],
                system: [{ type: "text", text: "Be exact.", ...cache }]
              }
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

    it.effect("402: Refused, since the account is out of credit", () =>
      Effect.gen(function* () {
        const { error } = yield* outcomeOf((response) => {
          response.writeHead(402, { "content-type": "application/json" })
          response.end(dialect.error("billing_error", `Insufficient Balance, ${key}`))
        })
        assert.strictEqual(error?.reason, "Refused")
        assert.include(error?.message, "out of credit")
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
      LlmFailures.scrub("the model gpt does not exist", Redacted.make(key)),
      "the model gpt does not exist"
    )
    assert.strictEqual(LlmFailures.scrub(`a ${key} b`, Redacted.make(key)), "a [key] b")
    assert.strictEqual(LlmFailures.scrub("key sk-ab****wxyz is bad", Redacted.make(key)), "key [key] is bad")
    assert.strictEqual(LlmFailures.scrub(`tail ${key.slice(9, 20)}!`, Redacted.make(key)), "tail [key]!")
    assert.strictEqual(LlmFailures.scrub("x".repeat(500), undefined).length, 200)
  })
})
