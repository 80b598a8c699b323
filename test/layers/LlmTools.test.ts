/** Calls of tools, through the real SDKs, in three protocols and their dialects. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import type { LlmMessage, ToolCall, ToolSpec } from "../../src/domain/Llm.ts"
import type * as LlmHttp from "../../src/layers/LlmHttp.ts"
import { type LlmEvent, LlmProvider, type LlmRequest } from "../../src/services/LlmProvider.ts"
import {
  anthropic,
  around,
  block,
  type Dialect,
  deepSeek,
  dialects,
  key,
  openAi,
  piece,
  play,
  type Said,
  serve,
  sse
} from "./FakeProviders.ts"

const tools: ReadonlyArray<ToolSpec> = [
  {
    name: "read",
    description: "Reads a file.",
    parameters: {
      $schema: "https://json-schema.org/draft/2020-12/schema",
      type: "object",
      properties: { path: { $ref: "#/$defs/Path" } },
      required: ["path"],
      additionalProperties: false,
      $defs: { Path: { type: "string", description: "below the base path" } }
    }
  },
  { name: "time", description: "The time.", parameters: {} }
]

const user: LlmMessage = { role: "user", text: "do it" }
const ask = (messages: ReadonlyArray<LlmMessage> = [user], more: Partial<LlmRequest> = {}): LlmRequest => ({
  conversation: "main",
  system: "Be exact.",
  messages,
  tools,
  ...more
})

/** All events of one request, and the error that ended it, if one did. */
const run = Effect.fnUntraced(function* (request: LlmRequest) {
  const provider = yield* LlmProvider
  const events: Array<LlmEvent> = []
  const error = yield* provider.stream(request).pipe(
    Stream.runForEach((event) => Effect.sync(() => void events.push(event))),
    Effect.as(undefined),
    Effect.catch((failure) => Effect.succeed(failure))
  )
  const calls = events.flatMap((event) => (event._tag === "Call" ? [event.call] : []))
  const text = events.flatMap((event) => (event._tag === "Delta" ? [event.text] : [])).join("")
  const reasoning = events.flatMap((event) => (event._tag === "Reasoning" ? [event.text] : [])).join("")
  const done = events.find((event) => event._tag === "Done")
  return { events, calls, text, reasoning, done, error }
})

const withProvider =
  (dialect: Dialect, baseUrl: string, more: Partial<LlmHttp.LlmHttpOptions> = {}) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.provide(
      effect,
      dialect.layer({ provider: dialect.provider, model: "m-asked", baseUrl, key: Redacted.make(key), ...more })
    )

/** One request to a server that says what it is told to. */
const once = (dialect: Dialect, said: Said, request = ask()) =>
  Effect.gen(function* () {
    const server = yield* play(dialect, () => said)
    return { ...(yield* run(request).pipe(withProvider(dialect, server.baseUrl))), server }
  })

/** One request to a server that streams these bytes. */
const raw = (dialect: Dialect, text: string, request = ask()) =>
  Effect.gen(function* () {
    const server = yield* serve((response) => {
      response.writeHead(200, sse)
      response.end(text)
    })
    return yield* run(request).pipe(withProvider(dialect, server.url + dialect.base))
  })

