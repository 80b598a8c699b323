import { describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as MemoryFileTree from "../../src/services/MemoryFileTree.ts"
import * as Contract from "./FileTreeContract.ts"

describe("FileTree: memory", () => {
  Contract.suite(() => Effect.sync(() => MemoryFileTree.make()))
})
