/** What a job does when its moment has come: the assistant is asked, in the job's own conversation, with nobody there. */
import * as Effect from "effect/Effect"
import { conversationOf } from "../domain/CronJob.ts"
import * as MessageId from "../domain/MessageId.ts"
import { utf8 } from "../domain/protocol/Cursor.ts"
import { CronRunError, type CronRunner } from "../services/CronRunner.ts"
import { Crypto } from "../services/Crypto.ts"
import { Assistant } from "./Assistant.ts"

/** What a job may call that names no tools: those that only read. */
const readingTools: ReadonlySet<string> = new Set([
  "time",
  "status",
  "file_list",
  "file_read",
  "file_search",
  "memory_search",
  "memory_get",
  "cron_list"
])

/** What the assistant is asked. `due` stands in it, for the run may be late. */
const textOf = (command: string, context: string | undefined, due: number): string => {
  const late = `Scheduled for ${new Date(due).toISOString()}. Nobody is there to answer questions.`
  return [command, ...(context === undefined || context === "" ? [] : [context]), late].join("\n\n")
}

/** For one tier. */
export const make: Effect.Effect<CronRunner["Service"], never, Assistant | Crypto> = Effect.gen(function* () {
  const assistant = yield* Assistant
  const { primitives } = yield* Crypto
  return {
    run: ({ due, job, runId, slot }) => {
      // The same run has the same id, also after a crash: it cannot be answered twice.
      const seed = primitives.hash(utf8(`cron ${runId} ${job.name} ${slot}`))
      return assistant
        .run({
          conversation: conversationOf(job.name),
          messageId: MessageId.fromEntropy(seed),
          text: textOf(job.command, job.context, due),
          job: job.name,
          tools: job.tools === undefined ? readingTools : new Set(job.tools)
        })
        .pipe(Effect.mapError(({ message }) => new CronRunError({ message })))
    }
  }
})
