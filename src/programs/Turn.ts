/**
 * One answer: the model is asked, what it calls is carried out within policy, until it has said its last word or met a
 * limit. Everything it does is on disk before it is done, so that nothing is done twice, whatever crashes.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { ChatEvent, maxShownChars } from "../domain/ChatRpc.ts"
import * as History from "../domain/History.ts"
import { addUsage, type LlmMessage, noUsage, type StopReason, type ToolCall, type Usage } from "../domain/Llm.ts"
import * as Printable from "../domain/Printable.ts"
import { hex } from "../domain/protocol/Cursor.ts"
import * as ToolPolicy from "../domain/ToolPolicy.ts"
import * as Untrusted from "../domain/Untrusted.ts"
import { Conversations, type ConversationsError } from "../services/Conversations.ts"
import { Crypto } from "../services/Crypto.ts"
import { LlmError, type LlmEvent, LlmProvider } from "../services/LlmProvider.ts"
import type { AnswerFeed } from "./AnswerFeed.ts"
import type { Approvals } from "./Approvals.ts"
import { type Caller, type Prepared, ToolBox, ToolError } from "./Tool.ts"

export interface Limits {
  /** Requests to the provider that one answer may take. */
  readonly steps: number
  /** Milliseconds that one answer may take, those that a person takes to decide aside. */
  readonly turnMs: number
  /** US dollars that one answer may cost; Infinity for no limit. */
  readonly cost: number
  /** Milliseconds that one call of a tool may take. */
  readonly toolMs: number
  /** Milliseconds after which a call that nobody decides about is denied. */
  readonly approvalMs: number
  /** Characters after which an answer is cut off as broken. */
  readonly answerChars: number
}

export const defaultLimits: Limits = {
  steps: 24,
  turnMs: 10 * 60_000,
  cost: Number.POSITIVE_INFINITY,
  toolMs: 60_000,
  approvalMs: 10 * 60_000,
  answerChars: 1024 * 1024
}

/** The same call with the same result so many times is a loop: the model is told at the first, stopped at the second. */
const REPEATS_TOLD = 3
const REPEATS_ENDED = 5

export interface Task {
  readonly caller: Caller
  readonly replyId: string
  readonly system: string
  /** From the oldest to the question. */
  readonly messages: ReadonlyArray<LlmMessage>
  /** Estimated tokens that the messages of one request may have, those of the turn among them. */
  readonly roomTokens: number
  /** What an attempt that was cut off has done. */
  readonly steps: ReadonlyArray<History.Step>
  /** Text that others may have written is among the messages. */
  readonly tainted: boolean
  /** Set when no person attends. */
  readonly unattended: ReadonlySet<string> | undefined
  readonly maxTokens: number | undefined
}

/** What came of it so far; kept outside of the turn, which may be interrupted at any point. */
export interface Progress {
  text: string
  usage: Usage
  cost: number | undefined
  model: string
  provider: string
  stopReason: StopReason
  /** Text that others may have written is, or was, before the model. */
  tainted: boolean
}

/** What one request to the provider brought. */
interface Said {
  text: string
  reasoning: string
  readonly calls: Array<ToolCall>
  done: Extract<LlmEvent, { _tag: "Done" }> | undefined
}

const interrupted = "it is not known whether this was carried out: the program ended, or was stopped, meanwhile"
const notBegun = "this was not carried out: the answer was stopped before"

const tooSlow = (ms: number) =>
  new LlmError({ reason: "Timeout", message: `the provider took longer than ${ms / 1000} s for one answer: ask again` })

const messagesOf = (steps: ReadonlyArray<History.Step>): ReadonlyArray<LlmMessage> =>
  steps.map((step): LlmMessage => {
    if (step._tag === "Result") {
      const { callId, failed, name, text } = step
      return { role: "tool", callId, name, text, failed }
    }
    const { calls, reasoning, text } = step
    return { role: "assistant", text, calls, ...(reasoning === undefined ? {} : { reasoning }) }
  })

