/**
 * Calls of tools put together from the pieces in which a provider streams them. Servers that only say they speak OpenAI's
 * protocol leave out ids or indexes, number all calls 0, send a call whole, and send it twice.
 */
import type { ToolCall } from "../domain/Llm.ts"

/** Calls in one answer, and characters of all their arguments; more is no answer. */
const maxCalls = 128
const maxChars = 1024 * 1024

/** A piece as it came; nothing in it can be relied on. */
export interface Piece {
  readonly index: unknown
  readonly id: unknown
  readonly name: unknown
  readonly arguments: unknown
}

interface Draft {
  id: string
  name: string
  arguments: string
}

const text = (value: unknown): string => (typeof value === "string" ? value : "")

const isWhole = (json: string): boolean => {
  if (!json.endsWith("}")) return false
  try {
    return typeof JSON.parse(json) === "object"
  } catch {
    return false
  }
}

export class Calls {
  readonly #drafts: Array<Draft> = []
  readonly #byIndex = new Map<number, Draft>()
  #chars = 0

  /** Throws when there are more than any answer holds. */
  add(piece: Piece): void {
    const id = text(piece.id)
    const name = text(piece.name)
    // Some servers send the arguments as the object that they are.
    const json =
      typeof piece.arguments === "object" && piece.arguments !== null
        ? JSON.stringify(piece.arguments)
        : text(piece.arguments)
    const index = typeof piece.index === "number" ? piece.index : undefined
    const draft = this.#draftOf(index, id, name, json)
    if (draft === undefined) return
    this.#chars += json.length
    if (this.#chars > maxChars) throw new Error("too long")
    if (draft.id === "") draft.id = id
    // Some send the name anew with each piece, some in pieces.
    if (name !== draft.name) draft.name += name
    draft.arguments += json
  }

  /** Where the piece belongs; nowhere when it repeats a call that is whole. */
  #draftOf(index: number | undefined, id: string, name: string, json: string): Draft | undefined {
    const known =
      index !== undefined
        ? this.#byIndex.get(index)
        : id !== ""
          ? this.#drafts.find((draft) => draft.id === id)
          : this.#drafts.at(-1)
    if (known === undefined) return this.#start(index)
    if (id !== "" && known.id !== "" && id !== known.id) {
      const other = this.#drafts.find((draft) => draft.id === id)
      if (other === undefined) return this.#start(index)
      return other.arguments === json && isWhole(json) ? undefined : other
    }
    if (name !== "" && json !== "" && isWhole(known.arguments)) {
      const again = name === known.name && json === known.arguments && id === known.id && id !== ""
      return again ? undefined : this.#start(index)
    }
    return known
  }

  #start(index: number | undefined): Draft {
    if (this.#drafts.length >= maxCalls) throw new Error("too many")
    const draft: Draft = { id: "", name: "", arguments: "" }
    this.#drafts.push(draft)
    if (index !== undefined) this.#byIndex.set(index, draft)
    return draft
  }

  get size(): number {
    return this.#drafts.length
  }

  /** In the order in which they began, each once, each with an id of its own. */
  end(): ReadonlyArray<ToolCall> {
    return once(this.#drafts)
  }
}

/** A call that repeats an earlier one's id with the same content is that call; ids that are taken or missing are made. */
export const once = (calls: ReadonlyArray<ToolCall>): ReadonlyArray<ToolCall> => {
  const result: Array<ToolCall> = []
  const ids = new Set<string>()
  for (const call of calls) {
    if (call.name === "" && call.arguments === "" && call.id === "") continue
    const same = (other: ToolCall) =>
      call.id !== "" && other.id === call.id && other.name === call.name && other.arguments === call.arguments
    if (calls.slice(0, calls.indexOf(call)).some(same)) continue
    let id = call.id
    for (let n = result.length + 1; id === "" || ids.has(id); n++) id = `${call.id === "" ? "call" : call.id}_${n}`
    ids.add(id)
    result.push({ id, name: call.name, arguments: call.arguments })
  }
  return result
}
