/** Tools that say where and when the assistant is. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { ChatStatus } from "../domain/ChatRpc.ts"
import * as Tool from "./Tool.ts"

export interface Options {
  readonly zone: DateTime.TimeZone
  readonly status: Effect.Effect<Pick<ChatStatus, "provider" | "model" | "version" | "conversations">, Tool.ToolError>
}

export const make = ({ status, zone }: Options): ReadonlyArray<Tool.Tool> => [
  Tool.make({
    name: "time",
    description:
      "Tells the date, the time and the user's time zone now; messages of the user begin with when they were sent.",
    input: Schema.Struct({}),
    prepare: () =>
      Effect.succeed({
        summary: "look at the clock",
        detail: "",
        risk: "free",
        run: Effect.map(DateTime.now, (now) => {
          const here = DateTime.setZone(now, zone)
          const words = DateTime.format(here, { locale: "en-GB", dateStyle: "full", timeStyle: "medium" })
          return `${words} (${DateTime.zoneToString(zone)}, UTC${DateTime.zonedOffsetIso(here)})`
        })
      })
  }),
  Tool.make({
    name: "status",
    description:
      "Tells which provider and model you are, which version of ClawChat runs, how many conversations there are.",
    input: Schema.Struct({}),
    prepare: () =>
      Effect.succeed({
        summary: "look at the assistant's own state",
        detail: "",
        risk: "free",
        run: Effect.map(status, (state) =>
          [
            `provider: ${state.provider}`,
            `model: ${state.model}`,
            `version: ${state.version}`,
            `conversations: ${state.conversations}`
          ].join("\n")
        )
      })
  })
]
