/**
 * Answers of Anthropic's models that hold thoughts. Thoughts are signed and must come back with the calls that they led
 * to, unchanged and in their places, while a turn goes on. They are kept in memory only: after a restart a turn goes on
 * without them, which the interface allows.
 */
import type { Anthropic } from "@anthropic-ai/sdk"
import type { LlmMessage, ToolCall } from "../domain/Llm.ts"

type Block = Anthropic.ContentBlockParam

/** Answers that are kept, the newest, and characters of all of them. */
const maxAnswers = 256
const maxChars = 16 * 1024 * 1024

interface Kept {
  readonly text: string
  readonly calls: ReadonlyArray<ToolCall>
  readonly blocks: ReadonlyArray<Block>
  readonly chars: number
}

const keyOf = (conversation: string, calls: ReadonlyArray<ToolCall>): string =>
  JSON.stringify([conversation, calls[0]?.id])

const isSame = (a: ReadonlyArray<ToolCall>, b: ReadonlyArray<ToolCall>): boolean =>
  a.length === b.length &&
  a.every((call, i) => call.id === b[i]?.id && call.name === b[i]?.name && call.arguments === b[i]?.arguments)

export class Thoughts {
  readonly #kept = new Map<string, Kept>()
  #chars = 0

  /** Keeps an answer as it came, unless it holds no thought or calls nothing. */
  keep(conversation: string, answer: Omit<Kept, "chars">): void {
    const { blocks, calls } = answer
    if (calls.length === 0) return
    if (!blocks.some(({ type }) => type === "thinking" || type === "redacted_thinking")) return
    const key = keyOf(conversation, calls)
    this.#drop(key)
    const chars = JSON.stringify(blocks).length
    this.#kept.set(key, { ...answer, chars })
    this.#chars += chars
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= maxAnswers && this.#chars <= maxChars) return
      this.#drop(oldest)
    }
  }

  #drop(key: string): void {
    this.#chars -= this.#kept.get(key)?.chars ?? 0
    this.#kept.delete(key)
  }

  /** The answer as it came, where it is still known and said exactly this. */
  of(conversation: string, message: Extract<LlmMessage, { role: "assistant" }>): ReadonlyArray<Block> | undefined {
    const calls = message.calls ?? []
    const kept = this.#kept.get(keyOf(conversation, calls))
    return kept !== undefined && kept.text === message.text && isSame(kept.calls, calls) ? kept.blocks : undefined
  }
}
