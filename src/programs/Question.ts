/** What the assistant is asked, by a person or by a job. */
import { ChatError, maxAttachmentBytes, maxTextBytes } from "../domain/ChatRpc.ts"
import type { Attachment } from "../domain/Llm.ts"

export interface Question {
  readonly conversation: string
  /** A lower-case UUID, made once per question. */
  readonly messageId: string
  readonly text: string
  readonly attachments?: ReadonlyArray<Attachment>
}

/** A question that no person attends to. */
export interface Errand extends Question {
  /** The cron job's name. */
  readonly job: string
  /** Tools that its policy names; no other is called. */
  readonly tools: ReadonlySet<string>
}

const tooLong = (bytes: number) =>
  new ChatError({
    reason: "TooLong",
    message: `the message has ${bytes} bytes, at most ${maxTextBytes} are taken: send it as a file, or in parts`
  })

const tooHeavy = (bytes: number) =>
  new ChatError({
    reason: "TooLong",
    message: `the attachments have ${bytes} bytes, at most ${maxAttachmentBytes} are taken: put them with clawchat files put, and name their paths`
  })

/** Why a question is too large to be taken, if it is. */
export const tooLarge = ({ attachments, text }: Question): ChatError | undefined => {
  const bytes = new TextEncoder().encode(text).length
  if (bytes > maxTextBytes) return tooLong(bytes)
  const attached = (attachments ?? []).reduce((sum, { bytes }) => sum + bytes.length, 0)
  return attached > maxAttachmentBytes ? tooHeavy(attached) : undefined
}

const sameAttachments = (a: ReadonlyArray<Attachment>, b: ReadonlyArray<Attachment>): boolean =>
  a.length === b.length &&
  a.every(({ bytes, mediaType, name }, index) => {
    const other = b[index]
    if (other?.name !== name || other.mediaType !== mediaType || other.bytes.length !== bytes.length) return false
    return bytes.every((byte, at) => byte === other.bytes[at])
  })

/** Whether two questions of one id are one. Who does not say what was attached means what is known. */
export const isSame = (a: Question, b: Question): boolean =>
  a.conversation === b.conversation &&
  a.text === b.text &&
  (a.attachments === undefined || b.attachments === undefined || sameAttachments(a.attachments, b.attachments))
