/** Rows of the transcript's tables, and what they stand for. */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { ChatMessage, MessageStatus } from "../domain/ChatRpc.ts"
import type { Step } from "../domain/History.ts"
import { type StopReason, ToolCall, type Usage } from "../domain/Llm.ts"
import * as Printable from "../domain/Printable.ts"
import type { GivenReply, ReplyEnd } from "../services/Conversations.ts"

/** A row of `messages`; what only replies have is null in questions. */
export interface MessageRow {
  readonly number: number
  readonly id: string
  readonly conversation: string
  readonly seq: number
  readonly role: "user" | "assistant"
  readonly status: MessageStatus
  readonly created: number
  readonly attempts: number
  readonly delivered: number
  readonly taken_back: number | null
  readonly taken_for: string | null
  readonly provider: string | null
  readonly model: string | null
  readonly input_tokens: number | null
  readonly output_tokens: number | null
  readonly cached_tokens: number | null
  readonly cache_write_tokens: number | null
  readonly cost: number | null
  readonly stop_reason: StopReason | null
  readonly tainted: number
  readonly text: string
}

export interface StepRow {
  readonly question: string
  readonly position: number
  readonly kind: "said" | "result"
  /** JSON of an array of calls, with `said`. */
  readonly calls: string | null
  readonly call_id: string | null
  readonly name: string | null
  readonly failed: number | null
  readonly reasoning: string | null
  readonly text: string
}

/** A row of `attachments` without the bytes, which are read only where they are needed. */
export interface AttachmentRow {
  readonly message: string
  readonly position: number
  readonly name: string
  readonly media_type: string
  readonly size: number
}

/** Characters of a call's arguments that stand in a list of messages. */
const summaryChars = 120

const calls = Schema.fromJsonString(Schema.Array(ToolCall))
const decodeCalls = Schema.decodeUnknownOption(calls)
const encodeCalls = Schema.encodeSync(calls)

/** A row that somebody else has spoilt counts as one without calls. */
const toCalls = (row: Pick<StepRow, "calls">): ReadonlyArray<ToolCall> =>
  Option.getOrElse(decodeCalls(row.calls ?? "[]"), () => [])

export const toStep = (row: StepRow): Step =>
  row.kind === "said"
    ? {
        _tag: "Said",
        text: row.text,
        calls: toCalls(row),
        ...(row.reasoning === null ? {} : { reasoning: row.reasoning })
      }
    : {
        _tag: "Result",
        callId: row.call_id ?? "",
        name: row.name ?? "",
        text: row.text,
        failed: row.failed !== 0
      }

export const fromStep = (question: string, position: number, step: Step): StepRow =>
  step._tag === "Said"
    ? {
        question,
        position,
        kind: "said",
        calls: encodeCalls(step.calls),
        call_id: null,
        name: null,
        failed: null,
        reasoning: step.reasoning ?? null,
        text: step.text
      }
    : {
        question,
        position,
        kind: "result",
        calls: null,
        call_id: step.callId,
        name: step.name,
        failed: step.failed ? 1 : 0,
        reasoning: null,
        text: step.text
      }

/** The question of a reply, whose id is the question's with the attempt's number. */
export const questionId = ({ id }: Pick<MessageRow, "id">): string => id.slice(0, id.lastIndexOf("."))

const toUsage = (row: MessageRow): Usage => ({
  inputTokens: row.input_tokens ?? 0,
  outputTokens: row.output_tokens ?? 0,
  ...(row.cached_tokens === null ? {} : { cachedTokens: row.cached_tokens }),
  ...(row.cache_write_tokens === null ? {} : { cacheWriteTokens: row.cache_write_tokens })
})

/** The columns that the end of a reply sets. */
export const fromEnd = (end: ReplyEnd) => ({
  status: end.status,
  text: end.text,
  model: end.model,
  input_tokens: end.usage.inputTokens,
  output_tokens: end.usage.outputTokens,
  cached_tokens: end.usage.cachedTokens ?? null,
  cache_write_tokens: end.usage.cacheWriteTokens ?? null,
  cost: end.cost ?? null,
  stop_reason: end.stopReason,
  tainted: end.tainted === true ? 1 : 0
})

export const toReply = (row: MessageRow): GivenReply => ({
  id: row.id,
  text: row.text,
  provider: row.provider ?? "",
  model: row.model ?? "",
  usage: toUsage(row),
  stopReason: row.stop_reason ?? "other",
  ...(row.cost === null ? {} : { cost: row.cost })
})

export type Shown = NonNullable<ChatMessage["calls"]>[number]

/** The calls among a question's steps, for people. One without a result counts as failed, unless its reply goes on. */
export const toShown = (
  rows: ReadonlyArray<Pick<StepRow, "kind" | "calls" | "call_id" | "failed">>,
  streaming: boolean
): ReadonlyArray<Shown> =>
  rows.flatMap((row, index) => {
    if (row.kind !== "said") return []
    const end = rows.findIndex((other, at) => at > index && other.kind === "said")
    const results = rows.slice(index + 1, end === -1 ? rows.length : end)
    return toCalls(row).map(({ arguments: json, id, name }) => {
      const result = results.find((other) => other.call_id === id)
      return {
        tool: name,
        summary: Printable.line(json).slice(0, summaryChars).toWellFormed(),
        failed: result === undefined ? !streaming : result.failed !== 0
      }
    })
  })

/** As clients see it. */
export const toMessage = (
  row: MessageRow,
  attachments: ReadonlyArray<string>,
  shown: ReadonlyArray<Shown>
): ChatMessage => ({
  id: row.id,
  seq: row.seq,
  role: row.role,
  text: row.text,
  status: row.status,
  created: row.created,
  ...(row.model === null ? {} : { model: row.model }),
  ...(row.input_tokens === null || row.output_tokens === null ? {} : { usage: toUsage(row) }),
  ...(row.cost === null ? {} : { cost: row.cost }),
  ...(row.taken_back === null ? {} : { takenBack: row.taken_back }),
  ...(attachments.length === 0 ? {} : { attachments }),
  ...(shown.length === 0 ? {} : { calls: shown })
})
