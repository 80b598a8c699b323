/** What the providers' formats have in common when a transcript is said in them. */
import type { Attachment, LlmMessage } from "../domain/Llm.ts"
import { userText } from "../domain/Llm.ts"
import { LlmError, type LlmRequest } from "../services/LlmProvider.ts"

const imageTypes = ["image/png", "image/jpeg", "image/webp", "image/gif"] as const
export type ImageType = (typeof imageTypes)[number]

/** A part of a user's message. */
export type Part =
  | { readonly _tag: "Text"; readonly text: string }
  | { readonly _tag: "Image"; readonly mediaType: ImageType; readonly base64: string }

/** What a model reads where a result is empty, or failed without a field of the protocol that says so. */
const nothing = "(nothing)"
export const resultText = (text: string): string => (text === "" ? nothing : text)

/**
 * Whether the model takes the images of a message: of the newest question, and of those that were answered. One that was
 * refused with its images must not stand in the way of all later questions.
 */
export const showsImages = (messages: ReadonlyArray<LlmMessage>, index: number): boolean =>
  messages[index + 1]?.role === "assistant" || !messages.slice(index + 1).some((message) => message.role === "user")

const imageType = (attachment: Attachment): ImageType | undefined =>
  imageTypes.find((type) => type === attachment.mediaType)

const isText = (attachment: Attachment): boolean => attachment.mediaType.startsWith("text/")

/** A text in a fence that it cannot close. */
const fenced = (attachment: Attachment): string => {
  const text = new TextDecoder().decode(attachment.bytes)
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length))
  const fence = "`".repeat(longest + 1)
  return `${JSON.stringify(attachment.name)}:\n${fence}\n${text}${text.endsWith("\n") ? "" : "\n"}${fence}`
}

/** Attachments first, then what was said. What the model cannot see is named. */
export const userParts = (message: Extract<LlmMessage, { role: "user" }>, images: boolean): ReadonlyArray<Part> => {
  const parts: Array<Part> = []
  for (const attachment of message.attachments ?? []) {
    const mediaType = imageType(attachment)
    if (mediaType !== undefined && images && attachment.bytes.length > 0) {
      const base64 = Buffer.from(attachment.bytes).toString("base64")
      parts.push({ _tag: "Image", mediaType, base64 })
    } else if (isText(attachment)) {
      parts.push({ _tag: "Text", text: fenced(attachment) })
    } else {
      parts.push({ _tag: "Text", text: `[${JSON.stringify(attachment.name)} was attached and cannot be shown]` })
    }
  }
  const text = userText(message)
  if (text.trim() !== "" || parts.length === 0) parts.push({ _tag: "Text", text: text === "" ? nothing : text })
  return parts
}

/** Why the newest of the user's messages cannot be sent as it is; earlier ones never stand in the way of a conversation. */
export const refusal = (request: LlmRequest, provider: string, images: boolean): LlmError | undefined => {
  const last = request.messages.findLast((message) => message.role === "user")
  if (last?.role !== "user") return undefined
  for (const attachment of last.attachments ?? []) {
    if (isText(attachment)) continue
    const name = JSON.stringify(attachment.name)
    const message =
      imageType(attachment) === undefined
        ? `${name} is of the type ${attachment.mediaType}, which cannot be attached: attach a text, or an image as PNG, JPEG, WebP or GIF`
        : images
          ? undefined
          : `${name} is an image, and ${provider} reads none: leave it out, or choose another provider`
    if (message !== undefined) return new LlmError({ reason: "Refused", message })
  }
  return undefined
}

/** The arguments as the object that protocols insist on; what a model wrote instead is kept, as text. */
export const argumentsObject = (json: string): { readonly [key: string]: unknown } => {
  if (json.trim() === "") return {}
  try {
    const value: unknown = JSON.parse(json)
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value }
  } catch {
    // Not JSON: kept as text below.
  }
  return { text: json }
}

/** Ids that every provider takes: letters, digits, `_` and `-`, at most 40, none twice in a request. */
const takenEverywhere = /^[A-Za-z0-9_-]{1,40}$/

/**
 * Ids made by another provider may be too long, hold other characters, or come again in a later answer: such calls and
 * their results get new ones, always the same for the same messages.
 */
export const withSafeIds = (messages: ReadonlyArray<LlmMessage>): ReadonlyArray<LlmMessage> => {
  const used = new Set<string>()
  let current = new Map<string, string>()
  let number = 0
  const safe = (id: string): string => {
    let result = id
    while (!takenEverywhere.test(result) || used.has(result)) result = `call_${++number}`
    used.add(result)
    return result
  }
  return messages.map((message) => {
    if (message.role === "assistant" && message.calls !== undefined) {
      const ids = new Map<string, string>()
      const calls = message.calls.map((call) => {
        const id = safe(call.id)
        ids.set(call.id, id)
        return { ...call, id }
      })
      current = ids
      return { ...message, calls }
    }
    if (message.role === "tool") return { ...message, callId: current.get(message.callId) ?? safe(message.callId) }
    return message
  })
}