for (const dialect of dialects) {
  describe(dialect.provider, () => {
    it.effect("a task of ten steps: each call once, each with its result, then the last word", () =>
      Effect.gen(function* () {
        const steps = 10
        const server = yield* play(dialect, (_, index) =>
          index < steps
            ? {
                reasoning: `thought ${index}`,
                text: `step ${index}`,
                calls: [
                  { id: `call_${index}`, name: "read", arguments: JSON.stringify({ path: `file ${index}.md` }) },
                  ...(index === 4 ? [{ id: "call_4b", name: "time", arguments: "" }] : [])
                ]
              }
            : { text: "all done" }
        )
        const carriedOut: Array<string> = []
        const messages: Array<LlmMessage> = [user]
        let last = ""
        yield* Effect.gen(function* () {
          for (let step = 0; step <= steps; step++) {
            const { calls, done, error, reasoning, text } = yield* run(ask(messages))
            assert.isUndefined(error)
            last = text
            if (calls.length === 0) {
              assert.strictEqual(done?.stopReason, "end")
              return
            }
            assert.strictEqual(done?.stopReason, "tools")
            messages.push({ role: "assistant", text, reasoning, calls })
            for (const { arguments: json, id, name } of calls) {
              carriedOut.push(`${name} ${json}`)
              messages.push({ role: "tool", callId: id, name, text: `result of ${json}`, failed: step === 2 })
            }
          }
        }).pipe(withProvider(dialect, server.baseUrl))
        assert.strictEqual(last, "all done")
        assert.strictEqual(server.asked.length, steps + 1)
        assert.strictEqual(carriedOut.length, steps + 1)
        assert.strictEqual(new Set(carriedOut).size, steps + 1)
        const final = server.asked.at(-1)
        assert.deepStrictEqual(final?.tools, ["read", "time"])
        const failed = dialect === anthropic ? "" : "The call failed: "
        const expected = ["user: do it"]
        for (let step = 0; step < steps; step++) {
          const json = JSON.stringify({ path: `file ${step}.md` })
          expected.push(`assistant: step ${step}`, `call call_${step} read ${json}`)
          if (step === 4) expected.push("call call_4b time {}")
          expected.push(`result call_${step}: ${step === 2 ? failed : ""}result of ${json}`)
          if (step === 4) expected.push("result call_4b: result of ")
        }
        assert.deepStrictEqual(final?.transcript, expected)
      })
    )

    it.effect("half a call, then the line is cut: no call, Broken", () =>
      Effect.gen(function* () {
        const { calls, done, error, text } = yield* once(dialect, {
          text: "let me see",
          calls: [
            { id: "a", name: "read", arguments: '{"path":"one"}' },
            { id: "b", name: "read", arguments: '{"path":"two"}' }
          ],
          cut: true
        })
        assert.strictEqual(text, "let me see")
        assert.deepStrictEqual(calls, [])
        assert.isUndefined(done)
        assert.strictEqual(error?.reason, "Broken")
      })
    )

    for (const stop of ["length", "filtered"] as const) {
      it.effect(`an answer that ended by ${stop} calls nothing`, () =>
        Effect.gen(function* () {
          const { calls, done, error } = yield* once(dialect, {
            calls: [{ id: "a", name: "read", arguments: '{"path":"on' }],
            stop
          })
          assert.isUndefined(error)
          assert.deepStrictEqual(calls, [])
          assert.strictEqual(done?.stopReason, stop)
        })
      )
    }

    it.effect("calls without arguments, with wrong ones, and twice", () =>
      Effect.gen(function* () {
        const twice = { id: "same", name: "read", arguments: '{"path":"x"}' }
        const { calls, events } = yield* once(dialect, {
          calls: [
            { id: "none", name: "time", arguments: "" },
            { id: "list", name: "read", arguments: "[1]" },
            { id: "half", name: "read", arguments: '{"path":' },
            twice,
            twice,
            { ...twice, arguments: '{"path":"y"}' }
          ]
        })
        const found = calls.map((call) => `${call.id} ${call.arguments}`)
        assert.deepStrictEqual(found.slice(0, 4), ["none ", "list [1]", 'half {"path":', 'same {"path":"x"}'])
        assert.strictEqual(calls.length, 5)
        assert.strictEqual(calls[4]?.arguments, '{"path":"y"}')
        assert.strictEqual(new Set(calls.map(({ id }) => id)).size, 5)
        assert.deepStrictEqual(
          events.slice(-6).map(({ _tag }) => _tag),
          ["Call", "Call", "Call", "Call", "Call", "Done"]
        )
      })
    )

    it.effect("what no protocol takes is said so that each does", () =>
      Effect.gen(function* () {
        const odd = "tool:1/x"
        const call = (id: string, json: string): ToolCall => ({ id, name: "read", arguments: json })
        const result = (callId: string, text: string): LlmMessage => ({
          role: "tool",
          callId,
          name: "read",
          text,
          failed: false
        })
        const { error, server } = yield* once(
          dialect,
          { text: "ok" },
          ask([
            { ...user, at: "2026-11-21 09:00", material: "notes" },
            { role: "assistant", text: "", calls: [call(odd, '{"path":'), call("fine", "")] },
            result(odd, "first"),
            result("fine", ""),
            { role: "assistant", text: "", calls: [call(odd, "{}")] },
            result(odd, "second"),
            { role: "user", text: "and?" }
          ])
        )
        assert.isUndefined(error)
        assert.deepStrictEqual(server.asked[0]?.transcript, [
          "user: notes\n\n[2026-11-21 09:00]\ndo it",
          'call call_1 read {"text":"{\\"path\\":"}',
          "call fine read {}",
          "result call_1: first",
          "result fine: (nothing)",
          "call call_2 read {}",
          "result call_2: second",
          "user: and?"
        ])
      })
    )

    it.effect("schemas hold no references", () =>
      Effect.gen(function* () {
        const { server } = yield* once(dialect, { text: "ok" })
        const body: unknown = JSON.parse(server.seen[0]?.body ?? "")
        const read = {
          type: "object",
          properties: { path: { type: "string", description: "below the base path" } },
          required: ["path"],
          additionalProperties: false
        }
        assert.deepNestedInclude(
          body,
          dialect === anthropic
            ? { "tools[0].input_schema": read, "tools[1].input_schema": { type: "object", properties: {} } }
            : {
                "tools[0].function.parameters": read,
                "tools[1].function.parameters": { type: "object", properties: {} }
              }
        )
      })
    )

    it.effect("counts what came from the cache and what went there", () =>
      Effect.gen(function* () {
        const { done } = yield* once(dialect, {
          text: "ok",
          usage: { input: 1000, output: 7, cached: 800, written: 150 }
        })
        assert.deepStrictEqual(done?.usage, {
          inputTokens: 1000,
          outputTokens: 7,
          cachedTokens: 800,
          ...(dialect === deepSeek ? {} : { cacheWriteTokens: 150 })
        })
      })
    )

    it.effect("lists models", () =>
      Effect.gen(function* () {
        const server = yield* play(dialect, () => ({}), ["zeta", "alpha", "alpha"])
        const models = yield* Effect.gen(function* () {
          const provider = yield* LlmProvider
          return yield* provider.models ?? Effect.succeed([])
        }).pipe(withProvider(dialect, server.baseUrl))
        assert.deepStrictEqual(models, ["alpha", "zeta"])
        assert.strictEqual(dialect.credential(server.seen[0]?.headers ?? {}), dialect.sentKey)
      })
    )

    it.effect("a list of models that cannot be had is an error without the key", () =>
      Effect.gen(function* () {
        const server = yield* serve((response) => {
          response.writeHead(401, { "content-type": "application/json" })
          response.end(dialect.error("authentication_error", `bad ${key}`))
        })
        const error = yield* Effect.gen(function* () {
          const provider = yield* LlmProvider
          return yield* Effect.flip(provider.models ?? Effect.succeed([]))
        }).pipe(withProvider(dialect, server.url + dialect.base))
        assert.strictEqual(error.reason, "Unauthorized")
        assert.notInclude(error.message, key)
      })
    )
  })
}

