/**
 * `.env` files: one `NAME=value` a line, `export` before it allowed, blank lines and lines that begin with `#` skipped.
 * - Bare values end at the line's end or at ` #`; blanks around them go.
 * - `'...'` is taken as it stands. `"..."` knows `\n`, `\t`, `\"` and `\\`; any other backslash stands for itself.
 * - Nothing is expanded, and no value goes over several lines.
 */

export interface Assignment {
  readonly name: string
  readonly value: string
  /** From 1. */
  readonly line: number
}

export interface Problem {
  readonly line: number
  readonly name?: string
  readonly message: string
}

const escapes: { readonly [letter: string]: string } = { n: "\n", t: "\t", '"': '"', "\\": "\\" }

const unquote = (text: string): string | undefined => {
  const quoted = /^'([^']*)'\s*(?:#.*)?$/.exec(text)
  if (quoted !== null) return quoted[1]
  const escaped = /^"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$/.exec(text)
  return escaped?.[1]?.replace(/\\(.)/g, (pair, letter: string) => escapes[letter] ?? pair)
}

/** Every assignment and every problem; messages never show a value. */
export const parse = (
  text: string
): { readonly assignments: ReadonlyArray<Assignment>; readonly problems: ReadonlyArray<Problem> } => {
  const assignments = new Map<string, Assignment>()
  const problems: Array<Problem> = []
  const lines = text.replace(/^\ufeff/, "").split(/\r\n|\n|\r/)
  for (const [index, raw] of lines.entries()) {
    const line = index + 1
    const trimmed = raw.trim()
    if (trimmed === "" || trimmed.startsWith("#")) continue
    const parts = /^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)$/s.exec(trimmed)
    const name = parts?.[1]
    const rest = parts?.[2]
    if (name === undefined || rest === undefined) {
      problems.push({ line, message: "expected NAME=value" })
      continue
    }
    const first = assignments.get(name)
    if (first !== undefined) {
      problems.push({ line, name, message: `already set in line ${first.line}` })
      continue
    }
    const isQuoted = rest.startsWith("'") || rest.startsWith('"')
    const value = isQuoted ? unquote(rest) : rest.replace(/(?:^|\s)#.*$/, "").trim()
    if (value === undefined) problems.push({ line, name, message: "the quote does not end at the end of the line" })
    else assignments.set(name, { name, value, line })
  }
  return { assignments: [...assignments.values()], problems }
}
