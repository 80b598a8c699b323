/** Memory in words for people: what was found, what was changed. Pure; what comes from elsewhere is cleaned. */
import type { Change, Hit } from "./Memory.ts"
import * as Printable from "./Printable.ts"
import { minute } from "./TextTable.ts"

/** Lines of one side of a change that are shown. */
const SIDE_LINES = 20

const side = (sign: "-" | "+", text: string): ReadonlyArray<string> => {
  const plain = Printable.clean(text).replace(/^\n+|\n+$/g, "")
  if (plain === "") return []
  const lines = plain.split("\n")
  const left = lines.length - SIDE_LINES
  const more = left <= 0 ? [] : [`    \u2026 ${left} lines more`]
  return [...lines.slice(0, SIDE_LINES).map((line) => `  ${sign} ${line}`), ...more]
}

const cause = ({ cause: by, undoes }: Change): string => {
  if (undoes !== undefined) return `, takes back ${undoes}`
  if (by === undefined || by.messageId === "") return ", by hand"
  return Printable.line(by.job === undefined ? `, in "${by.conversation}"` : `, by the job "${by.job}"`)
}

/** A change as a small diff. */
export const change = (of: Change): string => {
  const head = `${of.id}  ${minute(of.at)} UTC  ${of.kind} ${of.file}${cause(of)}${of.undone ? " (taken back)" : ""}`
  return [head, ...side("-", of.before), ...side("+", of.after)].join("\n")
}

/** "MEMORY.md:12: text", one a line, best first. */
export const hits = (list: ReadonlyArray<Hit>): string =>
  list.map(({ line, source, text }) => Printable.line(`${source}:${line}: ${text}`)).join("\n")
