/**
 * CRON.md: scheduled work as a page that people write. A heading `## Name` begins a job, lines `**Field**: value` say when
 * and what, everything else is text that goes with the command. Fenced code is text, whatever it holds; HTML comments are nothing. Lines end as the file has it; columns count UTF-16 units from 1.
 */
import * as Result from "effect/Result"
import type { FieldName } from "./CronFields.ts"
import * as CronFields from "./CronFields.ts"
import { type Job, keyOf, maxJobs, maxTextChars, namePattern, type Problem } from "./CronJob.ts"

/** UTF-16 units of a file; a longer one is not read. */
const maxFileChars = 8 * 1024 * 1024
/** Mistakes that are told of at a time. */
const MAX_PROBLEMS = 20

/** A field as it stands: lines `first` up to, not including, `end`; of the first, what is before and after the value. */
export interface FieldSpan {
  readonly first: number
  readonly end: number
  readonly before: string
  readonly after: string
}

/** A job's place: its heading, the end of its section, its fields and the lines of its text, as indexes of `lines`. */
export interface Section {
  readonly job: Job
  readonly heading: number
  readonly end: number
  readonly fields: ReadonlyMap<FieldName, FieldSpan>
  readonly text: ReadonlyArray<number>
  /** Lines of comments. */
  readonly comments: ReadonlyArray<number>
}

export interface Line {
  readonly text: string
  /** How it ends: `\n`, `\r\n`, or nothing at the end of the file. */
  readonly eol: string
}

/** A file as it was read. */
export interface Page {
  readonly lines: ReadonlyArray<Line>
  /** The file's own zone. */
  readonly timezone: string | undefined
  readonly sections: ReadonlyArray<Section>
  /** Headings of the second level that are no jobs. */
  readonly notes: ReadonlyArray<string>
}

const splitLines = (text: string): ReadonlyArray<Line> => {
  const lines: Array<Line> = []
  for (let start = 0; start < text.length; ) {
    const feed = text.indexOf("\n", start)
    const end = feed < 0 ? text.length : feed
    const bare = feed > start && text[feed - 1] === "\r" ? feed - 1 : end
    lines.push({ text: text.slice(start, bare), eol: text.slice(bare, feed < 0 ? end : feed + 1) })
    start = feed < 0 ? end : feed + 1
  }
  return lines
}

