/** `clawchat version`. */
import type * as Effect from "effect/Effect"
import { VERSION_MAX, VERSION_MIN } from "../../domain/protocol/Constants.ts"
import * as Common from "./Common.ts"
import * as Output from "./Output.ts"

export interface Input {
  readonly json: boolean
}

export const run = (input: Input): Effect.Effect<void> =>
  input.json
    ? Output.json({
        version: Common.VERSION,
        protocol: { min: VERSION_MIN, max: VERSION_MAX },
        node: process.version,
        platform: `${process.platform}-${process.arch}`
      })
    : Output.line(`clawchat ${Common.VERSION}`)
