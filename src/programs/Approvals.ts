/** Calls of tools that wait for a person's decision, and what a person has allowed for the rest of a conversation. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { Decision } from "../domain/ChatRpc.ts"

export interface Waiting {
  readonly id: string
  readonly conversation: string
  readonly tool: string
  readonly decisions: ReadonlyArray<Decision>
}

export interface Given {
  readonly decision: Decision
  readonly by: "user" | "timeout"
}

/** For one tier; grants are forgotten when it ends. */
export class Approvals {
  readonly #waiting = new Map<string, { readonly about: Waiting; readonly given: Deferred.Deferred<Given> }>()
  readonly #granted = new Map<string, Set<string>>()

  isGranted(conversation: string, tool: string): boolean {
    return this.#granted.get(conversation)?.has(tool) ?? false
  }

  /** A conversation begins: what was allowed in an earlier one of its name is not allowed in this. */
  forget(conversation: string): void {
    this.#granted.delete(conversation)
  }

  isWaiting(conversation: string): boolean {
    for (const { about } of this.#waiting.values()) if (about.conversation === conversation) return true
    return false
  }

  /** Waits for a decision; none within `timeoutMs` is a denial. `announce` is called once a decision can be given. */
  ask(about: Waiting, timeoutMs: number, announce: () => void): Effect.Effect<Given> {
    return Effect.suspend(() => {
      const given = Deferred.makeUnsafe<Given>()
      this.#waiting.set(about.id, { about, given })
      announce()
      return Deferred.await(given).pipe(
        Effect.timeoutOrElse({
          duration: timeoutMs,
          orElse: () => Effect.succeed<Given>({ decision: "deny", by: "timeout" })
        }),
        Effect.ensuring(Effect.sync(() => this.#waiting.delete(about.id)))
      )
    })
  }

  /** False when nothing waits under this id, or the decision is none that may be given. */
  decide(id: string, decision: Decision): boolean {
    const found = this.#waiting.get(id)
    if (found === undefined || !found.about.decisions.includes(decision)) return false
    this.#waiting.delete(id)
    if (decision === "conversation") {
      const { conversation, tool } = found.about
      const tools = this.#granted.get(conversation) ?? new Set()
      this.#granted.set(conversation, tools.add(tool))
    }
    Deferred.doneUnsafe(found.given, Effect.succeed({ decision, by: "user" }))
    return true
  }
}
