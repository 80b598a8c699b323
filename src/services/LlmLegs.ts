/** The providers that may answer, the configured one first, then those that stand in for it. */
import * as Context from "effect/Context"
import type { LlmProviderShape } from "./LlmProvider.ts"

export class LlmLegs extends Context.Service<LlmLegs, readonly [LlmProviderShape, ...Array<LlmProviderShape>]>()(
  "clawchat/services/LlmLegs"
) {}
