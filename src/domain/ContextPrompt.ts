/** How context files become the system prompt. Pure: bytes in, text out. */
import type { ContextFile } from "./ChatRpc.ts"
import * as Tokens from "./Tokens.ts"

/** In order of priority. */
export const fileNames = ["SOUL.md", "AGENTS.md", "USER.md", "MEMORY.md"] as const
export type FileName = (typeof fileNames)[number]

/** Bytes of one file that are read; its budget of tokens is far below. */
export const maxFileBytes = 256 * 1024

/** What a file counts for, and the tokens (by estimate) that it may have. MEMORY.md is cut at its start, for it grows at its end. */
export interface Place {
  readonly priority: number
  readonly budget: number
  readonly keep: "start" | "end"
}

export type Places = { readonly [name in FileName]: Place }

export const defaultPlaces: Places = {
  "SOUL.md": { priority: 100, budget: 500, keep: "start" },
  "AGENTS.md": { priority: 90, budget: 1000, keep: "start" },
  "USER.md": { priority: 80, budget: 500, keep: "start" },
  "MEMORY.md": { priority: 70, budget: 1000, keep: "end" }
}

/** One file as it was found. */
export type Found =
  | {
      readonly _tag: "Text"
      readonly name: string
      readonly text: string
      readonly bytes: number
      readonly cut: boolean
    }
  | { readonly _tag: "Missing"; readonly name: string }
  | { readonly _tag: "Ignored"; readonly name: string; readonly bytes: number; readonly note: string }

const utf8 = new TextDecoder("utf-8", { fatal: true })

/** The length of `bytes` without a UTF-8 sequence cut off at the end. */
const wholeLength = (bytes: Uint8Array): number => {
  let start = bytes.length
  // A sequence is at most four bytes: step back over its continuation bytes to the one that leads it.
  while (start > 0 && bytes.length - start < 3 && ((bytes[start - 1] as number) & 0xc0) === 0x80) start--
  if (start === 0) return bytes.length
  const lead = bytes[start - 1] as number
  const needed = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1
  return bytes.length - (start - 1) < needed ? start - 1 : bytes.length
}

/**
 * Decodes a file of which at least the first `maxFileBytes + 1` bytes were read (fewer when it is shorter); `size` is
 * the whole file's. What is not UTF-8, or holds NUL, is ignored with a note.
 */
export const fromBytes = (name: string, bytes: Uint8Array, size = bytes.length): Found => {
  const cut = bytes.length > maxFileBytes
  const head = cut ? bytes.subarray(0, maxFileBytes) : bytes
  try {
    const text = utf8.decode(cut ? head.subarray(0, wholeLength(head)) : head)
    if (text.includes("\u0000")) return { _tag: "Ignored", name, bytes: size, note: "holds NUL bytes; it is not text" }
    return { _tag: "Text", name, text, bytes: size, cut }
  } catch {
    return { _tag: "Ignored", name, bytes: size, note: "is not UTF-8 text" }
  }
}

/** Whole lines of a text within a budget, from its start or its end; half a line where even one is too long. */
const within = (text: string, budget: number, keep: "start" | "end"): string => {
  if (Tokens.estimate(text) <= budget) return text
  const lines = text.split("\n")
  if (keep === "end") lines.reverse()
  const kept: Array<string> = []
  let left = budget
  for (const line of lines) {
    const cost = Tokens.estimate(`${line}\n`)
    if (cost > left) break
    left -= cost
    kept.push(line)
  }
  if (kept.length === 0) {
    const characters = Array.from(lines[0] ?? "")
    const part = (length: number): string =>
      (keep === "end" ? characters.slice(characters.length - length) : characters.slice(0, length)).join("")
    let length = characters.length
    while (length > 0 && Tokens.estimate(part(length)) > budget) length = Math.floor(length * 0.8)
    return part(length)
  }
  return (keep === "end" ? kept.reverse() : kept).join("\n")
}

/**
 * Joins the files in order of priority, each under a heading line and within its budget; truncation is stated in the text.
 * The same files give the same text, byte for byte.
 */
export const join = (
  found: ReadonlyArray<Found>,
  places: Places = defaultPlaces
): { readonly text: string; readonly files: ReadonlyArray<ContextFile> } => {
  const parts: Array<string> = []
  const files: Array<ContextFile> = []
  const placeOf = (name: string): Place | undefined =>
    fileNames.map((each) => [each, places[each]] as const).find(([each]) => each === name)?.[1]
  const ordered = found.toSorted((a, b) => (placeOf(b.name)?.priority ?? 0) - (placeOf(a.name)?.priority ?? 0))
  for (const file of ordered) {
    const place = placeOf(file.name)
    const budget = place === undefined ? {} : { budget: place.budget }
    switch (file._tag) {
      case "Missing":
        files.push({ name: file.name, bytes: 0, state: "missing", ...budget })
        break
      case "Ignored":
        files.push({ name: file.name, bytes: file.bytes, state: "ignored", note: file.note, ...budget })
        break
      case "Text": {
        const whole = file.text.trim()
        const text = within(whole, place?.budget ?? Number.POSITIVE_INFINITY, place?.keep ?? "start")
        const cut = file.cut || text.length < whole.length
        const tokens = Tokens.estimate(text)
        files.push({ name: file.name, bytes: file.bytes, state: cut ? "truncated" : "used", tokens, ...budget })
        const bytes = new TextEncoder().encode(text).length
        const part = place?.keep === "end" ? "last" : "first"
        const note = cut ? `[truncated: the ${part} ${bytes} of ${file.bytes} bytes]` : ""
        const body = note === "" ? text : place?.keep === "end" ? `${note}\n${text}` : `${text}\n${note}`
        parts.push(`===== ${file.name} =====\n${body}`)
      }
    }
  }
  return { text: parts.join("\n\n"), files }
}
