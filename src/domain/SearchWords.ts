/** What a person types to find a message, as words to look for: none of its characters has a meaning of its own. */
import * as Printable from "./Printable.ts"

export interface Query {
  /** Found where a word begins with them. */
  readonly beginnings: ReadonlyArray<string>
  /** Found anywhere: scripts that put no spaces, and what is made of signs. */
  readonly pieces: ReadonlyArray<string>
}

/** Scripts in which a reader, not a space, tells where a word ends. */
const unspaced = /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Hang}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmr}\p{sc=Mymr}\p{sc=Tibt}]/u
const wordy = /[\p{L}\p{N}]/u
const marks = /\p{M}+/gu

/** Words beyond `maxWords` do not count; `undefined` where there is none. */
export const parse = (text: string, maxWords: number): Query | undefined => {
  const beginnings: Array<string> = []
  const pieces: Array<string> = []
  const words = text.toWellFormed().split(/[\s\p{C}]+/u)
  for (const word of words.filter((each) => each !== "").slice(0, maxWords)) {
    if (wordy.test(word) && !unspaced.test(word)) beginnings.push(word)
    else pieces.push(word)
  }
  return beginnings.length + pieces.length === 0 ? undefined : { beginnings, pieces }
}

/** Without case and accents; decomposed first, so that what is left keeps its order. */
const fold = (text: string): string => text.toLowerCase().normalize("NFD").replace(marks, "")

/** Where the first of the words stands in a folded text; 0 where the index and this file do not agree. */
const find = (folded: string, { beginnings: [word], pieces: [piece] }: Query): number => {
  if (word === undefined) return Math.max(0, folded.indexOf(fold(piece ?? "")))
  const wanted = fold(word)
  let at = folded.indexOf(wanted)
  while (at > 0 && wordy.test(folded.charAt(at - 1))) at = folded.indexOf(wanted, at + 1)
  return Math.max(0, at)
}

/** The place in a decomposed text that is `at` without its marks. */
const unfold = (plain: string, at: number): number => {
  let removed = 0
  for (const { 0: mark, index } of plain.matchAll(marks)) {
    if (index - removed >= at) break
    removed += mark.length
  }
  return at + removed
}

/** Characters before what was found. */
const lead = 60

/** At most `maxChars` characters around the first of the words, on one line. */
export const excerpt = (text: string, query: Query, maxChars: number): string => {
  const plain = text.normalize("NFD")
  const at = unfold(plain, find(fold(text), query))
  const from = at <= lead ? 0 : at - lead
  const shown = Printable.line(
    plain
      .slice(from, from + maxChars)
      .toWellFormed()
      .normalize("NFC")
  )
  // The ellipses count too.
  const cut = shown.slice(0, maxChars - 2).toWellFormed()
  const more = cut.length < shown.length || from + maxChars < plain.length
  return `${from > 0 ? "…" : ""}${cut}${more ? "…" : ""}`
}
