/** A call of the running answer that waits for the person at the terminal. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChatCommands from "./ChatCommands.ts"
import * as ChatSteps from "./ChatSteps.ts"
import type * as ChatTalk from "./ChatTalk.ts"

interface Pending {
  readonly approval: ChatSteps.Approval
  readonly isCut: boolean
  /** What was decided is on its way. */
  isSent: boolean
}

/** For one chat. `changed` is told when the question is to be shown again. */
export class ChatDecisions {
  readonly #chat: ChatTalk.Chat
  readonly #timeoutMs: number
  readonly #changed: Effect.Effect<unknown>
  #pending: Pending | undefined

  constructor(chat: ChatTalk.Chat, timeoutMs: number, changed: Effect.Effect<unknown>) {
    this.#chat = chat
    this.#timeoutMs = timeoutMs
    this.#changed = changed
  }

  /** What to ask now; undefined when nothing waits. */
  get question(): string | undefined {
    const pending = this.#pending
    return pending === undefined || pending.isSent
      ? undefined
      : `${ChatSteps.question(pending.approval, pending.isCut)}> `
  }

  /** This call waits from now on; undefined: none does. */
  set(approval: ChatSteps.Approval | undefined): void {
    this.#pending = approval && { approval, isCut: ChatSteps.approval(approval).isCut, isSent: false }
  }

  /** Takes a typed line for a decision; false for a text that is none. */
  take(text: string): Effect.Effect<boolean, never, Scope.Scope> {
    return Effect.gen({ self: this }, function* () {
      const pending = this.#pending
      const meant = ChatSteps.decision(text)
      if (pending === undefined || pending.isSent || meant === undefined) return false
      const { approval } = pending
      const { note } = this.#chat.screen
      if (meant === "view") {
        yield* note(ChatSteps.detail(approval))
        return true
      }
      if (!approval.decisions.includes(meant)) {
        yield* note("this one is decided about each time: o or d")
        return true
      }
      pending.isSent = true
      const context = this.#chat.context(this.#timeoutMs)
      const told = Effect.catch(ChatCommands.approve(context, approval.approvalId, meant), ({ message }) =>
        Effect.suspend(() => {
          pending.isSent = false
          return Effect.andThen(note(message), this.#changed)
        })
      )
      yield* Effect.forkScoped(told)
      return true
    })
  }
}
