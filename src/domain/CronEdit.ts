/**
 * Changes of CRON.md that leave alone what they need not touch: every other byte of the file stays. The result is read
 * again before it counts, and says what was meant or is refused: no value can smuggle in a second job.
 */
import * as Equal from "effect/Equal"
import * as Result from "effect/Result"
import type { FieldName } from "./CronFields.ts"
import * as CronFields from "./CronFields.ts"
import type { Line, Page, Section } from "./CronFile.ts"
import * as CronFile from "./CronFile.ts"
import {
  type Job,
  type JobChange,
  keyOf,
  maxJobs,
  maxTextChars,
  type NewJob,
  namePattern,
  type Problem
} from "./CronJob.ts"

/** See `CronError`, whose reasons these are. */
export interface Refusal {
  readonly reason: "NotFound" | "Exists" | "Invalid" | "BadFile" | "TooMany"
  readonly message: string
  readonly problems: ReadonlyArray<Problem>
}

const refuse = (reason: Refusal["reason"], message: string, problems: ReadonlyArray<Problem> = []) =>
  Result.fail<Refusal>({ reason, message, problems })

const notFound = (name: string) =>
  refuse("NotFound", `there is no job ${JSON.stringify(name)}: clawchat cron ls shows the jobs`)
const exists = (name: string) =>
  refuse("Exists", `there is a job ${JSON.stringify(name)} already: choose another name, or edit that one`)

/** Reads the file as it is; one with mistakes is not changed. */
const read = (text: string): Result.Result<Page, Refusal> => {
  const file = CronFile.parse(text)
  if (Result.isSuccess(file)) return Result.succeed(file.success)
  const [first] = file.failure
  const where = first === undefined ? "" : ` (line ${first.line}: ${first.message})`
  return refuse("BadFile", `CRON.md has mistakes${where}: correct them first, nothing was changed`, file.failure)
}

