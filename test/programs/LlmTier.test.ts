import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import type { Admission } from "../../src/domain/protocol/Credential.ts"
import { hex, utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import { Assistant } from "../../src/programs/Assistant.ts"
import * as Identity from "../../src/programs/Identity.ts"
import * as LlmTier from "../../src/programs/LlmTier.ts"
import { ContextStore } from "../../src/services/ContextStore.ts"
import { Conversations } from "../../src/services/Conversations.ts"
import { LlmProvider } from "../../src/services/LlmProvider.ts"
import { layerMemory, SecureFileStore } from "../../src/services/SecureFileStore.ts"
import { Transport } from "../../src/services/Transport.ts"
import { LISTENER } from "./FakeListener.ts"
import { tierMocks } from "./TierMocks.ts"

describe("LlmTier", () => {
  it.effect("follows the link that is carried over its own: two users, each with a folder of its own", () =>
    Effect.gen(function* () {
      const lists = yield* Queue.unbounded<ReadonlyArray<Admission>>()
      const transport = Layer.mock(Transport, {
        listen: ({ admissions }) =>
          Effect.as(Effect.forkScoped(Stream.runForEach(admissions, (list) => Queue.offer(lists, list))), LISTENER)
      })
      const unused = Layer.mergeAll(
        Layer.mock(Assistant, {}),
        Layer.mock(Conversations, {}),
        Layer.mock(ContextStore, {}),
        Layer.mock(LlmProvider, { info: { provider: "offline", model: "offline", chosen: "by the test" } })
      )
      const paths = HomePaths.llm("/home")
      const store = yield* SecureFileStore
      const options = { paths, version: "1", pid: 1, bind: { host: "127.0.0.1", port: 1 } }
      yield* Effect.provide(LlmTier.make(options), Layer.mergeAll(transport, unused, tierMocks))
      const own = yield* Identity.loadOrCreateLink(paths.llmLink)
      const until = (wanted: string) =>
        Stream.fromQueue(lists).pipe(
          Stream.map((list) => list.map(({ id, staticKey }) => `${hex(id)} ${hex(staticKey ?? id)}`).join()),
          Stream.takeUntil((list) => list === wanted),
          Stream.runDrain
        )
      yield* until("")

      const key = new Uint8Array(32).fill(7)
      yield* Identity.publishKey(paths.serverPublicKey, key)
      yield* until(`${hex(own.id)} ${hex(key)}`)

      const id = "ab".repeat(16)
      yield* store.write(paths.llmLink, utf8(`{"version":1,"id":"${id}","psk":"${"cd".repeat(32)}"}\n`))
      yield* until(`${id} ${hex(key)}`)

      // What cannot be read changes nothing.
      yield* store.write(paths.llmLink, utf8("{"))
      yield* until(`${id} ${hex(key)}`)
      assert.strictEqual(yield* Queue.size(lists), 0)
    }).pipe(Effect.provide(Layer.merge(layerMemory, CryptoNode.layer)))
  )
})
