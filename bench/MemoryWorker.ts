/** A process with nothing in it, or with only Effect loaded: `bare` or `effect`. */
import { serve } from "./Harness.ts"

if (process.argv[2] === "effect") {
  await Promise.all([
    import("effect/Effect"),
    import("effect/Layer"),
    import("effect/Stream"),
    import("effect/FiberSet"),
    import("effect/Deferred")
  ])
}
serve({ ready: () => true })
