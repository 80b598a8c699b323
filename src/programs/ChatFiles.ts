/** `/attach`: files of this host that go with the next message of a chat. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { maxAttachmentBytes, maxAttachments } from "../domain/ChatRpc.ts"
import type { Attachment } from "../domain/Llm.ts"
import * as Printable from "../domain/Printable.ts"
import type { Screen } from "../services/Screen.ts"
import type * as ChatTalk from "./ChatTalk.ts"

const names = (files: ReadonlyArray<Attachment>): string =>
  files.map(({ bytes, name }) => `${Printable.line(name)} (${bytes.length} bytes)`).join(", ")

/** Words of a line, as a shell would part them: quotes hold spaces, a backslash the next character. */
export const words = (line: string): ReadonlyArray<string> =>
  [...line.matchAll(/(?:"[^"]*"|'[^']*'|\\.|[^\s"'\\])+/g)].map(([word]) =>
    word.replace(/"([^"]*)"|'([^']*)'|\\(.)/g, (_, double, single, escaped) => double ?? single ?? escaped ?? "")
  )

/** The files of one chat. */
export class ChatFiles {
  readonly #note: Screen["Service"]["note"]
  readonly #read: ChatTalk.Options["attach"]
  #files: ReadonlyArray<Attachment> = []

  constructor({ note }: Screen["Service"], read: ChatTalk.Options["attach"]) {
    this.#note = note
    this.#read = read
  }

  /** Those that go with the next message. */
  get attached(): ReadonlyArray<Attachment> {
    return this.#files
  }

  clear(): void {
    this.#files = []
  }

  /** What stands behind `/attach`: files to add, `drop`, or nothing, to see them. */
  command(argument: string): Effect.Effect<void> {
    const paths = words(argument)
    const read = this.#read
    if (read === undefined) return this.#note("/attach is not for this chat")
    if (paths.length === 0) {
      return this.#note(
        this.#files.length === 0 ? "/attach FILE... sends files with the next message" : names(this.#files)
      )
    }
    if (paths.length === 1 && paths[0] === "drop") {
      this.clear()
      return this.#note("nothing is attached")
    }
    return Effect.flatMap(Effect.result(Effect.forEach(paths, read)), (more) => {
      if (Result.isFailure(more)) return this.#note(Printable.line(more.failure.message))
      const all = [...this.#files, ...more.success]
      const bytes = all.reduce((sum, each) => sum + each.bytes.length, 0)
      if (all.length > maxAttachments || bytes > maxAttachmentBytes) {
        const most = `${maxAttachments} files and ${maxAttachmentBytes / 1024 ** 2} MiB`
        return this.#note(`not attached: at most ${most} go with one message; see also clawchat files put`)
      }
      this.#files = all
      return this.#note(`goes with the next message: ${names(all)}`)
    })
  }
}