/** The calls of the last thing said that have no result yet. */
const open = (steps: ReadonlyArray<History.Step>): ReadonlyArray<ToolCall> => {
  const last = steps.findLastIndex((step) => step._tag === "Said")
  const said = steps[last]
  return said?._tag === "Said" ? said.calls.slice(steps.length - last - 1) : []
}

/** Ids that are empty or repeat within one answer get a number. */
const withOwnIds = (calls: ReadonlyArray<ToolCall>, step: number): ReadonlyArray<ToolCall> => {
  const seen = new Set<string>()
  return calls.map((call, index) => {
    const id = call.id === "" || seen.has(call.id) ? `${call.id}call_${step}_${index}` : call.id
    seen.add(id)
    return { ...call, id }
  })
}

/** For one tier. */
export const make = Effect.fnUntraced(function* (
  limits: Limits,
  approvals: Approvals,
  redact: (text: string) => string
) {
  const provider = yield* LlmProvider
  const conversations = yield* Conversations
  const { entropy } = yield* Crypto
  const tools = new Map((yield* ToolBox).map((tool) => [tool.spec.name, tool]))
  const specs = [...tools.values()].map(({ spec }) => spec)
  const fresh = (): string => hex(entropy(8))

  /** Runs the turn; `progress` says at every moment how far it came. */
  const run = Effect.fnUntraced(function* (task: Task, feed: AnswerFeed, progress: Progress) {
    const { caller, replyId } = task
    const steps: Array<History.Step> = [...task.steps]
    const results = new Map<string, { readonly text: string; times: number }>()
    progress.tainted = task.tainted || steps.some((step) => step._tag === "Result" && isUntrusted(step.name))
    let requests = steps.filter((step) => step._tag === "Said").length
    let workedMs = 0

    const add = (step: History.Step) => {
      steps.push(step)
      return conversations.addStep(replyId, step)
    }
    const result = (call: ToolCall, text: string, failed: boolean) =>
      add({ _tag: "Result", callId: call.id, name: call.name, text, failed })

    const onEvent = (said: Said, event: LlmEvent): Effect.Effect<void, LlmError> => {
      switch (event._tag) {
        case "Delta": {
          if (event.text === "") return Effect.void
          if (progress.text.length + event.text.length > limits.answerChars) {
            const message = `the answer exceeded ${limits.answerChars} characters and was cut off`
            return Effect.fail(new LlmError({ reason: "Broken", message }))
          }
          const text = said.text === "" && progress.text !== "" ? `\n\n${event.text}` : event.text
          said.text += event.text
          progress.text += text
          feed.publish(ChatEvent.cases.Delta.make({ text }))
          return Effect.void
        }
        case "Reasoning":
          if (said.reasoning.length < limits.answerChars) said.reasoning += event.text
          return Effect.void
        case "Call":
          said.calls.push(event.call)
          return Effect.void
        case "Notice":
          feed.publish(ChatEvent.cases.Notice.make({ text: event.text }))
          return Effect.void
        case "Done":
          said.done = event
          return Effect.void
      }
    }

    const ask = Effect.gen(function* () {
      const said: Said = { text: "", reasoning: "", calls: [], done: undefined }
      yield* Stream.runForEach(
        provider.stream({
          conversation: caller.conversation,
          system: task.system,
          messages: History.fitting([...task.messages, ...messagesOf(steps)], task.roomTokens),
          ...(specs.length === 0 ? {} : { tools: specs }),
          ...(task.maxTokens === undefined ? {} : { maxTokens: task.maxTokens }),
          ...(caller.job === undefined ? {} : { job: caller.job })
        }),
        (event) => onEvent(said, event)
      )
      const { done } = said
      if (done === undefined) {
        return yield* new LlmError({ reason: "Broken", message: "the answer ended early: ask again" })
      }
      progress.usage = addUsage(progress.usage, done.usage)
      if (done.cost !== undefined) progress.cost = (progress.cost ?? 0) + done.cost
      progress.model = done.model
      progress.provider = done.provider ?? progress.provider
      progress.stopReason = done.stopReason
      return said
    })

    /** Whether the call may run; what the model is told when not. */
    const decide = Effect.fnUntraced(function* (callId: string, call: ToolCall, prepared: Prepared) {
      const verdict = ToolPolicy.judge({
        risk: prepared.risk,
        tool: call.name,
        tainted: progress.tainted,
        granted: approvals.isGranted(caller.conversation, call.name),
        unattended: task.unattended
      })
      if (verdict._tag === "Run") return undefined
      if (verdict._tag === "Refuse") return `refused: ${verdict.reason}`
      const approvalId = fresh()
      const decisions = ToolPolicy.decisions(prepared.risk)
      const about = {
        approvalId,
        callId,
        tool: call.name,
        summary: prepared.summary,
        detail: prepared.detail,
        decisions
      }
      const waiting = { id: approvalId, conversation: caller.conversation, tool: call.name, decisions }
      const { by, decision } = yield* approvals.ask(waiting, limits.approvalMs, () =>
        feed.publish(ChatEvent.cases.Approval.make(about))
      )
      feed.publish(ChatEvent.cases.Decided.make({ approvalId, callId, decision, by }))
      if (decision !== "deny") return undefined
      return ToolPolicy.denial(by)
    })

    /** A bug in a tool is its failure, and no more. */
    const guarded = <A>(name: string, effect: Effect.Effect<A, ToolError>) =>
      Effect.catchDefect(effect, (defect) =>
        Effect.andThen(
          Effect.logError(`the tool ${name} failed unexpectedly`, defect),
          Effect.fail(new ToolError({ message: `${name} failed unexpectedly: do not call it in the same way again` }))
        )
      )

    /** `state.begun` is set once what is called may have been done. */
    const carryOut = Effect.fnUntraced(function* (callId: string, call: ToolCall, state: { begun: boolean }) {
      const shown = { callId, tool: call.name, arguments: Printable.clean(call.arguments).slice(0, maxShownChars) }
      const tool = tools.get(call.name)
      if (tool === undefined) {
        feed.publish(ChatEvent.cases.Calling.make({ ...shown, summary: `${Printable.line(call.name)}?` }))
        return { text: `there is no tool of this name; there are: ${[...tools.keys()].join(", ")}`, failed: true }
      }
      const before = yield* Clock.currentTimeMillis
      const prepared = yield* Effect.result(guarded(call.name, tool.prepare(call.arguments, caller)))
      if (Result.isFailure(prepared)) {
        feed.publish(ChatEvent.cases.Calling.make({ ...shown, summary: call.name }))
        return { text: Untrusted.cut(redact(prepared.failure.message)), failed: true }
      }
      feed.publish(ChatEvent.cases.Calling.make({ ...shown, summary: prepared.success.summary }))
      workedMs += (yield* Clock.currentTimeMillis) - before
      const refusal = yield* decide(callId, call, prepared.success)
      if (refusal !== undefined) return { text: refusal, failed: true }
      const began = yield* Clock.currentTimeMillis
      state.begun = true
      const outcome = yield* Effect.result(
        Effect.timeoutOrElse(guarded(call.name, prepared.success.run), {
          duration: limits.toolMs,
          orElse: () =>
            Effect.fail(new ToolError({ message: `it took longer than ${limits.toolMs / 1000} s: ${interrupted}` }))
        })
      )
      workedMs += (yield* Clock.currentTimeMillis) - began
      const failed = Result.isFailure(outcome)
      const text = Untrusted.cut(redact(failed ? outcome.failure.message : outcome.success))
      if (!tool.untrusted) return { text, failed }
      progress.tainted = true
      return { text: Untrusted.mark(call.name, text, fresh()), failed }
    })

    /** True when the same call has given the same result too often. */
    const repeats = (call: ToolCall, text: string): number => {
      const key = `${call.name} ${call.arguments}`
      // The boundary of marked text differs each time.
      const plain = text.replace(/^\[[0-9a-f]{16}:/gm, "[:")
      const known = results.get(key)
      const times = known?.text === plain ? known.times + 1 : 1
      results.set(key, { text: plain, times })
      return times
    }

    /** Carries out what has no result; true when it goes round in circles. */
    const carryOutAll = Effect.fnUntraced(function* (calls: ReadonlyArray<ToolCall>, over: string | undefined) {
      let circles = false
      for (const [index, call] of calls.entries()) {
        const callId = `${requests}.${index}`
        if (over !== undefined) {
          yield* result(call, `not carried out: ${over}; answer now, without calling anything`, true)
          continue
        }
        // What has begun gets its result also when somebody stops the answer.
        const state = { begun: false }
        const outcome = yield* carryOut(callId, call, state).pipe(
          Effect.onInterrupt(() => Effect.ignore(result(call, state.begun ? interrupted : notBegun, true)))
        )
        const times = repeats(call, outcome.text)
        if (times >= REPEATS_ENDED) circles = true
        const again =
          times < REPEATS_TOLD ? "" : `\n[the same call has had this result ${times} times: do something else]`
        yield* Effect.uninterruptible(result(call, outcome.text + again, outcome.failed))
        feed.publish(
          ChatEvent.cases.Called.make({
            callId,
            tool: call.name,
            failed: outcome.failed,
            preview: Printable.clean(outcome.text).slice(0, maxShownChars)
          })
        )
      }
      return circles
    })

    const overLimit = (): string | undefined => {
      if (requests >= limits.steps) return `this answer has taken its ${limits.steps} steps`
      if (workedMs >= limits.turnMs) return `this answer has taken its ${limits.turnMs / 1000} s`
      if ((progress.cost ?? 0) >= limits.cost) return `this answer has cost its ${limits.cost} dollars`
      return undefined
    }

    // What an earlier attempt has said is seen again; what it began may have happened, and is not done again.
    progress.text = steps.flatMap((step) => (step._tag === "Said" && step.text !== "" ? [step.text] : [])).join("\n\n")
    if (progress.text !== "") feed.publish(ChatEvent.cases.Delta.make({ text: progress.text }))
    for (const call of open(steps)) yield* result(call, interrupted, true)
    let warned = false
    for (;;) {
      const began = yield* Clock.currentTimeMillis
      const said = yield* Effect.timeoutOrElse(ask, {
        duration: limits.turnMs,
        orElse: () => Effect.fail(tooSlow(limits.turnMs))
      })
      workedMs += (yield* Clock.currentTimeMillis) - began
      requests++
      if (said.calls.length === 0) return
      if (warned) {
        progress.stopReason = "other"
        return
      }
      const calls = withOwnIds(said.calls, requests)
      const { reasoning, text } = said
      yield* Effect.uninterruptible(add({ _tag: "Said", text, calls, ...(reasoning === "" ? {} : { reasoning }) }))
      const over = overLimit()
      const circles = yield* carryOutAll(calls, over).pipe(
        Effect.onInterrupt(() =>
          Effect.ignore(Effect.forEach(open(steps), (call) => result(call, notBegun, true), { discard: true }))
        )
      )
      if (over !== undefined || circles) {
        warned = true
        feed.publish(
          ChatEvent.cases.Notice.make({ text: over ?? "the assistant went round in circles and was told to answer" })
        )
      }
    }
  })

  const isUntrusted = (name: string): boolean => tools.get(name)?.untrusted ?? true

  return { run, isUntrusted }
})

export type Turns = Effect.Success<ReturnType<typeof make>>

export const begin = (model: string, provider: string): Progress => ({
  text: "",
  usage: noUsage,
  cost: undefined,
  model,
  provider,
  stopReason: "other",
  tainted: false
})

/** How a turn ended, for the record. */
export const statusOf = (exit: Exit.Exit<void, LlmError | ConversationsError>): "complete" | "cancelled" | "failed" =>
  Exit.isSuccess(exit) ? "complete" : Cause.hasInterruptsOnly(exit.cause) ? "cancelled" : "failed"
