/**
 * Patterns of paths, as shells have them, matched without a regular expression: time is bounded by the product of the
 * lengths of pattern and path, whatever the pattern.
 *
 *     *        any characters of one name          **       as a whole name: any number of folders, none included
 *     ?        one character                       {a,b}    either; may hold all of these, and slashes
 *     [a-z]    one of these, [!a-z] none of them   \x       x itself
 *
 * As in shells a leading dot is matched by a dot only, and `**` enters no folder whose name begins with one. Names and
 * patterns are compared in Unicode's form NFC: what a pattern finds is still the name on disk, byte for byte.
 */
import * as Result from "effect/Result"

/** Alternatives that braces may multiply to, and the characters that a pattern may have. */
const MAX_ALTERNATIVES = 256
const MAX_LENGTH = 4096

type Token =
  | { readonly _tag: "Char"; readonly char: string }
  | { readonly _tag: "Any" }
  | { readonly _tag: "Star" }
  | { readonly _tag: "Set"; readonly negated: boolean; readonly ranges: ReadonlyArray<readonly [number, number]> }

/** One component of a pattern; `Deep` is `**`. */
type Component =
  | { readonly _tag: "Deep" }
  | { readonly _tag: "Name"; readonly tokens: ReadonlyArray<Token>; readonly literal: string | undefined }

/** Where a path stands within each alternative: positions between components, ascending. Empty: no path below matches. */
export type State = ReadonlyArray<ReadonlyArray<number>>

const SPECIAL = /[*?[\]{}\\]/

/** Whether a text is a pattern rather than a plain path. */
export const isPattern = (text: string): boolean => SPECIAL.test(text)

/** A text as the pattern that matches nothing else. */
export const escape = (text: string): string => text.replace(/[*?[\]{},\\]/g, "\\$&")

/** The alternatives of a text with braces; those without a comma or a partner stand for themselves. */
const alternatives = (text: string): ReadonlyArray<string> | undefined => {
  let done: Array<string> = [""]
  for (let at = 0; at < text.length; ) {
    const char = text.charAt(at)
    if (char === "\\") {
      done = done.map((each) => each + text.slice(at, at + 2))
      at += 2
      continue
    }
    const group = char === "{" ? groupAt(text, at) : undefined
    if (group === undefined) {
      done = done.map((each) => each + char)
      at++
      continue
    }
    const inner: Array<string> = []
    for (const part of group.parts) {
      const expanded = alternatives(part)
      if (expanded === undefined) return undefined
      inner.push(...expanded)
      if (inner.length > MAX_ALTERNATIVES) return undefined
    }
    if (done.length * inner.length > MAX_ALTERNATIVES) return undefined
    done = done.flatMap((each) => inner.map((part) => each + part))
    at = group.end
  }
  return done
}

const groupAt = (text: string, start: number) => {
  const parts: Array<string> = []
  let depth = 0
  let from = start + 1
  for (let at = start; at < text.length; at++) {
    const char = text.charAt(at)
    if (char === "\\") at++
    else if (char === "{") depth++
    else if (char === "," && depth === 1) {
      parts.push(text.slice(from, at))
      from = at + 1
    } else if (char === "}" && --depth === 0) {
      if (parts.length === 0) return undefined
      parts.push(text.slice(from, at))
      return { parts, end: at + 1 }
    }
  }
  return undefined
}

const setAt = (chars: ReadonlyArray<string>, start: number) => {
  let at = start + 1
  const negated = chars[at] === "!" || chars[at] === "^"
  if (negated) at++
  const ranges: Array<readonly [number, number]> = []
  for (let isFirst = true; at < chars.length; isFirst = false) {
    if (chars[at] === "]" && !isFirst) return { token: { _tag: "Set", negated, ranges } as const, end: at + 1 }
    if (chars[at] === "\\") at++
    const low = chars[at]?.codePointAt(0)
    if (low === undefined) return undefined
    const upper = chars[at + 1] === "-" && chars[at + 2] !== "]" ? chars[at + 2]?.codePointAt(0) : undefined
    ranges.push([low, upper ?? low])
    at += upper === undefined ? 1 : 3
  }
  return undefined
}

const component = (text: string): Component | undefined => {
  if (text === "**") return { _tag: "Deep" }
  const chars = [...text]
  const tokens: Array<Token> = []
  for (let at = 0; at < chars.length; ) {
    const char = chars[at] ?? ""
    const set = char === "[" ? setAt(chars, at) : undefined
    if (set !== undefined) {
      tokens.push(set.token)
      at = set.end
    } else if (char === "*") {
      if (tokens.at(-1)?._tag !== "Star") tokens.push({ _tag: "Star" })
      at++
    } else if (char === "?") {
      tokens.push({ _tag: "Any" })
      at++
    } else if (char === "\\") {
      const next = chars[at + 1]
      if (next === undefined) return undefined
      tokens.push({ _tag: "Char", char: next })
      at += 2
    } else {
      tokens.push({ _tag: "Char", char })
      at++
    }
  }
  const isLiteral = tokens.every(({ _tag }) => _tag === "Char")
  return {
    _tag: "Name",
    tokens,
    // Others may be written in another form on disk.
    literal: isLiteral && /^[\x20-\x7e]*$/.test(text) ? tokens.map(charOf).join("") : undefined
  }
}

