/** Handlers of the `History` group, for any protocol. */
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Rpc from "effect/rpc/Rpc"
import type * as RpcGroup from "effect/rpc/RpcGroup"
import * as Stream from "effect/Stream"
import * as HistoryExport from "../domain/HistoryExport.ts"
import { HistoryError, HistoryRpc, maxPieceChars, maxSearchWords } from "../domain/HistoryRpc.ts"
import * as SearchWords from "../domain/SearchWords.ts"
import { Archive, type ArchiveError, type Kept } from "../services/Archive.ts"

/** Messages of an export that are in memory at a time. */
const PAGE = 8

const fromArchive = ({ message, reason }: ArchiveError) =>
  new HistoryError({ reason: reason === "Io" ? "Storage" : reason, message })

/** `isRunning`: whether a question of a conversation is being answered, or waits. */
export const layerHandlers = (options: {
  readonly isRunning: (conversation: string) => Effect.Effect<boolean>
}): Layer.Layer<Rpc.ToHandler<RpcGroup.Rpcs<typeof HistoryRpc>>, never, Archive> =>
  HistoryRpc.toLayer(
    Effect.gen(function* () {
      const archive = yield* Archive

      const idle = Effect.fnUntraced(function* (conversation: string) {
        if (yield* options.isRunning(conversation)) {
          const message = `a question is being answered in "${conversation}": stop it, or wait for the answer`
          return yield* new HistoryError({ reason: "Busy", message })
        }
      })

      const attachment = Effect.fnUntraced(function* (kept: Kept, index: number) {
        const info = kept.attachments[index]
        if (info === undefined) return ""
        const bytes = yield* archive.bytes(kept.message.id, info.position)
        return `${index === 0 ? "" : ","}${HistoryExport.jsonAttachment(info, Base64.encode(bytes))}`
      })

      /** One message's text, read as it is sent. */
      const asJson = (kept: Kept, isFirst: boolean) =>
        Stream.succeed(`${isFirst ? "" : ","}${HistoryExport.jsonEntry(kept)}`).pipe(
          Stream.concat(
            Stream.mapEffect(Stream.fromIterable(kept.attachments.keys()), (index) => attachment(kept, index))
          ),
          Stream.concat(Stream.succeed(HistoryExport.jsonEntryTail))
        )

      const entries = (conversation: string, all: boolean) =>
        Stream.paginate(-1, (after) =>
          Effect.map(archive.page({ conversation, after, limit: PAGE, all }), (page) => {
            const last = page.at(-1)
            const next =
              last === undefined || page.length < PAGE ? Option.none<number>() : Option.some(last.message.seq)
            return [page, next] as const
          })
        )

      return {
        "History.Search": Effect.fnUntraced(function* ({ before, conversation, limit, text }) {
          const query = SearchWords.parse(text, maxSearchWords)
          if (query === undefined) {
            return yield* new HistoryError({ reason: "Invalid", message: "there is no word to search for" })
          }
          return yield* Effect.mapError(archive.search({ query, conversation, limit, before }), fromArchive)
        }),
        "History.Export": ({ all, conversation, format }) =>
          Stream.unwrap(
            Effect.map(archive.began(conversation), (began) => {
              const kept = entries(conversation, all === true)
              const body =
                format === "markdown"
                  ? Stream.succeed(HistoryExport.markdownHead(conversation, began)).pipe(
                      Stream.concat(Stream.map(kept, HistoryExport.markdown))
                    )
                  : Stream.succeed(HistoryExport.jsonHead(conversation, began)).pipe(
                      Stream.concat(
                        Stream.flatMap(Stream.zipWithIndex(kept), ([each, index]) => asJson(each, index === 0))
                      ),
                      Stream.concat(Stream.succeed(HistoryExport.jsonTail))
                    )
              return Stream.flatMap(body, (text) => Stream.fromIterable(HistoryExport.pieces(text, maxPieceChars)))
            })
          ).pipe(Stream.mapError(fromArchive)),
        "History.Remove": Effect.fnUntraced(function* ({ conversation }) {
          yield* idle(conversation)
          return yield* Effect.mapError(archive.remove(conversation), fromArchive)
        }),
        "History.Rename": Effect.fnUntraced(function* ({ conversation, to }) {
          yield* idle(conversation)
          yield* Effect.mapError(archive.rename(conversation, to), fromArchive)
        })
      }
    })
  )
