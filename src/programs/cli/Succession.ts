/** What a tier does when its keys are burnt: one line for people, then it is gone, and a fresh process takes its place. */
import * as Effect from "effect/Effect"
import * as Successor from "../../layers/Successor.ts"
import type { Burned } from "../Compromise.ts"
import { ExitCode } from "./Failure.ts"
import * as Output from "./Output.ts"

/** To be run while the tier's scope is open: nothing of the old process runs after it. */
export const giveWay =
  (tier: string) =>
  ({ acknowledged, left, notified }: Burned): Effect.Effect<never> =>
    Effect.gen(function* () {
      yield* Output.note(`clawchat: COMPROMISED: all keys of this ${tier} are burnt; a fresh one takes its place`)
      for (const line of left) yield* Output.note(`clawchat: left behind, the fresh one tries again: ${line}`)
      if (notified > 0 && !acknowledged) {
        yield* Output.note(
          "clawchat: not everybody who was connected has answered: burn those devices too (clawchat compromised)"
        )
      }
      return yield* Successor.giveWay(ExitCode.Burned, (pid) =>
        Output.note(`clawchat: the fresh ${tier} is process ${pid}; end it with: kill ${pid}`)
      )
    })