describe("servers that only say they speak chat completions", () => {
  const call = (fields: object) => piece({ tool_calls: [fields] })
  const answered = (text: string, finish = "tool_calls") => raw(openAi, `${text + piece({}, finish)}data: [DONE]\n\n`)
  const said = (calls: ReadonlyArray<ToolCall>) => calls.map(({ arguments: json, name }) => `${name} ${json}`)

  const cases: { readonly [name: string]: readonly [text: string, expected: ReadonlyArray<string>] } = {
    "neither id nor index": [
      call({ function: { name: "read", arguments: '{"path":' } }) + call({ function: { arguments: '"a"}' } }),
      ['read {"path":"a"}']
    ],
    "two whole calls, neither id nor index": [
      call({ function: { name: "read", arguments: '{"path":"a"}' } }) +
        call({ function: { name: "read", arguments: '{"path":"b"}' } }),
      ['read {"path":"a"}', 'read {"path":"b"}']
    ],
    "all calls numbered 0": [
      call({ index: 0, id: "a", function: { name: "read", arguments: '{"path":"a"}' } }) +
        call({ index: 0, id: "b", function: { name: "read", arguments: '{"path":"b"}' } }),
      ['read {"path":"a"}', 'read {"path":"b"}']
    ],
    "all calls in one piece": [
      piece({
        tool_calls: [
          { id: "a", type: "function", function: { name: "read", arguments: '{"path":"a"}' } },
          { id: "b", type: "function", function: { name: "time", arguments: "" } }
        ]
      }),
      ['read {"path":"a"}', "time "]
    ],
    "the id and name with each piece": [
      call({ index: 0, id: "a", function: { name: "read", arguments: '{"path"' } }) +
        call({ index: 0, id: "a", function: { name: "read", arguments: ':"a"}' } }),
      ['read {"path":"a"}']
    ],
    "a whole call twice": [
      call({ index: 0, id: "a", function: { name: "read", arguments: '{"path":"a"}' } }) +
        call({ index: 0, id: "a", function: { name: "read", arguments: '{"path":"a"}' } }) +
        call({ index: 1, id: "a", function: { name: "read", arguments: '{"path":"a"}' } }),
      ['read {"path":"a"}']
    ],
    "arguments as an object": [
      call({ index: 0, id: "a", function: { name: "read", arguments: { path: "a" } } }),
      ['read {"path":"a"}']
    ],
    "pieces of two calls in turn": [
      call({ index: 0, id: "a", function: { name: "read", arguments: '{"path"' } }) +
        call({ index: 1, id: "b", function: { name: "read", arguments: '{"path"' } }) +
        call({ index: 0, function: { arguments: ':"a"}' } }) +
        call({ index: 1, function: { arguments: ':"b"}' } }),
      ['read {"path":"a"}', 'read {"path":"b"}']
    ]
  }
  for (const [name, [text, expected]] of Object.entries(cases)) {
    for (const finish of ["tool_calls", "stop"]) {
      it.effect(`${name}, ending with ${finish}`, () =>
        Effect.gen(function* () {
          const { calls, done, error } = yield* answered(text, finish)
          assert.isUndefined(error)
          assert.deepStrictEqual(said(calls), expected)
          assert.strictEqual(done?.stopReason, "tools")
          const ids = calls.map(({ id }) => id)
          assert.isTrue(ids.every((id) => id !== ""))
          assert.strictEqual(new Set(ids).size, ids.length)
        })
      )
    }
  }

  it.effect("tool_calls without any is an end", () =>
    Effect.gen(function* () {
      const { calls, done } = yield* answered(piece({ content: "hm", tool_calls: null }))
      assert.deepStrictEqual(calls, [])
      assert.strictEqual(done?.stopReason, "end")
    })
  )

  it.effect("more calls, or longer ones, than any answer has: Broken", () =>
    Effect.gen(function* () {
      const many = Array.from({ length: 200 }, (_, index) =>
        call({ index, id: `${index}`, function: { name: "time" } })
      )
      const long = Array.from({ length: 20 }, () => call({ index: 0, function: { arguments: " ".repeat(100_000) } }))
      for (const text of [many.join(""), long.join("")]) {
        const { calls, error } = yield* answered(text)
        assert.strictEqual(error?.reason, "Broken")
        assert.deepStrictEqual(calls, [])
      }
    })
  )

  it.effect("vLLM's name for reasoning", () =>
    Effect.gen(function* () {
      const { reasoning } = yield* answered(piece({ reasoning: "hm" }) + piece({ content: "yes" }), "stop")
      assert.strictEqual(reasoning, "hm")
    })
  )
})

