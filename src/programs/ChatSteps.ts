/** What happens on the way to an answer, in words: calls, queues, notices, and calls that wait for a decision. Pure. */
import type { Decision } from "../domain/ChatRpc.ts"
import * as Printable from "../domain/Printable.ts"
import * as Untrusted from "../domain/Untrusted.ts"
import type { StepEvent } from "./Ask.ts"

export type Approval = Extract<StepEvent, { readonly _tag: "Approval" }>

/** Lines and characters of what a call would do that are shown unasked. */
const DETAIL_LINES = 24
const DETAIL_CHARS = 2000
/** Characters of a failed call's result, of a summary, and of a question in a line. */
const WHY_CHARS = 160
const SUMMARY_CHARS = 200

/** One line of at most so many characters. */
export const short = (text: string, chars: number): string => {
  const whole = Printable.line(text)
  return whole.length > chars ? `${whole.slice(0, chars - 1)}\u2026` : whole
}

const why = (preview: string): string => {
  const [first = ""] = Untrusted.unmarked(preview)
    .split("\n")
    .filter((line) => line.trim() !== "" && !/^\[[0-9a-f]{16}: /.test(line))
  return short(first, WHY_CHARS)
}

/** One line; undefined for what is said in another way. */
export const line = (event: StepEvent): string | undefined => {
  switch (event._tag) {
    case "Asked":
    case "Approval":
      return undefined
    case "Queued":
      return event.ahead === 1 ? "waits for the answer before it" : `waits for ${event.ahead} answers before it`
    case "Calling":
      return `\u00b7 ${short(event.summary, SUMMARY_CHARS)}`
    case "Called": {
      const reason = event.failed ? why(event.preview) : ""
      return event.failed ? `  failed${reason === "" ? "" : `: ${reason}`}` : "  ok"
    }
    case "Decided":
      if (event.by === "timeout") return "  nobody decided in time: denied"
      return event.by === "user" && event.decision === "deny" ? "  denied" : undefined
    case "Notice":
      return Printable.line(event.text)
  }
}

export interface Described {
  /** Lines: what would be done. */
  readonly text: string
  /** Not all of it is shown. */
  readonly isCut: boolean
}

const indented = (text: string): string => text.replace(/^/gm, "  ")

/** A call that waits, with all that it would do as far as that is not too long. */
export const approval = ({ detail, summary, tool }: Approval): Described => {
  const head = `${short(tool, SUMMARY_CHARS)} waits for you: ${short(summary, SUMMARY_CHARS)}`
  const whole = Printable.clean(detail).trimEnd()
  if (whole === "" || Printable.line(whole) === Printable.line(summary)) return { text: head, isCut: false }
  const lines = whole.split("\n")
  const shown = lines.slice(0, DETAIL_LINES).join("\n").slice(0, DETAIL_CHARS)
  if (shown.length === whole.length) return { text: `${head}\n${indented(whole)}`, isCut: false }
  const left = `  \u2026 ${whole.length - shown.length} of ${whole.length} characters are not shown: v shows all`
  return { text: `${head}\n${indented(shown)}\n${left}`, isCut: true }
}

/** All that a call would do. */
export const detail = (event: Approval): string => indented(Printable.clean(event.detail).trimEnd())

const WORDS: { readonly [D in Decision]: string } = { once: "[o]nce", conversation: "[c]onversation", deny: "[d]eny" }

/** "allow? [o]nce, [c]onversation, [d]eny". */
export const question = ({ decisions }: Approval, isCut = false): string =>
  `allow? ${[...decisions.map((each) => WORDS[each]), ...(isCut ? ["[v]iew"] : [])].join(", ")}`

const MEANT: { readonly [word: string]: Decision } = {
  o: "once",
  once: "once",
  y: "once",
  yes: "once",
  c: "conversation",
  conversation: "conversation",
  d: "deny",
  deny: "deny",
  n: "deny",
  no: "deny"
}

/** What a typed line means while a call waits; undefined for what is no decision at all. */
export const decision = (text: string): Decision | "view" | undefined => {
  const word = text.trim().toLowerCase()
  return word === "v" || word === "view" ? "view" : Object.hasOwn(MEANT, word) ? MEANT[word] : undefined
}
