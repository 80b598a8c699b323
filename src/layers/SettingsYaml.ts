/**
 * YAML settings as located text. YAML 1.2, core schema; one document, a map of sections. Refused: tags, anchors, aliases,
 * merge keys, duplicate keys, lists, deep nesting. The parser is loaded when there is a file to read.
 */
import type { Node, Pair } from "yaml"
import { shown } from "../domain/GivenSettings.ts"
import * as SettingNames from "../domain/SettingNames.ts"

export interface Value {
  readonly key: string
  readonly text: string
  readonly line: number
}

const MAX_SYNTAX_ERRORS = 5

const syntaxWords: { readonly [code: string]: string } = {
  TAB_AS_INDENT: "a tab indents this line; use spaces",
  MULTIPLE_DOCS: "a second document begins; only one is read",
  RESOURCE_EXHAUSTION: "nested too deeply"
}

/** Values in the order of the file; problems as whole lines that begin with `label`. */
export const parse = async (
  text: string,
  label: string
): Promise<{ readonly values: ReadonlyArray<Value>; readonly problems: ReadonlyArray<string> }> => {
  const { LineCounter, isAlias, isMap, isNode, isScalar, parseDocument } = await import("yaml")
  const lines = new LineCounter()
  const document = parseDocument(text, {
    version: "1.2",
    schema: "core",
    merge: false,
    strict: true,
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: "error",
    lineCounter: lines
  })
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset)
    return `${label}:${line}:${col}`
  }
  if (document.errors.length > 0) {
    const shown = document.errors.slice(0, MAX_SYNTAX_ERRORS)
    const problems = shown.map(
      ({ code, message, pos }) => `${at(pos[0])}: ${syntaxWords[code] ?? message.split("\n")[0]}`
    )
    return { values: [], problems: [...new Set(problems)] }
  }

  const values: Array<Value> = []
  const problems: Array<string> = []
  const offsetOf = (node: Node): number => node.range?.[0] ?? 0
  const lineOf = (node: Node): number => lines.linePos(offsetOf(node)).line

  /** What is refused wherever it stands. */
  const isForeign = (node: Node, key: string): boolean => {
    const prefix = `${at(offsetOf(node))}: ${key === "" ? "" : `${key}: `}`
    if (isAlias(node) || node.anchor !== undefined) problems.push(`${prefix}anchors and aliases are not read`)
    else if (node.tag !== undefined) problems.push(`${prefix}tags are not read`)
    else return false
    return true
  }

  const walkPair = (pair: Pair, section: string, seen: Map<string, number>): void => {
    const name = pair.key
    if (!isScalar(name)) {
      if (isNode(name)) problems.push(`${at(offsetOf(name))}: expected a plain key`)
      return
    }
    if (isForeign(name, section)) return
    const word = typeof name.value === "string" ? name.value : (name.source ?? "")
    const key = section === "" ? word : `${section}.${word}`
    const shownKey = /^[\w.-]{1,80}$/.test(key) ? key : shown(key)
    const line = lineOf(name)
    const first = seen.get(word)
    if (first !== undefined) {
      problems.push(`${at(offsetOf(name))}: ${shownKey}: already given in line ${first}`)
      return
    }
    seen.set(word, line)
    const found = SettingNames.lookUp(key)
    const value = pair.value
    if (word === "" || found === undefined)
      problems.push(`${label}:${line}: ${shownKey}: ${SettingNames.unknownKey(key)}`)
    else if (!isNode(value) || isForeign(value, key)) return
    else if (found === "section") walkSection(value, key, line)
    else if (isScalar(value)) {
      if (value.value !== null) {
        values.push({
          key,
          line,
          text: typeof value.value === "string" ? value.value : (value.source ?? String(value.value))
        })
      }
    } else {
      const what = isMap(value) ? "a section" : "a list"
      problems.push(`${label}:${line}: ${key}: expected ${found.kind.expected}, got ${what}`)
    }
  }

  const walkSection = (node: Node, section: string, line: number): void => {
    if (isMap(node)) {
      const seen = new Map<string, number>()
      for (const pair of node.items) walkPair(pair, section, seen)
    } else if (!(isScalar(node) && node.value === null)) {
      const what = isScalar(node) ? shown(String(node.source ?? node.value)) : "a list"
      const prefix = section === "" ? `${label}:${line}: ` : `${label}:${line}: ${section}: `
      problems.push(`${prefix}expected keys and values below it, got ${what}`)
    }
  }

  const root = document.contents
  if (root !== null && !isForeign(root, "")) walkSection(root, "", lineOf(root))
  return { values, problems }
}