describe("Anthropic's blocks", () => {
  it.effect("a call that never ended is none, although the answer did", () =>
    Effect.gen(function* () {
      const [start, ...deltas] = block(0, { type: "tool_use", id: "a", name: "read", input: {} }, [
        { type: "input_json_delta", partial_json: '{"path":"a"' }
      ])
      const { calls, error } = yield* raw(anthropic, around([start, deltas[0]].join(""), "tool_use"))
      assert.strictEqual(error?.reason, "Broken")
      assert.deepStrictEqual(calls, [])
    })
  )

  it.effect("more than any answer has: Broken", () =>
    Effect.gen(function* () {
      const many = Array.from({ length: 600 }, (_, index) =>
        block(index, { type: "tool_use", id: `${index}`, name: "time", input: {} }, []).join("")
      )
      const { calls, error } = yield* raw(anthropic, around(many.join(""), "tool_use"))
      assert.strictEqual(error?.reason, "Broken")
      assert.deepStrictEqual(calls, [])
    })
  )
})

describe("what was thought", () => {
  const turn = (reasoning: string | undefined): ReadonlyArray<LlmMessage> => [
    user,
    {
      role: "assistant",
      text: "",
      calls: [{ id: "a", name: "time", arguments: "" }],
      ...(reasoning === undefined ? {} : { reasoning })
    },
    { role: "tool", callId: "a", name: "time", text: "noon", failed: false }
  ]
  const sent = (dialect: Dialect, messages: ReadonlyArray<LlmMessage>, more: Partial<LlmHttp.LlmHttpOptions> = {}) =>
    Effect.gen(function* () {
      const server = yield* play(dialect, () => ({ text: "ok" }))
      yield* run(ask(messages)).pipe(withProvider(dialect, server.baseUrl, more))
      const body: { readonly messages: ReadonlyArray<{ readonly [name: string]: unknown }> } = JSON.parse(
        server.seen[0]?.body ?? ""
      )
      return body.messages.filter((message) => message.role === "assistant").map((message) => message.reasoning_content)
    })

  it.effect("goes back to DeepSeek with its calls, empty where it is not known, and never to OpenAI", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* sent(deepSeek, turn("hm")), ["hm"])
      assert.deepStrictEqual(yield* sent(deepSeek, turn(undefined)), [""])
      assert.deepStrictEqual(yield* sent(openAi, turn("hm")), [undefined])
      const past = [...turn("old"), ...turn("new")]
      assert.deepStrictEqual(yield* sent(openAi, past, { provider: "openai-compatible" }), [undefined, "new"])
    })
  )

  it.effect("goes back to Anthropic signed and in its place, while the turn goes on", () =>
    Effect.gen(function* () {
      const answer = around(
        [
          ...block(0, { type: "thinking", thinking: "", signature: "" }, [
            { type: "thinking_delta", thinking: "let me" },
            { type: "signature_delta", signature: "s-1" }
          ]),
          ...block(1, { type: "text", text: "" }, [{ type: "text_delta", text: "I look. " }]),
          ...block(2, { type: "tool_use", id: "a", name: "time", input: {} }, []),
          ...block(3, { type: "redacted_thinking", data: "sealed" }, []),
          ...block(4, { type: "tool_use", id: "b", name: "read", input: { path: "x" } }, [])
        ].join(""),
        "tool_use"
      )
      const bodies: Array<unknown> = []
      const server = yield* serve((response, seen) => {
        bodies.push(JSON.parse(seen.body))
        response.writeHead(200, sse)
        response.end(bodies.length === 1 ? answer : anthropic.stream({ text: "ok" }).text)
      })
      yield* Effect.gen(function* () {
        const { calls, reasoning, text } = yield* run(ask())
        assert.strictEqual(reasoning, "let me")
        const results = calls.map(
          ({ id, name }): LlmMessage => ({ role: "tool", callId: id, name, text: "r", failed: name === "read" })
        )
        const said: LlmMessage = { role: "assistant", text, calls }
        yield* run(ask([user, said, ...results]))
        yield* run(ask([user, { ...said, text: "forged" }, ...results]))
        yield* run(ask([user, said, ...results, { role: "assistant", text: "ok" }, user]))
      }).pipe(withProvider(anthropic, server.url))
      const cache = { cache_control: { type: "ephemeral" } }
      const calls = [
        { type: "tool_use", id: "a", name: "time", input: {} },
        { type: "tool_use", id: "b", name: "read", input: { path: "x" } }
      ]
      assert.deepNestedInclude(bodies[1], {
        "messages[1].content": [
          { type: "thinking", thinking: "let me", signature: "s-1" },
          { type: "text", text: "I look. " },
          calls[0],
          { type: "redacted_thinking", data: "sealed" },
          calls[1]
        ],
        "messages[2]": {
          role: "user",
          content: [
            { type: "tool_result", tool_use_id: "a", content: "r" },
            { type: "tool_result", tool_use_id: "b", content: "r", is_error: true, ...cache }
          ]
        }
      })
      assert.deepNestedInclude(bodies[2], { "messages[1].content": [{ type: "text", text: "forged" }, ...calls] })
      assert.deepNestedInclude(bodies[3], {
        "messages[1].content": [{ type: "text", text: "I look. " }, ...calls],
        "messages[3].content": [{ type: "text", text: "ok", ...cache }],
        "messages[4].content": [{ type: "text", text: "do it" }]
      })
    })
  )
})