const charOf = (token: Token): string => (token._tag === "Char" ? token.char : "")

const isOne = (token: Token | undefined, char: string): boolean => {
  if (token === undefined) return false
  switch (token._tag) {
    case "Char":
      return token.char === char
    case "Any":
      return true
    case "Star":
      return false
    case "Set": {
      const code = char.codePointAt(0) ?? 0
      return token.ranges.some(([low, high]) => code >= low && code <= high) !== token.negated
    }
  }
}

const isNamed = (tokens: ReadonlyArray<Token>, name: string): boolean => {
  const chars = [...name]
  if (chars[0] === "." && !(tokens[0]?._tag === "Char" && tokens[0].char === ".")) return false
  let token = 0
  let at = 0
  // The last star and where it was tried: only the last one needs to give way.
  let star = -1
  let from = 0
  while (at < chars.length) {
    if (isOne(tokens[token], chars[at] ?? "")) {
      token++
      at++
    } else if (tokens[token]?._tag === "Star") {
      star = token++
      from = at
    } else if (star >= 0) {
      token = star + 1
      at = ++from
    } else return false
  }
  while (tokens[token]?._tag === "Star") token++
  return token === tokens.length
}

/** A pattern, compiled. */
export class Glob {
  readonly #alternatives: ReadonlyArray<ReadonlyArray<Component>>
  /** Before the first component. */
  readonly start: State

  constructor(parsed: ReadonlyArray<ReadonlyArray<Component>>) {
    this.#alternatives = parsed
    this.start = parsed.map((components) => closed(components, [0]))
  }

  /** After one more name of a path. */
  step(state: State, name: string): State {
    const normal = name.normalize("NFC")
    return this.#alternatives.map((components, index) => {
      const next: Array<number> = []
      for (const at of state[index] ?? []) {
        const part = components[at]
        if (part === undefined) continue
        if (part._tag === "Deep") {
          if (!normal.startsWith(".")) next.push(at)
        } else if (isNamed(part.tokens, normal)) next.push(at + 1)
      }
      return closed(components, next)
    })
  }

  /** Whether the path so far matches. */
  isFinal(state: State): boolean {
    return this.#alternatives.some((components, index) => state[index]?.includes(components.length) === true)
  }

  /** Whether no path below the one so far can match. */
  isDead(state: State): boolean {
    return this.#alternatives.every((components, index) => (state[index] ?? []).every((at) => at === components.length))
  }

  /** The names that can come next, where a list of the folder is not needed to know them. */
  literals(state: State): ReadonlyArray<string> | undefined {
    const names = new Set<string>()
    for (const [index, components] of this.#alternatives.entries()) {
      for (const at of state[index] ?? []) {
        const part = components[at]
        if (part === undefined) continue
        if (part._tag === "Deep" || part.literal === undefined) return undefined
        names.add(part.literal)
      }
    }
    return [...names]
  }

  /** Whether a whole path, by its names from the top, matches. */
  matches(path: ReadonlyArray<string>): boolean {
    let state = this.start
    for (const name of path) state = this.step(state, name)
    return this.isFinal(state)
  }
}

/** Where `**` stands it may stand for nothing. */
const closed = (components: ReadonlyArray<Component>, positions: ReadonlyArray<number>): ReadonlyArray<number> => {
  const all = new Set<number>()
  for (let at of positions) {
    all.add(at)
    while (components[at]?._tag === "Deep") all.add(++at)
  }
  return [...all].sort((a, b) => a - b)
}

/** Compiles a pattern; the fault is a sentence. Empty components and `.` vanish as in RemotePath; `..` is refused. */
export const parse = (pattern: string): Result.Result<Glob, string> => {
  if (pattern.length > MAX_LENGTH) return Result.fail(`the pattern is longer than ${MAX_LENGTH} characters`)
  const texts = alternatives(pattern.normalize("NFC"))
  if (texts === undefined) return Result.fail(`the braces of the pattern stand for more than ${MAX_ALTERNATIVES} paths`)
  const parsed: Array<ReadonlyArray<Component>> = []
  for (const text of texts) {
    const components: Array<Component> = []
    for (const part of text.split("/")) {
      if (part === "" || part === ".") continue
      const one = part === ".." ? undefined : component(part)
      if (one === undefined) return Result.fail(part === ".." ? '".." is not allowed' : "a backslash ends the pattern")
      if (one._tag === "Deep" && components.at(-1)?._tag === "Deep") continue
      components.push(one)
    }
    parsed.push(components)
  }
  return Result.succeed(new Glob(parsed))
}
