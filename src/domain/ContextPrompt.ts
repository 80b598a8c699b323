/** How context files become the system prompt. Pure: bytes in, text out. */
import type { ContextFile } from "./ChatRpc.ts"

/** In order of priority. */
export const fileNames = ["SOUL.md", "AGENTS.md", "USER.md", "MEMORY.md"] as const
export type FileName = (typeof fileNames)[number]

/** Bytes of one file that reach the prompt; about 8000 tokens of English. */
export const maxFileBytes = 32 * 1024

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

/** Joins the files in the order given, each under a heading line; truncation is stated in the text. */
export const join = (
  found: ReadonlyArray<Found>
): { readonly text: string; readonly files: ReadonlyArray<ContextFile> } => {
  const parts: Array<string> = []
  const files: Array<ContextFile> = []
  for (const file of found) {
    switch (file._tag) {
      case "Missing":
        files.push({ name: file.name, bytes: 0, state: "missing" })
        break
      case "Ignored":
        files.push({ name: file.name, bytes: file.bytes, state: "ignored", note: file.note })
        break
      case "Text": {
        files.push({ name: file.name, bytes: file.bytes, state: file.cut ? "truncated" : "used" })
        const note = file.cut ? `\n[truncated: the first ${maxFileBytes} of ${file.bytes} bytes]` : ""
        parts.push(`===== ${file.name} =====\n${file.text.trim()}${note}`)
      }
    }
  }
  return { text: parts.join("\n\n"), files }
}