describe("attachments", () => {
  const bytes = new TextEncoder().encode("a ``` b")
  const image = { name: "cat.png", mediaType: "image/png", bytes: Uint8Array.of(1, 2, 3) }
  const text = { name: 'no"tes.md', mediaType: "text/markdown", bytes }
  const fenced = '"no\\"tes.md":\n````\na ``` b\n````'

  it.effect("images are shown, texts are quoted", () =>
    Effect.gen(function* () {
      const request = ask([{ role: "user", text: "look", attachments: [image, text] }])
      const open = yield* once(openAi, { text: "ok" }, request)
      assert.deepNestedInclude(JSON.parse(open.server.seen[0]?.body ?? ""), {
        "messages[1].content": [
          { type: "image_url", image_url: { url: "data:image/png;base64,AQID" } },
          { type: "text", text: fenced },
          { type: "text", text: "look" }
        ]
      })
      const claude = yield* once(anthropic, { text: "ok" }, request)
      assert.deepNestedInclude(JSON.parse(claude.server.seen[0]?.body ?? ""), {
        "messages[0].content": [
          { type: "image", source: { type: "base64", media_type: "image/png", data: "AQID" } },
          { type: "text", text: fenced },
          { type: "text", text: "look" }
        ]
      })
    })
  )

  it.effect("what a model cannot read is refused before anything is sent; an earlier one is only named", () =>
    Effect.gen(function* () {
      const pdf = { name: "a.pdf", mediaType: "application/pdf", bytes }
      for (const [dialect, attachment, word] of [
        [openAi, pdf, "application/pdf"],
        [anthropic, pdf, "application/pdf"],
        [deepSeek, image, "deepseek reads none"]
      ] as const) {
        const { error, server } = yield* once(
          dialect,
          { text: "ok" },
          ask([{ role: "user", text: "look", attachments: [attachment] }])
        )
        assert.strictEqual(error?.reason, "Refused")
        assert.include(error?.message, word)
        assert.strictEqual(server.seen.length, 0)
      }
      const { error, server } = yield* once(
        deepSeek,
        { text: "ok" },
        ask([{ role: "user", text: "look", attachments: [image] }, { role: "assistant", text: "no" }, user])
      )
      assert.isUndefined(error)
      assert.strictEqual(server.asked[0]?.transcript[0], 'user: ["cat.png" was attached and cannot be shown]\n\nlook')
    })
  )
})

