/** The words of memory: plain files, what changed in them and why, what is found in them. */
import * as Schema from "effect/Schema"
import * as Printable from "./Printable.ts"

/** Files that hold facts; the assistant may change them and the user can take it back. */
export const factFiles = ["MEMORY.md", "USER.md"] as const
/** Files that say who the assistant is: they change only by a proposal that the user approves. */
export const identityFiles = ["SOUL.md", "AGENTS.md"] as const

export const FactFile = Schema.Literals(factFiles)
export type FactFile = typeof FactFile.Type
export const IdentityFile = Schema.Literals(identityFiles)
export type IdentityFile = typeof IdentityFile.Type
export const MemoryFile = Schema.Literals([...factFiles, ...identityFiles])
export type MemoryFile = typeof MemoryFile.Type

/** Bytes of one file of memory, and of one day's log. */
export const maxFileBytes = 256 * 1024
export const maxLogBytes = 4 * 1024 * 1024
/** Characters of one note, and of one exchange's side in a daily log. */
export const maxNoteChars = 4000
const maxLoggedChars = 4000

/** `MEMORY.md`, or `memory/2026-01-31.md`. */
export const Source = Schema.String.check(
  Schema.isPattern(/^(?:(?:MEMORY|USER|SOUL|AGENTS)\.md|memory\/\d{4}-\d{2}-\d{2}\.md)$/, {
    message: "a source is MEMORY.md, USER.md, SOUL.md, AGENTS.md or memory/2026-01-31.md"
  })
)

/** The log of a day, `2026-01-31`. */
export const logOf = (day: string): string => `memory/${day}.md`

/** What caused a change. */
export const Cause = Schema.Struct({
  conversation: Schema.String,
  messageId: Schema.String,
  job: Schema.optionalKey(Schema.String)
})
export type Cause = typeof Cause.Type

/** One change of a file, as it is on record. */
export const Change = Schema.Struct({
  id: Schema.Natural,
  /** Milliseconds since 1970. */
  at: Schema.Finite,
  file: MemoryFile,
  /** `undo`: takes back the change `undoes`. */
  kind: Schema.Literals(["append", "edit", "write", "undo"]),
  /** The part that was replaced, and what stands in its place. */
  before: Schema.String,
  after: Schema.String,
  cause: Schema.optionalKey(Cause),
  /** The change that this one takes back. */
  undoes: Schema.optionalKey(Schema.Natural),
  /** It was taken back. */
  undone: Schema.Boolean
})
export type Change = typeof Change.Type

export const Hit = Schema.Struct({
  source: Schema.String,
  /** From 1. */
  line: Schema.Int,
  text: Schema.String,
  /** Greater is better (BM25, negated). */
  score: Schema.Finite
})
export type Hit = typeof Hit.Type

/** A note on one line; empty where there is nothing to be seen. What is no text would make the whole file none. */
export const plainNote = (text: string): string => Printable.line(text).replace(/\s+/g, " ").trim()

/** One note as a line of MEMORY.md: an item of a list. */
export const noteLine = (text: string): string => {
  const plain = plainNote(text)
  return /^[-*] /.test(plain) ? plain : `- ${plain}`
}

/** The text with a note at its end, and what was added. */
export const appended = (text: string, note: string): { readonly text: string; readonly added: string } => {
  const added = `${text === "" || text.endsWith("\n") ? "" : "\n"}${noteLine(note)}\n`
  return { text: text + added, added }
}

const occurrences = (text: string, part: string): number => {
  if (part === "") return 0
  let count = 0
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + part.length)) count++
  return count
}

/** Replaces the one place where `before` stands; undefined when it stands nowhere, or more than once. */
export const replaced = (text: string, before: string, after: string): string | undefined => {
  if (occurrences(text, before) !== 1) return undefined
  const at = text.indexOf(before)
  return text.slice(0, at) + after + text.slice(at + before.length)
}

