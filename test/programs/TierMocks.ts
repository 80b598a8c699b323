/** What the llm tier serves beside Chat, for tests of other things: whatever is used of it dies. */

import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { Cron } from "../../src/programs/Cron.ts"
import { Meter } from "../../src/programs/Metered.ts"
import { Archive } from "../../src/services/Archive.ts"
import { LlmLegs } from "../../src/services/LlmLegs.ts"
import { MemoryStore } from "../../src/services/MemoryStore.ts"
import { UsageStore } from "../../src/services/UsageStore.ts"

export const tierMocks = Layer.mergeAll(
  Layer.mock(Archive, {}),
  Layer.mock(Cron, {}),
  Layer.mock(MemoryStore, {}),
  Layer.mock(Meter, { wrap: (provider) => provider, priceOf: () => undefined, budgets: Effect.succeed([]) }),
  Layer.mock(UsageStore, {}),
  Layer.succeed(LlmLegs, [
    { info: { provider: "scripted", model: "script-1", chosen: "by the test" }, stream: () => Stream.empty }
  ])
)