describe("an image that was refused", () => {
  for (const dialect of [openAi, anthropic]) {
    it.effect(`does not come again; one that was answered does: ${dialect.provider}`, () =>
      Effect.gen(function* () {
        const image = { name: "cat.png", mediaType: "image/png", bytes: Uint8Array.of(1) }
        const empty = { ...image, name: "gone.png", bytes: new Uint8Array() }
        const look: LlmMessage = { role: "user", text: "look", attachments: [image, empty] }
        const { server } = yield* once(
          dialect,
          { text: "ok" },
          ask([look, { role: "assistant", text: "a cat" }, look, { role: "user", text: "now?", attachments: [image] }])
        )
        const shown = dialect === openAi ? "<image_url>" : "<image>"
        const named = (name: string) => `["${name}" was attached and cannot be shown]`
        assert.deepStrictEqual(server.asked[0]?.transcript, [
          `user: ${shown}\n\n${named("gone.png")}\n\nlook`,
          "assistant: a cat",
          `user: ${named("cat.png")}\n\n${named("gone.png")}\n\nlook\n\n${shown}\n\nnow?`
        ])
      })
    )
  }
})

describe("OpenAI's newer models", () => {
  it.effect("take tools only with reasoning off", () =>
    Effect.gen(function* () {
      const efforts: Array<unknown> = []
      for (const [model, request] of [
        ["gpt-6.1-terra", ask()],
        ["gpt-5.6-sol", ask()],
        ["gpt-6.1-terra", ask([user], { tools: [] })],
        ["gpt-5.4", ask()]
      ] as const) {
        const { server } = yield* once(openAi, { text: "ok" }, { ...request, model })
        const body: { readonly reasoning_effort?: unknown } = JSON.parse(server.seen[0]?.body ?? "")
        efforts.push(body.reasoning_effort)
      }
      assert.deepStrictEqual(efforts, ["none", "none", undefined, undefined])
    })
  )
})
