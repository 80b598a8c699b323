import { describe } from "@effect/vitest"
import { explored } from "./Seeds.ts"

describe("Everybody finds back and nothing is lost in the world", () => {
  explored(126, 25)
})
