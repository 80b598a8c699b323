/** Files as streams of bytes: what is printed, and what comes from another program and has no length. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as BlockTree from "../domain/BlockTree.ts"
import { concat, hex } from "../domain/protocol/Cursor.ts"
import { HASH_LENGTH } from "../domain/protocol/Primitives.ts"
import { BLOCK_LENGTH } from "../domain/RemoteFile.ts"
import { TransferError } from "../domain/TransferError.ts"
import type { Conflict, Frame } from "../domain/TransferFrame.ts"
import * as TransferFrame from "../domain/TransferFrame.ts"
import { Crypto } from "../services/Crypto.ts"
import type { Event, Options, Rule } from "./TransferEvent.ts"
import * as TransferLine from "./TransferLine.ts"
import * as TransferReceiver from "./TransferReceiver.ts"
import * as TransferSender from "./TransferSender.ts"

type Open = Options["open"]

const CONFLICTS: Readonly<Record<Rule, Conflict>> = {
  ask: "fail",
  skip: "fail",
  overwrite: "replace",
  rename: "rename"
}

/** A file of the server from its beginning; no byte is given before its block was verified. Goes on after a lost line. */
export const read = (
  open: Open,
  path: string,
  { idleMs }: Pick<Options, "idleMs"> = {}
): Stream.Stream<Uint8Array, TransferError, Crypto> =>
  Stream.callback<Uint8Array, TransferError, Crypto>(
    Effect.fnUntraced(function* (queue) {
      const { primitives } = yield* Crypto
      const { equal, hash } = primitives
      const line = yield* TransferLine.make({ open, idleMs, reconnecting: () => Effect.void })
      const tree = new BlockTree.BlockTree(hash)
      let fingerprint: string | undefined
      yield* line.use(({ id, lane, next }) =>
        Effect.gen(function* () {
          yield* lane.send({ _tag: "Want", id, path })
          const file = yield* next
          if (file._tag !== "File" || file.facts.size === undefined) return yield* TransferReceiver.unexpected(file)
          fingerprint ??= file.facts.fingerprint
          if (fingerprint !== file.facts.fingerprint) {
            const message = `${JSON.stringify(path)}: changed while it was read`
            return yield* new TransferError({ reason: "Changed", message })
          }
          if (TransferFrame.isEager(file.facts)) {
            const { bytes } = yield* TransferReceiver.eager(primitives, path, file.facts.size, next)
            if (bytes.length > 0) yield* Queue.offer(queue, bytes)
            return
          }
          yield* lane.send({ _tag: "Accept", id, offset: tree.length, state: tree.state() ?? new Uint8Array(0) })
          let parts: Array<Uint8Array> = []
          let length = 0
          /** The block that is complete, if it is what the sender says it is. */
          const pass = Effect.fnUntraced(function* (expected: Uint8Array | undefined) {
            const bytes = concat(...parts)
            const leaf = hash(bytes)
            if (!tree.push(leaf, length) || (expected !== undefined && !equal(leaf, expected))) {
              return yield* TransferReceiver.damaged(path)
            }
            parts = []
            length = 0
            line.progress()
            return bytes
          })
          while (true) {
            const frame: Frame = yield* next
            if (frame._tag === "Data") {
              parts.push(frame.bytes)
              length += frame.bytes.length
              if (length > BLOCK_LENGTH) return yield* TransferReceiver.damaged(path)
            } else if (frame._tag === "Block") {
              yield* Queue.offer(queue, yield* pass(frame.hash))
            } else if (frame._tag === "End") {
              const rest = length > 0 ? yield* pass(undefined) : undefined
              if (!equal(tree.root(), frame.root)) return yield* TransferReceiver.damaged(path)
              if (rest !== undefined) yield* Queue.offer(queue, rest)
              return
            } else return yield* TransferReceiver.unexpected(frame)
          }
        })
      )
      yield* Queue.end(queue)
    }),
    { bufferSize: 4, strategy: "suspend" }
  )

/** Bytes of unknown length to a file of the server. It is there when all of them have come, and not at all before. */
export const write = Effect.fn("TransferPipes.write")(function* <E>(
  open: Open,
  to: string,
  bytes: Stream.Stream<Uint8Array, E>,
  options: { readonly conflict: Rule; readonly mode?: number } & Pick<Options, "idleMs">
): Effect.fn.Return<Extract<Event, { _tag: "Done" }>, TransferError | E, Crypto> {
  const { hash } = (yield* Crypto).primitives
  const mtimeMs = yield* Clock.currentTimeMillis
  const facts = { size: undefined, mtimeMs, mode: options.mode ?? 0o644, fingerprint: "" }
  const tree = new BlockTree.BlockTree(hash)
  return yield* Effect.scoped(
    Effect.gen(function* () {
      // What was read from the stream cannot be read again, so there is no second try.
      const line = yield* TransferLine.make({
        open,
        retries: 0,
        idleMs: options.idleMs,
        reconnecting: () => Effect.void
      })
      return yield* line.use(({ id, lane, next, own }) =>
        Effect.gen(function* () {
          yield* lane.send({ _tag: "Put", id, facts, conflict: CONFLICTS[options.conflict], path: to })
          const accept = yield* next
          if (accept._tag === "Conflict") {
            const message = `${JSON.stringify(to)}: something stands there already`
            return yield* new TransferError({ reason: "Exists", message })
          }
          if (accept._tag !== "Accept" || accept.offset !== 0) return yield* TransferReceiver.unexpected(accept)
          const blocks = new TransferSender.Blocks()
          const send = (block: Uint8Array) => {
            const leaf = block.length > 0 ? hash(block) : new Uint8Array(HASH_LENGTH)
            tree.push(leaf, block.length)
            return lane.send(...TransferSender.block(id, block, leaf))
          }
          const sending = Stream.runForEach(bytes, (piece) =>
            Effect.forEach(blocks.push(piece), send, { discard: true })
          ).pipe(
            Effect.andThen(
              Effect.suspend(() => {
                const rest = blocks.rest()
                return rest.length > 0 ? send(rest) : Effect.void
              })
            ),
            Effect.andThen(Effect.suspend(() => lane.send({ _tag: "End", id, root: tree.root() })))
          )
          const done = yield* Effect.raceFirst(Effect.andThen(own(sending), Effect.never), next)
          if (done._tag !== "Done") return yield* TransferReceiver.unexpected(done)
          const size = tree.length
          return { _tag: "Done" as const, from: "-", to: done.path, size, root: hex(tree.root()), moved: size }
        })
      )
    })
  )
})
