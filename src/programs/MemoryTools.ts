/** Tools on memory: notes are taken and corrected, and every change can be taken back; who the assistant is needs the user. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { FactFile, type Hit, IdentityFile, maxFileBytes, maxNoteChars, plainNote, Source } from "../domain/Memory.ts"
import * as Printable from "../domain/Printable.ts"
import type { MemoryError, MemoryStore } from "../services/MemoryStore.ts"
import * as Tool from "./Tool.ts"

/** Hits of one search, and lines of one reading. */
const MAX_HITS = 50
const MAX_LINES = 400

const fail = (error: MemoryError) => new Tool.ToolError({ message: error.message })

/** Hits with where they stand, which is how they are cited. */
const hitLines = (hits: ReadonlyArray<Hit>): string =>
  hits.map(({ line, source, text }) => `${source}:${line}: ${Printable.line(text.trim())}`).join("\n")

const factFile = Schema.optionalKey(FactFile).annotate({
  description: "MEMORY.md (the default) for facts, USER.md for who the user is and what they like"
})

export const make = (memory: MemoryStore["Service"]): ReadonlyArray<Tool.Tool> => [
  Tool.make({
    name: "memory_append",
    description:
      "Keeps one lasting fact for all later conversations. Call it when the user tells you to remember something, and for what they say about themselves that will matter again.",
    input: Schema.Struct({
      text: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(maxNoteChars)).annotate({
        description: "one line, complete in itself, with dates in full"
      }),
      file: factFile
    }),
    prepare: Effect.fnUntraced(function* ({ file = "MEMORY.md", text }, caller) {
      if (plainNote(text) === "") return yield* new Tool.ToolError({ message: "there is nothing in this note" })
      return {
        summary: `note in ${file}: ${Printable.line(text).slice(0, 100)}`,
        detail: `${file}\n+ ${Printable.clean(text)}`,
        risk: "guarded" as const,
        run: Effect.map(Effect.mapError(memory.append(file, text, caller), fail), (change) =>
          change === undefined
            ? `that stands in ${file} already`
            : `noted in ${file}; clawchat memory undo ${change.id} takes it back`
        )
      }
    })
  }),
  Tool.make({
    name: "memory_edit",
    description: "Corrects what stands in MEMORY.md or USER.md, or takes it out.",
    input: Schema.Struct({
      old: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(maxNoteChars)).annotate({
        description: "the text as it stands there, to the letter; it must stand there once"
      }),
      new: Schema.String.check(Schema.isMaxLength(maxNoteChars)).annotate({
        description: "what is to stand there; empty to take it out"
      }),
      file: factFile
    }),
    prepare: ({ file = "MEMORY.md", new: after, old }, caller) =>
      Effect.succeed({
        summary: `change ${file}: ${Printable.line(old).slice(0, 50)} -> ${Printable.line(after).slice(0, 50)}`,
        detail: `${file}\n- ${Printable.clean(old)}\n+ ${Printable.clean(after)}`,
        risk: "guarded",
        run: Effect.map(
          Effect.mapError(memory.edit(file, old, after, caller), fail),
          ({ id }) => `changed in ${file}; clawchat memory undo ${id} takes it back`
        )
      })
  }),
  Tool.make({
    name: "memory_search",
    description:
      "Searches memory and the daily logs of all conversations for words, the best hits first, each as source:line: text. Say the source when you use one.",
    untrusted: true,
    input: Schema.Struct({
      query: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(1000)).annotate({
        description: "a few words that stand in what is looked for"
      }),
      limit: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: MAX_HITS }))).annotate({
        description: "default 20"
      })
    }),
    prepare: ({ limit = 20, query }) =>
      Effect.succeed({
        summary: `search memory for ${Printable.line(query).slice(0, 100)}`,
        detail: Printable.line(query),
        risk: "free",
        run: Effect.map(Effect.mapError(memory.search(query, limit), fail), (hits) =>
          hits.length === 0 ? "nothing in memory or the logs" : hitLines(hits)
        )
      })
  }),
  Tool.make({
    name: "memory_get",
    description: "Reads lines of a file of memory or of a day's log, such as those around a hit of memory_search.",
    untrusted: true,
    input: Schema.Struct({
      source: Source.annotate({
        description: "MEMORY.md, USER.md, SOUL.md, AGENTS.md, or the log of a day: memory/2026-01-31.md"
      }),
      from: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1))).annotate({
        description: "the first line, counted from 1; default 1"
      }),
      lines: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: MAX_LINES }))).annotate({
        description: "how many lines; default 100"
      })
    }),
    prepare: ({ from = 1, lines = 100, source }) =>
      Effect.succeed({
        summary: `read ${source} from line ${from}`,
        detail: source,
        risk: "free",
        run: Effect.mapError(memory.get(source, from, lines), fail)
      })
  }),
  Tool.make({
    name: "identity_propose",
    description:
      "Proposes a new text for SOUL.md (who you are) or AGENTS.md (how you work), when the user wants you to change. The user sees it and decides.",
    input: Schema.Struct({
      file: IdentityFile,
      text: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(maxFileBytes / 4)).annotate({
        description: "all that is to stand in the file"
      }),
      why: Schema.String.check(Schema.isMaxLength(1000)).annotate({ description: "one sentence for the user" })
    }),
    prepare: ({ file, text, why }, caller) =>
      Effect.succeed({
        summary: `rewrite ${file}: ${Printable.line(why).slice(0, 100)}`,
        detail: `${file}, the whole new text:\n${Printable.clean(text)}`,
        risk: "always",
        run: Effect.map(
          Effect.mapError(memory.write(file, text, caller), fail),
          ({ id }) => `${file} is rewritten; clawchat memory undo ${id} takes it back`
        )
      })
  })
]