/** `**Name**: value` or `**Name:** value`, as a line of its own or of a list. */
const FIELD = /^(?:[-*+][ \t]+)?\*\*([A-Za-z][A-Za-z -]{0,20}?)[ \t]*(?::\*\*|\*\*[ \t]*:)[ \t]*/
const HEADING = /^(#{1,2})(?:[ \t]|$)/
const COMMENT = /^ {0,3}<!--/
const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/

type Kind =
  | { readonly type: "text" | "blank" | "comment" }
  | { readonly type: "heading"; readonly level: number; readonly title: string; readonly column: number }
  | {
      readonly type: "field"
      readonly name: string
      readonly before: string
      readonly value: string
      readonly after: string
    }

/** What each line is, fences and comments taken into account. */
const classify = (lines: ReadonlyArray<Line>, problems: Array<Problem>): ReadonlyArray<Kind> => {
  const kinds: Array<Kind> = []
  let fence: { readonly mark: string; readonly line: number } | undefined
  let comment: number | undefined
  for (const [index, { text }] of lines.entries()) {
    const bare = index === 0 ? text.replace(/^\ufeff/, "") : text
    if (fence !== undefined) {
      const closing = FENCE.exec(bare)
      if (closing?.[1]?.startsWith(fence.mark) && closing[2]?.trim() === "") fence = undefined
      kinds.push({ type: "text" })
      continue
    }
    if (comment !== undefined) {
      if (bare.includes("-->")) comment = undefined
      kinds.push({ type: "comment" })
      continue
    }
    const opening = FENCE.exec(bare)
    if (opening !== null && !(opening[1]?.startsWith("`") && opening[2]?.includes("`"))) {
      fence = { mark: opening[1] ?? "", line: index }
      kinds.push({ type: "text" })
      continue
    }
    if (COMMENT.test(bare)) {
      if (!bare.slice(bare.indexOf("<!--") + 4).includes("-->")) comment = index
      kinds.push({ type: "comment" })
      continue
    }
    const shown = bare.trimEnd()
    const heading = HEADING.exec(shown)
    const field = FIELD.exec(shown)
    if (heading !== null) {
      const level = heading[1]?.length ?? 1
      const title = shown
        .slice(level)
        .replace(/[ \t]#+$/, "")
        .trim()
      kinds.push({ type: "heading", level, title, column: title === "" ? 1 : text.indexOf(title) + 1 })
    } else if (field !== null) {
      const before = text.length - bare.length + field[0].length
      const value = shown.slice(field[0].length)
      const after = text.slice(before + value.length)
      kinds.push({ type: "field", name: field[1] ?? "", before: text.slice(0, before), value, after })
    } else kinds.push({ type: shown === "" ? "blank" : "text" })
  }
  const open = fence?.line ?? comment
  if (open !== undefined) {
    const what = fence === undefined ? "comment" : "code fence"
    const close = fence === undefined ? "-->" : fence.mark
    problems.push({ line: open + 1, column: 1, message: `this ${what} is never closed: write ${close} below it` })
  }
  return kinds
}

/** What stands between two headings. */
interface Part {
  readonly draft: CronFields.Draft
  readonly fields: ReadonlyMap<FieldName, FieldSpan>
  readonly text: ReadonlyArray<number>
  readonly comments: ReadonlyArray<number>
  readonly end: number
}

/** One reading of a file. */
class Reader {
  readonly lines: ReadonlyArray<Line>
  readonly kinds: ReadonlyArray<Kind>
  readonly problems: Array<Problem> = []
  readonly sections: Array<Section> = []
  readonly notes: Array<string> = []
  readonly #known = new Map<string, number>()

  constructor(text: string) {
    this.lines = splitLines(text)
    this.kinds = classify(this.lines, this.problems)
  }

  report(line: number, column: number, message: string): void {
    this.problems.push({ line: line + 1, column, message })
  }

  #text(index: number): string {
    return this.lines[index]?.text ?? ""
  }

  /** Lines that go on a command: text up to a blank line, a field, a heading, a fence or a comment. */
  #continues(index: number): boolean {
    return this.kinds[index]?.type === "text" && !FENCE.test(this.#text(index))
  }

  /** Fields of the lines from `start` on, up to the next heading. */
  part(start: number): Part {
    const draft: CronFields.Draft = {}
    const fields = new Map<FieldName, FieldSpan>()
    const text: Array<number> = []
    const comments: Array<number> = []
    let index = start
    for (; index < this.lines.length; index++) {
      const kind = this.kinds[index]
      if (kind === undefined || kind.type === "heading") break
      const name = kind.type === "field" ? CronFields.meant(kind.name) : "unknown"
      if (kind.type !== "field" || name === "unknown" || name === "typo") {
        if (kind.type === "field" && name === "typo") {
          const column = this.#text(index).indexOf(kind.name) + 1
          this.report(index, column, `there is no field ${kind.name}: write one of ${CronFields.fieldNames.join(", ")}`)
        }
        ;(kind.type === "comment" ? comments : text).push(index)
        continue
      }
      const first = index
      let { after, before, value } = kind
      if (name === "Command") {
        while (this.#continues(index + 1)) value += `\n${this.#text(++index)}`
        value = CronFields.trimCommand(value)
      } else ({ after, before, value } = CronFields.unquote(value, before, after))
      if (fields.has(name)) {
        this.report(first, 1, `${name} is said twice: remove one of the two lines`)
        continue
      }
      fields.set(name, { first, end: index + 1, before, after })
      if (value === "") this.report(first, before.length + 1, `${name} has no value: write one, or remove the line`)
      else {
        const taken = CronFields.take(draft, name, value)
        if (Result.isFailure(taken)) {
          this.report(first, before.length + taken.failure.column, `${name}: ${taken.failure.message}`)
        }
      }
    }
    return { draft, fields, text, comments, end: index }
  }

  /** A heading of the second level and what is below it. */
  section(heading: number, title: string, column: number): number {
    const problemsBefore = this.problems.length
    const { comments, draft, end, fields, text } = this.part(heading + 1)
    if (fields.size === 0 && this.problems.length === problemsBefore) {
      this.notes.push(title)
      return end
    }
    const name = title.normalize("NFC")
    if (!namePattern.test(name)) {
      const rule = "a job's name is 1 to 59 letters, digits, spaces, dots, underscores and hyphens"
      this.report(heading, column, `${JSON.stringify(title)} is no job's name: ${rule}`)
    }
    const earlier = this.#known.get(keyOf(name))
    if (earlier === undefined) this.#known.set(keyOf(name), heading)
    else {
      const where = `line ${earlier + 1}`
      this.report(heading, column, `${JSON.stringify(name)} stands in ${where} already: give one of them another name`)
    }
    for (const needed of ["Schedule", "Command"] as const) {
      if (fields.has(needed)) continue
      const example = needed === "Schedule" ? "0 9 * * 1" : "what the assistant shall do"
      this.report(heading, column, `${JSON.stringify(name)} has no ${needed}: write **${needed}**: ${example}`)
    }
    const context = text
      .map((index) => this.#text(index))
      .join("\n")
      .trim()
    if (context.length > maxTextChars) {
      this.report(heading, column, `the text of a job has at most ${maxTextChars} characters: shorten it`)
    }
    const { command = "", enabled = true, schedule = "", ...others } = draft
    const job: Job = { name, enabled, schedule, command, ...others, ...(context === "" ? {} : { context }) }
    this.sections.push({ job, heading, end, fields, text, comments })
    return end
  }

  /** Everything: the part above the first job may hold the file's zone, and no other field. */
  file(): Page {
    let timezone: string | undefined
    for (let index = 0; index < this.lines.length; ) {
      const kind = this.kinds[index]
      if (kind?.type === "heading" && kind.level === 2) {
        index = this.section(index, kind.title, kind.column)
        continue
      }
      const isFront = this.sections.length === 0 && this.notes.length === 0
      const { draft, end, fields } = this.part(kind?.type === "heading" ? index + 1 : index)
      for (const [name, { first }] of fields) {
        if (!isFront) this.report(first, 1, `${name} belongs to no job: write a heading ## NAME above it`)
        else if (name !== "Timezone") {
          this.report(first, 1, `${name} stands above all jobs, where only Timezone may: write it below ## NAME`)
        } else if (timezone !== undefined) this.report(first, 1, "Timezone is said twice: remove one of the two lines")
        else timezone = draft.timezone
      }
      index = end
    }
    const over = this.sections[maxJobs]
    if (over !== undefined) this.report(over.heading, 1, `there are more than ${maxJobs} jobs: remove some`)
    return { lines: this.lines, timezone, sections: this.sections, notes: this.notes }
  }
}

/** Reads a file. All mistakes at once, the first twenty; one is enough to refuse the file. */
export const parse = (text: string): Result.Result<Page, ReadonlyArray<Problem>> => {
  if (text.length > maxFileChars) {
    const message = `the file has more than ${maxFileChars} characters: remove jobs`
    return Result.fail([{ line: 1, column: 1, message }])
  }
  const reader = new Reader(text)
  const file = reader.file()
  if (reader.problems.length === 0) return Result.succeed(file)
  const sorted = reader.problems.sort((a, b) => a.line - b.line || a.column - b.column)
  return Result.fail(sorted.slice(0, MAX_PROBLEMS))
}

/** What in a job's text would not stay text: headings, fields, fences and comments that are never closed. */
export const checkText = (text: string): ReadonlyArray<Problem> => {
  const problems: Array<Problem> = []
  const lines = splitLines(text)
  for (const [index, kind] of classify(lines, problems).entries()) {
    const line = index + 1
    if (kind.type === "heading") {
      problems.push({
        line,
        column: 1,
        message: "this is a heading, which would begin another job: write ### or indent it"
      })
    } else if (kind.type === "field" && CronFields.meant(kind.name) !== "unknown") {
      problems.push({ line, column: 1, message: `this is a field, ${kind.name}: indent it, or set the field instead` })
    } else if (kind.type === "comment") {
      problems.push({ line, column: 1, message: "this is a comment, which the assistant is not given: leave it out" })
    }
  }
  return problems
}

/** The section of a job, by its name. */
export const find = (file: Page, name: string): Section | undefined => {
  const key = keyOf(name)
  return file.sections.find((section) => keyOf(section.job.name) === key)
}
