/** A conversation on its way out: as Markdown for people, as JSON with all that is kept. Pure; put together from pieces. */
import type { ChatMessage } from "./ChatRpc.ts"
import type { Step } from "./History.ts"
import type { StopReason } from "./Llm.ts"
import * as Printable from "./Printable.ts"

/** A message with all that belongs to it but the bytes of attachments. */
export interface Entry {
  readonly message: ChatMessage
  readonly provider?: string
  readonly stopReason?: StopReason
  readonly attachments: ReadonlyArray<{ readonly name: string; readonly mediaType: string; readonly size: number }>
  readonly steps: ReadonlyArray<Step>
}

/** Characters of a call's arguments in Markdown. */
const argumentChars = 200

const iso = (ms: number): string => new Date(ms).toISOString()
const minute = (ms: number): string => `${iso(ms).slice(0, 16).replace("T", " ")} UTC`

export const markdownHead = (conversation: string, began: number): string =>
  `# ${Printable.line(conversation)}\n\nBegun ${minute(began)}.\n`

const stepLines = (steps: ReadonlyArray<Step>): ReadonlyArray<string> =>
  steps.flatMap((step, index) => {
    if (step._tag === "Result") return []
    return step.calls.map(({ arguments: json, id, name }) => {
      const result = steps.find((other, at) => at > index && other._tag === "Result" && other.callId === id)
      const failed = result?._tag !== "Result" || result.failed
      const given = Printable.line(json).slice(0, argumentChars).toWellFormed()
      return `> ${Printable.line(name)} ${given}${failed ? " (failed)" : ""}`
    })
  })

/** Without the calls' results; what could steer a terminal is left out. */
export const markdown = ({ attachments, message, steps }: Entry): string => {
  const { created, model, role, status, takenBack, text } = message
  const title = [
    role === "user" ? "You" : "Assistant",
    minute(created),
    ...(model === undefined ? [] : [Printable.line(model)]),
    ...(status === "complete" ? [] : [status]),
    ...(takenBack === undefined ? [] : ["taken back"])
  ].join(" · ")
  const notes = [
    ...attachments.map(({ mediaType, name, size }) => `> ${Printable.line(name)} (${mediaType}, ${size} bytes)`),
    ...stepLines(steps)
  ]
  return `\n## ${title}\n\n${notes.length === 0 ? "" : `${notes.join("\n")}\n\n`}${Printable.clean(text)}\n`
}

export const jsonHead = (conversation: string, began: number): string =>
  `{"conversation":${Printable.json(conversation)},"created":${Printable.json(iso(began))},"messages":[`

/** All of a message, open at its end: `attachments` follow there, each with its bytes, then `jsonTail`. */
export const jsonEntry = ({ message, provider, steps, stopReason }: Entry): string => {
  const { created, takenBack, ...rest } = message
  const value = {
    ...rest,
    created: iso(created),
    ...(takenBack === undefined ? {} : { takenBack: iso(takenBack) }),
    ...(provider === undefined ? {} : { provider }),
    ...(stopReason === undefined ? {} : { stopReason }),
    ...(steps.length === 0 ? {} : { steps })
  }
  return `\n${Printable.json(value).slice(0, -1)},"attachments":[`
}

export const jsonAttachment = (info: Entry["attachments"][number], base64: string): string =>
  `${Printable.json({ name: info.name, mediaType: info.mediaType }).slice(0, -1)},"base64":"${base64}"}`

export const jsonEntryTail = "]}"
export const jsonTail = "\n]}\n"

/** A long text in pieces of at most `maxChars`, never between the halves of a surrogate pair. */
export const pieces = (text: string, maxChars: number): ReadonlyArray<string> => {
  const result: Array<string> = []
  for (let from = 0; from < text.length; ) {
    let to = Math.min(text.length, from + maxChars)
    const last = text.charCodeAt(to - 1)
    if (to < text.length && to - from > 1 && last >= 0xd800 && last <= 0xdbff) to--
    result.push(text.slice(from, to))
    from = to
  }
  return result
}
