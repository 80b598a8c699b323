/** What a name that a source gives stands for, and what was likely meant by one that stands for nothing. */
import { type Entry, entries, variables } from "./Settings.ts"

const sections = new Set(entries.flatMap(({ key }) => key.split(".").map((_, i, all) => all.slice(0, i).join("."))))
const inYaml = new Map(
  entries.filter((entry) => entry.in !== "environment").map((entry) => [entry.key, entry] as const)
)
const secretKeys = new Map(
  entries.filter((entry) => entry.in === "environment").map((entry) => [entry.key, entry] as const)
)

/** What a dotted YAML key is; `""` is the whole file. */
export const lookUp = (key: string): "section" | Entry | undefined => (sections.has(key) ? "section" : inYaml.get(key))

/** The sentence for a YAML key that is none, with the likeliest meaning. */
export const unknownKey = (key: string): string => {
  const secret = secretKeys.get(key)
  if (secret !== undefined) return `secrets do not belong in this file; set ${secret.env} in a .env file`
  const end = key.lastIndexOf(".") + 1
  const section = key.slice(0, end)
  const last = key.slice(end)
  const names = [...inYaml.keys(), ...sections].filter((name) => name !== "")
  const siblings = names.filter((name) => name.startsWith(section)).map((name) => name.slice(end))
  const sibling = nearest(
    last,
    siblings.filter((name) => !name.includes("."))
  )
  const near = sibling === undefined ? names.find((name) => name.endsWith(`.${last}`)) : section + sibling
  return near === undefined ? "unknown key" : `unknown key; did you mean ${near}?`
}

/** The sentence for a `CLAWCHAT_` variable that is none. */
export const unknownVariable = (name: string): string => {
  const near = nearest(name, variables)
  return near === undefined ? "unknown setting" : `unknown setting; did you mean ${near}?`
}

/** The candidate that the fewest edits lead to, when they are few for its length. */
const nearest = (word: string, candidates: ReadonlyArray<string>): string | undefined => {
  let best: string | undefined
  let fewest = Math.min(3, Math.max(1, Math.floor(word.length / 3))) + 1
  for (const candidate of candidates) {
    const edits = distance(word.slice(0, 64).toLowerCase(), candidate.toLowerCase())
    if (edits < fewest) {
      best = candidate
      fewest = edits
    }
  }
  return best
}

/** Edits between two words, neighbours swapped counting one (optimal string alignment). */
const distance = (a: string, b: string): number => {
  let older: ReadonlyArray<number> = []
  let old: ReadonlyArray<number> = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      let edits = Math.min((old[j] as number) + 1, (row[j - 1] as number) + 1, (old[j - 1] as number) + same)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        edits = Math.min(edits, (older[j - 2] as number) + 1)
      }
      row.push(edits)
    }
    older = old
    old = row
  }
  return old[b.length] as number
}
