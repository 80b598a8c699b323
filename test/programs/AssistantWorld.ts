/**
 * The llm tier without its wire: all that `clawchat llm` is made of, on real files and a real database, with a real SDK
 * that talks to a server on loopback. Time is the test's, input and output are not.
 */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type { ChatEvent, Decision } from "../../src/domain/ChatRpc.ts"
import * as GivenSettings from "../../src/domain/GivenSettings.ts"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import type { Values } from "../../src/domain/Settings.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as SecureFileStoreNode from "../../src/layers/SecureFileStoreNode.ts"
import { Assistant } from "../../src/programs/Assistant.ts"
import * as LlmServices from "../../src/programs/cli/LlmServices.ts"
import { type Call, type Dialect, key, type Said } from "../layers/FakeProviders.ts"

export const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`

export const temporary = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-assistant-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

/** What stands in a folder of files. */
export const baseOf = (home: string): string => path.join(home, "data")
export const contextOf = (home: string): string => HomePaths.llm(home).context

/** A home with some files of the user's. */
export const makeHome = (home: string, files: Readonly<Record<string, string>>): void => {
  fs.mkdirSync(HomePaths.llm(home).home, { recursive: true, mode: 0o700 })
  fs.mkdirSync(baseOf(home), { recursive: true, mode: 0o700 })
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(baseOf(home), name)), { recursive: true, mode: 0o700 })
    fs.writeFileSync(path.join(baseOf(home), name), text)
  }
}

/** Settings as a person would write them, by key; the provider's among them. */
export const valuesOf = (
  home: string,
  dialect: Dialect,
  baseUrl: string,
  given: Readonly<Record<string, string>> = {}
): Values => {
  const all = {
    "llm.provider": dialect.provider,
    "llm.base_url": baseUrl,
    "llm.openai_api_key": key,
    "llm.deepseek_api_key": key,
    "llm.anthropic_api_key": key,
    "files.base_path": baseOf(home),
    ...given
  }
  const { problems, values } = GivenSettings.resolve(
    "llm",
    home,
    Object.entries(all).map(([name, text]) => ({
      key: name,
      text,
      source: "yaml",
      where: name,
      resolve: (file) => file
    }))
  )
  assert.deepStrictEqual(problems, [])
  return values
}

/** The tier's services; built anew they are what a restarted tier has. */
export const layer = (values: Values) => {
  assert.strictEqual(Redacted.value(values.llm.keys.openai ?? Redacted.make("")), key)
  return LlmServices.layer(values, HomePaths.llm(values.home), "0.0.0-test").pipe(
    Layer.provideMerge(SecureFileStoreNode.layer),
    Layer.provideMerge(CryptoNode.layer)
  )
}

/** Lets the test's time pass in small steps while real input and output go on. */
const pass = (ms: number) =>
  Effect.gen(function* () {
    for (let passed = 0; passed < ms; passed += 100) {
      yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
      yield* TestClock.adjust(100)
    }
  })

/** Asks, decides about each call that waits, and lets pass the time that a provider asks for; no other time passes. */
export const asking = (
  n: number,
  text: string,
  decide: (event: Extract<ChatEvent, { _tag: "Approval" }>) => Decision = () => "once",
  conversation = "main"
) =>
  Effect.gen(function* () {
    const assistant = yield* Assistant
    const events: Array<ChatEvent> = []
    const error = yield* assistant.send({ conversation, messageId: id(n), text }).pipe(
      Stream.runForEach((event) => {
        events.push(event)
        if (event._tag === "Approval") return assistant.approve(event.approvalId, decide(event))
        const pause = event._tag === "Notice" ? /trying again in ([\d.]+) s/.exec(event.text)?.[1] : undefined
        return pause === undefined ? Effect.void : Effect.forkChild(pass(Number(pause) * 1000 + 1000))
      }),
      Effect.as(undefined),
      Effect.catch((failure) => Effect.succeed(failure))
    )
    return {
      events,
      error,
      text: events.flatMap((event) => (event._tag === "Delta" ? [event.text] : [])).join(""),
      notices: events.flatMap((event) => (event._tag === "Notice" ? [event.text] : [])),
      calls: events.flatMap((event) =>
        event._tag === "Called" ? [`${event.tool} ${event.failed ? "failed" : "done"}`] : []
      )
    }
  })

/** What a model says and calls in one answer; ids are made of the request's number. */
export const says = (
  index: number,
  text: string,
  ...calls: ReadonlyArray<readonly [name: string, input: object]>
): Said => ({
  reasoning: `I think of ${index}`,
  ...(text === "" ? {} : { text }),
  calls: calls.map(
    ([name, input], place): Call => ({
      id: `call_${index}_${place}`,
      name,
      arguments: JSON.stringify(input)
    })
  )
})