/** A job with its values trimmed as a file would give them back; what is wrong with one names it. */
export const check = (job: Job): Result.Result<Job, Refusal> => {
  const at = (name: string, problem: Problem) => refuse("Invalid", `${name}: ${problem.message}`, [problem])
  const name = job.name.normalize("NFC")
  if (!namePattern.test(name)) {
    const message = "write 1 to 59 letters, digits, spaces, dots, underscores and hyphens"
    return at("Name", { line: 1, column: 1, message })
  }
  const command = CronFields.trimCommand(job.command)
  if (command === "") return at("Command", { line: 1, column: 1, message: "it is empty: say what shall be done" })
  const lines = command.split("\n")
  const blank = lines.indexOf("")
  if (blank >= 0) {
    const message = "a command is one paragraph: put what follows the blank line into the context"
    return at("Command", { line: blank + 1, column: 1, message })
  }
  const context = job.context?.trim() ?? ""
  const checked: Job = { ...job, name, command, schedule: job.schedule.trim(), context }
  for (const field of CronFields.fieldNames) {
    const value = CronFields.write(checked, field)
    if (value === undefined) continue
    const taken = CronFields.take({}, field, value)
    if (Result.isFailure(taken)) return at(field, { line: 1, ...taken.failure })
    if (field !== "Command" && /[\r\n`]/.test(value)) {
      return at(field, { line: 1, column: 1, message: "it holds a backtick or the end of a line: leave that out" })
    }
  }
  if (context.length > maxTextChars) {
    return at("Context", { line: 1, column: maxTextChars, message: `at most ${maxTextChars} characters: shorten it` })
  }
  const [problem] = CronFile.checkText(context)
  if (problem !== undefined) return at("Context", problem)
  const { context: _, ...rest } = checked
  return Result.succeed(context === "" ? rest : { ...rest, context: context.split(/\r?\n/).join("\n") })
}

/** A new job with what it leaves open. */
export const complete = (job: NewJob): Job => ({
  ...changed({ name: job.name, schedule: job.schedule, command: job.command, enabled: true }, job)
})

const eolOf = (file: Page): string => file.lines.find((line) => line.eol !== "")?.eol ?? "\n"

const joined = (lines: ReadonlyArray<Line>): string => lines.map((line) => line.text + line.eol).join("")

/** Lines of a field; a command's further lines are indented, so that none of them can be anything else. */
const fieldLines = (before: string, value: string, after: string, eol: string): Array<Line> => {
  const [first = "", ...more] = value.split("\n")
  return [{ text: `${before}${first}${after}`, eol }, ...more.map((line) => ({ text: `  ${line}`, eol }))]
}

const sectionLines = (job: Job, eol: string): Array<Line> => {
  const lines: Array<Line> = [{ text: `## ${job.name}`, eol }]
  for (const name of CronFields.fieldNames) {
    const value = CronFields.write(job, name)
    if (value !== undefined) lines.push(...fieldLines(`**${name}**: `, value, "", eol))
  }
  if (job.context !== undefined) {
    lines.push({ text: "", eol }, ...job.context.split("\n").map((text) => ({ text, eol })))
  }
  return lines
}

/** The new text, if it says exactly this. */
const confirmed = (text: string, jobs: ReadonlyArray<Job>): Result.Result<string, Refusal> => {
  const file = CronFile.parse(text)
  const why = "the values cannot stand in CRON.md as they are; nothing was changed"
  if (Result.isFailure(file)) return refuse("Invalid", `${why}: ${file.failure[0]?.message ?? ""}`)
  const found = file.success.sections.map((section) => section.job)
  return Equal.equals(found, jobs) ? Result.succeed(text) : refuse("Invalid", `${why}: write them more plainly`)
}

const jobsOf = (file: Page): ReadonlyArray<Job> => file.sections.map((section) => section.job)

/** Appends sections: all of them or none. */
export const add = (text: string, jobs: ReadonlyArray<NewJob>): Result.Result<string, Refusal> => {
  const file = read(text)
  if (Result.isFailure(file)) return Result.fail(file.failure)
  const names = new Set([
    ...file.success.sections.map((section) => keyOf(section.job.name)),
    ...file.success.notes.map(keyOf)
  ])
  if (file.success.sections.length + jobs.length > maxJobs) {
    return refuse("TooMany", `there may be at most ${maxJobs} jobs: remove some first`)
  }
  const eol = eolOf(file.success)
  const lines = [...file.success.lines]
  const last = lines.at(-1)
  if (last !== undefined && last.eol === "") lines[lines.length - 1] = { ...last, eol }
  const added: Array<Job> = []
  for (const each of jobs) {
    const job = check(complete(each))
    if (Result.isFailure(job)) return Result.fail(job.failure)
    const key = keyOf(job.success.name)
    if (names.has(key)) return exists(job.success.name)
    names.add(key)
    if ((lines.at(-1)?.text ?? "").trim() !== "") lines.push({ text: "", eol })
    lines.push(...sectionLines(job.success, eol))
    added.push(job.success)
  }
  return confirmed(joined(lines), [...jobsOf(file.success), ...added])
}

/** Takes a section out, the comments in it stay. */
export const remove = (text: string, name: string): Result.Result<string, Refusal> => {
  const file = read(text)
  if (Result.isFailure(file)) return Result.fail(file.failure)
  const { lines } = file.success
  const section = CronFile.find(file.success, name)
  if (section === undefined) return notFound(name)
  const comments = section.comments.map((index) => lines[index] as Line)
  // The blank line that stood before it goes with the last section, as it came with it.
  const isLast = section.end === lines.length && comments.length === 0
  const above = lines[section.heading - 1]
  const from = isLast && above !== undefined && above.text.trim() === "" ? section.heading - 1 : section.heading
  const rest = [...lines.slice(0, from), ...comments, ...lines.slice(section.end)]
  return confirmed(
    joined(rest),
    jobsOf(file.success).filter((job) => job !== section.job)
  )
}

/** The job as the change makes it. */
export const changed = (job: Job, change: JobChange): Job => {
  const keys = ["timezone", "catchUp", "overlap", "timeoutMs", "tools", "context"] as const
  const { name = job.name, schedule = job.schedule, command = job.command, enabled = job.enabled } = change
  const next: { -readonly [K in keyof Job]: Job[K] } = { name, schedule, command, enabled }
  for (const key of keys) put(next, key, change[key] === undefined ? job[key] : (change[key] ?? undefined))
  return next
}

const put = <K extends keyof Job>(job: { -readonly [P in keyof Job]: Job[P] }, key: K, value: Job[K] | undefined) => {
  if (value !== undefined) job[key] = value
}

/** Replacements of spans of lines, kept apart from the file until all are known. */
class Patch {
  readonly #file: Page
  readonly #replaced = new Map<number, { readonly end: number; readonly lines: ReadonlyArray<Line> }>()
  readonly #inserted = new Map<number, Array<Line>>()

  constructor(file: Page) {
    this.#file = file
  }

  replace(start: number, end: number, lines: ReadonlyArray<Line>): void {
    this.#replaced.set(start, { end, lines })
  }

  /** Before the line `index`. */
  insert(index: number, lines: ReadonlyArray<Line>): void {
    this.#inserted.set(index, [...(this.#inserted.get(index) ?? []), ...lines])
  }

  text(eol: string): string {
    const { lines } = this.#file
    const result: Array<Line> = []
    for (let index = 0; index <= lines.length; ) {
      result.push(...(this.#inserted.get(index) ?? []))
      const replaced = this.#replaced.get(index)
      const line = lines[index]
      if (replaced !== undefined) result.push(...replaced.lines)
      else if (line !== undefined) result.push(line)
      index = replaced?.end ?? index + 1
    }
    // The line that had none may not be the last any more.
    return joined(result.map((line, at) => (line.eol === "" && at < result.length - 1 ? { ...line, eol } : line)))
  }
}

/** Whether a command stands right above, or above fields that stand there. */
const isBelowCommand = (section: Section, first: number): boolean => {
  for (const [name, span] of section.fields) {
    if (span.end === first) return name === "Command" || isBelowCommand(section, span.first)
  }
  return false
}

const editField = (patch: Patch, file: Page, section: Section, name: FieldName, value: string | undefined) => {
  const eol = eolOf(file)
  const span = section.fields.get(name)
  if (span === undefined) {
    if (value === undefined) return
    const spans = [...section.fields.values()]
    const last = Math.max(...spans.map((each) => each.end))
    const marker = /^\s*[-*+][ \t]+/.exec(spans[0]?.before ?? "")?.[0] ?? ""
    patch.insert(last, fieldLines(`${marker}**${name}**: `, value, "", eol))
    return
  }
  const lastEol = file.lines[span.end - 1]?.eol ?? eol
  if (value === undefined) {
    // Text that followed the line must not become part of a command above it.
    const next = file.lines[span.end]?.text ?? ""
    const isText = section.text.includes(span.end) && next.trim() !== ""
    const joins = isText && isBelowCommand(section, span.first)
    patch.replace(span.first, span.end, joins ? [{ text: "", eol: lastEol }] : [])
    return
  }
  const lines = fieldLines(span.before, value, span.after, eol)
  const tail = lines.at(-1)
  if (tail !== undefined) lines[lines.length - 1] = { ...tail, eol: lastEol }
  patch.replace(span.first, span.end, lines)
}

const editText = (patch: Patch, file: Page, section: Section, context: string | undefined) => {
  const eol = eolOf(file)
  const written = section.text.filter((index) => (file.lines[index]?.text ?? "").trim() !== "")
  const [first] = written
  const last = written.at(-1)
  if (first !== undefined && last !== undefined) {
    for (const index of section.text) if (index >= first && index <= last) patch.replace(index, index + 1, [])
  }
  if (context === undefined) return
  const end = Math.max(...[...section.fields.values()].map((each) => each.end))
  const lines = context.split("\n").map((text) => ({ text, eol }))
  const after = first !== undefined && first > end ? first : end
  const above = after > end ? [] : [{ text: "", eol }]
  const isBlankBelow = (file.lines[after]?.text ?? "").trim() === "" || after >= file.lines.length
  const below = after === end && !isBlankBelow ? [{ text: "", eol }] : []
  patch.insert(after, [...above, ...lines, ...below])
}

/** Changes a job in its place. */
export const edit = (text: string, name: string, change: JobChange): Result.Result<string, Refusal> => {
  const file = read(text)
  if (Result.isFailure(file)) return Result.fail(file.failure)
  const section = CronFile.find(file.success, name)
  if (section === undefined) return notFound(name)
  const { context: kept, ...bare } = changed(section.job, change)
  const job = check(change.context === undefined || kept === undefined ? bare : { ...bare, context: kept })
  if (Result.isFailure(job)) return Result.fail(job.failure)
  const next = change.context === undefined && kept !== undefined ? { ...job.success, context: kept } : job.success
  if (keyOf(next.name) !== keyOf(section.job.name)) {
    const twin = CronFile.find(file.success, next.name)?.job.name
    const note = file.success.notes.find((each) => keyOf(each) === keyOf(next.name))
    if (twin !== undefined || note !== undefined) return exists(next.name)
  }
  const patch = new Patch(file.success)
  if (next.name !== section.job.name) {
    const line = file.success.lines[section.heading] as Line
    const start = line.text.indexOf("#")
    const title = /^(#+[ \t]+)(.*?)([ \t]*(?:[ \t]#+)?[ \t]*)$/.exec(line.text.slice(start))
    const renamed = `${line.text.slice(0, start)}${title?.[1] ?? "## "}${next.name}${title?.[3] ?? ""}`
    patch.replace(section.heading, section.heading + 1, [{ ...line, text: renamed }])
  }
  for (const field of CronFields.fieldNames) {
    const before = CronFields.write(section.job, field)
    const after = CronFields.write(next, field)
    const isDefault = field === "Enabled" && next.enabled && !section.fields.has(field)
    if (before !== after && !isDefault) editField(patch, file.success, section, field, after)
  }
  if (next.context !== section.job.context) editText(patch, file.success, section, next.context)
  return confirmed(
    patch.text(eolOf(file.success)),
    jobsOf(file.success).map((each) => (each === section.job ? next : each))
  )
}