/** The text without a change; undefined where it cannot be told apart any more. */
export const undone = (
  text: string,
  { after, before, kind }: Pick<Change, "after" | "before" | "kind">
): string | undefined => {
  if (kind === "write" || text === after) return text === after ? before : undefined
  if (after !== "") return replaced(text, after, before)
  // What was taken out goes back to the end: where it stood is not known any more.
  return `${text}${text === "" || text.endsWith("\n") ? "" : "\n"}${before}${before.endsWith("\n") ? "" : "\n"}`
}

const clipped = (text: string): string => {
  const plain = text.trim()
  return plain.length > maxLoggedChars ? `${plain.slice(0, maxLoggedChars)} [...]` : plain
}

/** What was said, quoted: headings and lists in it are not the log's own. */
const quoted = (text: string): string => Printable.clean(clipped(text)).replace(/^/gm, "> ")

/** Stands behind the heading of an exchange in which the assistant read what others may have written; no conversation is called so. */
const mark = "(read what others wrote)"

/** An exchange in a daily log. `time`: `13:37`. `tainted`: text that others may have written was before the model. */
export const logEntry = (exchange: {
  readonly time: string
  readonly conversation: string
  readonly question: string
  readonly answer: string
  readonly tainted?: boolean
}): string => {
  const heading = `## ${exchange.time} ${exchange.conversation}${exchange.tainted === true ? ` ${mark}` : ""}`
  return `${heading}\n\n**User**\n\n${quoted(exchange.question)}\n\n**Assistant**\n\n${quoted(exchange.answer)}\n\n`
}

/** A log's entries; what stands before the first is one too. */
export const logEntries = (log: string): ReadonlyArray<string> => log.split(/^(?=## \d\d:\d\d )/m)

/** The end of a log, of about `chars` characters, from the beginning of an entry on. */
export const logEnd = (log: string, chars: number): string =>
  log.length <= chars ? log : logEntries(log.slice(-chars)).slice(1).join("")

/** The day before on the calendar, of `2026-01-31`: not all days have 24 hours. */
export const dayBefore = (day: string): string =>
  new Date(Date.parse(`${day}T00:00:00Z`) - 24 * 3600_000).toISOString().slice(0, 10)

const leftOut = "[left out here, for it may repeat what others wrote: memory_search finds it]"

/**
 * A log as it may go with any question: an answer that may repeat what others wrote is left out, since beside the user's
 * own notes it would pass for one of them.
 */
export const ownWords = (log: string): string =>
  logEntries(log)
    .map((entry) => {
      const [heading = ""] = entry.split("\n", 1)
      if (!heading.startsWith("## ") || !heading.endsWith(mark)) return entry
      // What was said is quoted: this line is the log's own.
      const at = entry.indexOf("\n**Assistant**\n")
      return at === -1 ? `${heading}\n\n${leftOut}\n\n` : `${entry.slice(0, at)}\n**Assistant**\n\n${leftOut}\n\n`
    })
    .join("")

/** Scripts in which a reader, not a space, tells where a word ends. */
const UNSPACED = /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmr}\p{sc=Mymr}]+/gu

/** What of a search stands in such scripts, in pairs of characters, at most 16: an index of words finds none of them. */
export const unspacedPieces = (text: string): ReadonlyArray<string> => {
  const pieces = (text.match(UNSPACED) ?? []).flatMap((run) => {
    const characters = Array.from(run)
    if (characters.length < 3) return [run]
    return characters.slice(1).map((character, index) => `${characters[index]}${character}`)
  })
  return [...new Set(pieces)].slice(0, 16)
}

/** Whether a change that a crash cut off was made, as far as the file can tell. */
export const wasMade = (text: string, { after, before, kind }: Pick<Change, "after" | "before" | "kind">): boolean => {
  if (kind === "write") return text === after
  if (after === "") return !text.includes(before)
  return text.includes(after) && (before === "" || after.includes(before) || !text.includes(before))
}

/** A search of any characters as a query of FTS5: every word quoted, each found by its beginning; undefined where there is none. */
export const ftsQuery = (text: string): string | undefined => {
  const words = text.match(/[\p{L}\p{N}\p{M}_]+/gu)?.slice(0, 16)
  if (words === undefined) return undefined
  return words.map((word) => `"${word}"*`).join(" OR ")
}
