/** What the llm tier is made of: one database, one folder of context, one assistant with its tools, one schedule. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as ContextPrompt from "../../domain/ContextPrompt.ts"
import type * as HomePaths from "../../domain/HomePaths.ts"
import * as Price from "../../domain/Price.ts"
import * as Redaction from "../../domain/Redaction.ts"
import type { Values } from "../../domain/Settings.ts"
import * as ContextStoreNode from "../../layers/ContextStoreNode.ts"
import * as ConversationsSqlite from "../../layers/ConversationsSqlite.ts"
import * as CronFilesNode from "../../layers/CronFilesNode.ts"
import * as CronStoreSqlite from "../../layers/CronStoreSqlite.ts"
import * as LlmLayers from "../../layers/LlmLayers.ts"
import * as MemoryStoreNode from "../../layers/MemoryStoreNode.ts"
import * as RemoteFilesNode from "../../layers/RemoteFilesNode.ts"
import * as SqliteNode from "../../layers/SqliteNode.ts"
import * as UsageSqlite from "../../layers/UsageSqlite.ts"
import { Conversations } from "../../services/Conversations.ts"
import { LlmProvider } from "../../services/LlmProvider.ts"
import { MemoryStore } from "../../services/MemoryStore.ts"
import { RemoteFiles } from "../../services/RemoteFiles.ts"
import { Assistant } from "../Assistant.ts"
import * as Compaction from "../Compaction.ts"
import { Cron } from "../Cron.ts"
import * as CronErrand from "../CronErrand.ts"
import * as CronTools from "../CronTools.ts"
import * as FileTools from "../FileTools.ts"
import * as LlmChain from "../LlmChain.ts"
import * as MemoryTools from "../MemoryTools.ts"
import { Meter } from "../Metered.ts"
import { Surroundings } from "../Surroundings.ts"
import * as TierTools from "../TierTools.ts"
import { ToolBox, ToolError } from "../Tool.ts"

/** The keys that this tier holds, taken out of whatever a tool brings. */
const redactor = (keys: ReadonlyArray<Redacted.Redacted | undefined>): ((text: string) => string) =>
  Redaction.make(keys.flatMap((key) => (key === undefined ? [] : [Redacted.value(key)])))

const placesOf = ({ agents, memory, soul, user }: Values["llm"]["tokens"]): ContextPrompt.Places => ({
  "SOUL.md": { ...ContextPrompt.defaultPlaces["SOUL.md"], budget: soul },
  "AGENTS.md": { ...ContextPrompt.defaultPlaces["AGENTS.md"], budget: agents },
  "USER.md": { ...ContextPrompt.defaultPlaces["USER.md"], budget: user },
  "MEMORY.md": { ...ContextPrompt.defaultPlaces["MEMORY.md"], budget: memory }
})

export const layer = (values: Values, paths: HomePaths.LlmPaths, version: string) => {
  const { contextDirectory: folder, keys, tokens, turn } = values.llm
  const zone = DateTime.zoneMakeLocal()
  const redact = redactor(Object.values(keys))
  const { budget } = values.llm

  const database = SqliteNode.layer({ filename: paths.database })
  const stores = Layer.mergeAll(
    ConversationsSqlite.layerSql,
    CronStoreSqlite.layerSql,
    UsageSqlite.layerSql,
    MemoryStoreNode.layer({ folder, timeZone: zone })
  ).pipe(Layer.provide(database))
  const files = Layer.mergeAll(
    ContextStoreNode.layer({ folder, places: placesOf(tokens) }),
    CronFilesNode.layer({ folder }),
    RemoteFilesNode.layer({ ...values.files, base: values.files.basePath })
  )
  const legs = LlmLayers.layerLegs({ ...values.llm })
  const { cached, input, output } = values.llm.price
  const set =
    input === undefined || output === undefined
      ? undefined
      : Price.custom({ input, output, ...(cached === undefined ? {} : { cached }) })
  const meter = Layer.unwrap(
    Effect.map(LlmLayers.choose({ ...values.llm }), ({ provider }) =>
      Meter.layer({
        timeZone: zone,
        budgets: { day: budget.day, month: budget.month, perJob: budget.perJob },
        price: set === undefined ? undefined : { provider, price: set }
      })
    )
  )
  const provider = LlmChain.layer.pipe(Layer.provideMerge(Layer.mergeAll(legs, meter)))
  const cron = Cron.layer({ hostZone: DateTime.zoneToString(zone) })
  const base = Layer.mergeAll(provider, cron).pipe(Layer.provideMerge(stores), Layer.provideMerge(files))

  const toolBox = Layer.effect(
    ToolBox,
    Effect.gen(function* () {
      const { info } = yield* LlmProvider
      const conversations = yield* Conversations
      const status = conversations.list.pipe(
        Effect.map((list) => ({ ...info, version, conversations: list.length })),
        Effect.mapError(({ message }) => new ToolError({ message }))
      )
      return [
        ...TierTools.make({ zone, status }),
        ...MemoryTools.make(yield* MemoryStore),
        ...FileTools.make(yield* RemoteFiles),
        ...CronTools.make(yield* Cron)
      ]
    })
  )
  const surroundings = Layer.effect(
    Surroundings,
    Effect.gen(function* () {
      const memory = yield* MemoryStore
      const compaction = yield* Compaction.make({
        historyTokens: tokens.history,
        flush: ({ conversation, facts, messageId }) =>
          Effect.forEach(facts, (fact) => memory.append("MEMORY.md", fact, { conversation, messageId }), {
            discard: true
          })
      })
      return {
        material: Effect.map(
          Effect.orElseSucceed(memory.recent(tokens.log), () => ""),
          (log) =>
            log === ""
              ? ""
              : `[the log of today and yesterday, for you to know what was said]\n${log}\n[end of the log]`
        ),
        finished: (exchange) =>
          memory.log({ ...exchange, question: redact(exchange.question), answer: redact(exchange.answer) }).pipe(
            Effect.catch(({ message }) => Effect.logWarning(message)),
            Effect.andThen(exchange.job === undefined ? compaction.after(exchange.conversation) : Effect.void)
          )
      }
    })
  )
  const assistant = Assistant.layer({
    historyTokens: tokens.history,
    promptTokens: tokens.prompt,
    maxTokens: values.llm.maxTokens,
    timeZone: zone,
    redact,
    limits: {
      steps: turn.steps,
      turnMs: turn.timeMs,
      approvalMs: turn.approvalMs,
      ...(turn.cost === undefined ? {} : { cost: turn.cost })
    }
  })
  return assistant.pipe(Layer.provide(Layer.mergeAll(toolBox, surroundings)), Layer.provideMerge(base))
}

/** Keeps the schedule for the scope. */
export const serveCron = Effect.gen(function* () {
  const cron = yield* Cron
  const runner = yield* CronErrand.make
  yield* Effect.forkScoped(cron.serve(runner))
})
