/** What waits for its turn in a chat at a terminal: commands, and what is answered. */
import type * as Stream from "effect/Stream"
import * as ChatInput from "../domain/ChatInput.ts"
import type { ChatError } from "../domain/ChatRpc.ts"
import * as Ask from "./Ask.ts"
import type * as ChatAway from "./ChatAway.ts"
import * as ChatSteps from "./ChatSteps.ts"
import type * as ChatTalk from "./ChatTalk.ts"
import type { Link } from "./ClientLink.ts"

/** Characters of a message in a list. */
const LISTED = 60

/** `late`: other things stood on the screen when it was typed. */
export interface Command {
  readonly _tag: "Command"
  readonly text: string
  readonly late: boolean
}

/** Something that is answered: typed, left by an earlier chat (`adopted`), or asked by somebody before. */
export interface Speech {
  readonly _tag: "Speech"
  readonly conversation: string
  /** As the assistant knows it. */
  readonly messageId: string
  readonly text: string
  readonly outputs: Stream.Stream<Ask.Output, ChatError>
  /** What the user has said; absent for an answer to what was said before. */
  readonly message: ChatTalk.Message | undefined
  readonly late: boolean
  readonly adopted: boolean
  /** The assistant has it. */
  begun: boolean
  over: boolean
}

export type Item = Command | Speech

export const isSpeech = (item: Item): item is Speech => item._tag === "Speech"

/** The line after this one is an answer to a question of ours. */
export const asksBack = (item: Item): boolean => {
  const input = item._tag === "Command" ? ChatInput.parse(item.text) : undefined
  return input?._tag === "Command" && input.name === "compromised"
}

export const ofMessage = (link: Link, message: ChatTalk.Message, more: Pick<Speech, "late" | "adopted">): Speech => {
  const { conversation, messageId, text } = message.question
  const outputs = Ask.ask(link, message.question)
  return { _tag: "Speech", conversation, messageId, text, outputs, message, begun: false, over: false, ...more }
}

/** `/retry` and, with a text, `/edit`: the last question again, under a new id. */
export const again = (
  link: Link,
  conversation: string,
  newId: string,
  text: string | undefined,
  late: boolean
): Speech => ({
  _tag: "Speech",
  conversation,
  messageId: newId,
  text: text === undefined ? "> /retry" : `> /edit ${text}`,
  outputs: Ask.again(link, { conversation, newId, ...(text === undefined ? {} : { text }) }),
  message: undefined,
  late,
  adopted: false,
  begun: false,
  over: false
})

/** An answer that nobody has read. */
export const ofFound = (conversation: string, { messageId, outputs, text }: ChatAway.Found): Speech => ({
  _tag: "Speech",
  conversation,
  messageId,
  text: `while you were away: > ${text}`,
  outputs,
  message: undefined,
  late: true,
  adopted: true,
  begun: true,
  over: false
})

/** What stands above an answer whose question is not right above it; not cleaned. */
export const header = (item: Item, conversation: string): string => {
  if (!isSpeech(item)) return `> ${item.text}`
  if (item.message === undefined) return item.text
  const where = item.conversation === conversation ? "" : `(${item.conversation}) `
  return `${where}> ${item.text}`
}

/** One line for each, numbered. */
export const rows = (held: ReadonlyArray<Speech>, conversation: string): string =>
  held
    .map(({ conversation: talk, message, text }, n) => {
      const where = talk === conversation ? "" : ` (${talk})`
      return `${n + 1}${where}  ${ChatSteps.short(text, LISTED)}${message?.kept === undefined ? "  not kept" : ""}\n`
    })
    .join("")
