/** A request of the user's that is kept in a file until it is delivered: words, names of files, bounds. */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { ConversationName, MessageId, maxAttachments, maxTextBytes } from "./ChatRpc.ts"
import { Attachment } from "./Llm.ts"
import { text, utf8 } from "./protocol/Cursor.ts"

/** Drafts in one home, and bytes of their files; each running chat may exceed them by one. */
export const MAX_DRAFTS = 64
export const MAX_DRAFTS_BYTES = 4 * 1024 * 1024
/** Bytes of one file: a text of nothing but control characters takes six bytes for each. What is attached must fit too. */
export const MAX_DRAFT_BYTES = 6 * maxTextBytes + 4096

/** What can be kept: procedures of the llm tier that take an id and do the same thing once, however often it comes. */
export const Request = Schema.TaggedUnion({
  "Chat.Send": {
    conversation: ConversationName,
    text: Schema.String,
    attachments: Schema.optionalKey(Schema.Array(Attachment).check(Schema.isMaxLength(maxAttachments)))
  }
})
export type Request = typeof Request.Type

export const Draft = Schema.Struct({
  version: Schema.Literal(1),
  /** The id under which it is sent, every time. */
  id: MessageId,
  /** Milliseconds since 1970. */
  created: Schema.Finite,
  /** Fingerprint of the server that it was meant for: the user's words go to nobody else by themselves. */
  server: Schema.String.check(Schema.isPattern(/^[0-9a-f]{16}$/)),
  request: Request
})
export type Draft = typeof Draft.Type

const json = Schema.fromJsonString(Draft)
const encodeJson = Schema.encodeSync(json)
const decodeJson = Schema.decodeUnknownOption(json)

export const encode = (draft: Draft): Uint8Array => utf8(encodeJson(draft))

/** `Gone`: its removal was cut off after the content was overwritten. `Unknown`: damaged, or of a later version. */
export type Content =
  | { readonly _tag: "Draft"; readonly draft: Draft }
  | { readonly _tag: "Gone" }
  | { readonly _tag: "Unknown" }

export const decode = (bytes: Uint8Array): Content => {
  if (bytes.length === 0 || bytes[0] === 0) return { _tag: "Gone" }
  return Option.match(decodeJson(text(bytes)), {
    onNone: (): Content => ({ _tag: "Unknown" }),
    onSome: (draft) => ({ _tag: "Draft", draft })
  })
}

/**
 * What the name of a file says: the lane of the process that wrote it, its place in that lane, its length. Sorted names
 * of one lane are in the order in which they were given.
 */
export interface Place {
  readonly lane: number
  readonly seq: number
  readonly bytes: number
  readonly id: string
}

const NAME = /^(\d{2})-(\d{12})-(\d{1,8})-([0-9a-f-]{36})\.json$/

export const nameOf = ({ bytes, id, lane, seq }: Place): string =>
  `${String(lane).padStart(2, "0")}-${String(seq).padStart(12, "0")}-${bytes}-${id}.json`

export const placeOf = (name: string): Place | undefined => {
  const [, lane, seq, bytes, id] = NAME.exec(name) ?? []
  return id === undefined ? undefined : { lane: Number(lane), seq: Number(seq), bytes: Number(bytes), id }
}

/** Those of one conversation are delivered one after the other. */
export const conversationOf = ({ request }: Draft): string => request.conversation
