/**
 * Files of one piece at the server's end of a bulk stream: no fiber for each, but what is wanted is read together and sent
 * together, and what has arrived is written and answered together. What turns out to be longer goes the long way.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type { Primitives } from "../domain/protocol/Primitives.ts"
import type { FilesError } from "../domain/RemoteFile.ts"
import { TransferError } from "../domain/TransferError.ts"
import * as TransferFrame from "../domain/TransferFrame.ts"
import type { FileTree } from "../services/FileTree.ts"
import type * as TransferClaims from "./TransferClaims.ts"
import type * as TransferLane from "./TransferLane.ts"
import * as TransferReceiver from "./TransferReceiver.ts"
import * as TransferSender from "./TransferSender.ts"

type Frame = TransferFrame.Frame
export type Put = Extract<Frame, { _tag: "Put" }>
export type Want = Extract<Frame, { _tag: "Want" }>

/** Files that are read together, and written: of the largest kind 4 MiB and 8 MiB. */
const READ = 64
const WRITTEN = 128
/** Names in the way that are looked at, at a time. */
const LOOKS = 16

const NOTHING = new Uint8Array(0)

/** A file that is taken in. */
interface Taking {
  readonly put: Put
  bytes: Uint8Array
  /** All of it is here. */
  isWhole: boolean
}

/** A file whose place is taken. */
interface Taken {
  readonly put: Put
  readonly error: FilesError
}

export interface Options {
  readonly tree: Pick<FileTree, "readSmall" | "writeSmall">
  readonly primitives: Pick<Primitives, "hash" | "equal">
  readonly claims: Pick<TransferClaims.Claims, "take" | "give">
  readonly lane: TransferLane.Lane
  /** Sends a file that is longer. */
  readonly long: (want: Want) => Effect.Effect<void, TransferError>
  /** What is said about a name that is taken, of which the store said this. */
  readonly inTheWay: (put: Put, error: FilesError) => Effect.Effect<Frame, FilesError | TransferError>
}

/** Whether something stands in the way of a file: where it expects nothing, or not what it expects. */
export const isTaken = ({ conflict }: Put, { reason }: FilesError): boolean =>
  reason === "Exists" || (reason === "Changed" && typeof conflict === "object")

export interface FilesSmall {
  /** Files on their way, and those that are over but for what has to be said of them. */
  readonly count: () => number
  readonly has: (id: number) => boolean
  /** For ids that it does not have. */
  readonly want: (want: Want) => void
  /** For files of one piece, which take no other name than theirs. */
  readonly put: (put: Put) => void
  /** Takes what is said about a file that it has; what makes no sense ends the stream, or the file. */
  readonly hear: (frame: Frame) => TransferError | undefined
  /** Reads, writes and answers; fails with `Lost`. */
  readonly run: Effect.Effect<never, TransferError>
}

const MISSING = new TransferError({ reason: "Io", message: "the store says nothing of this file" })

const violation = (message: string) => new TransferError({ reason: "Protocol", message })

const fail = (id: number, { message, reason }: FilesError | TransferError): Frame => ({
  _tag: "Fail",
  id,
  // The line is asked for what it says of itself nowhere here.
  reason: reason === "Lost" || reason === "Idle" ? "Io" : reason,
  message
})

/** What it holds is given back with the scope. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const { claims, inTheWay, lane, long, primitives, tree } = options
  const { equal, hash } = primitives
  const files = new Map<number, Want | Taking>()
  const wants = yield* Queue.unbounded<Want>()
  /** What is to be written, and what is to be said at once. */
  const puts = yield* Queue.unbounded<Taking | Frame>()
  /** Answers that wait, and what was given up and is still queued: who reads nothing is not owed more and more. */
  let owed = 0
  let held = 0
  const hold = (length: number): boolean => {
    if (!claims.take(length)) return false
    held += length
    return true
  }
  const release = (length: number): void => {
    held -= length
    claims.give(length)
  }
  yield* Effect.addFinalizer(() => Effect.sync(() => release(held)))

  /** An answer that goes with the next ones. */
  const say = (frame: Frame): void => {
    owed++
    Queue.offerUnsafe(puts, frame)
  }

  /** The file is over. */
  const end = (taking: Taking, error: TransferError | undefined): void => {
    const { id } = taking.put
    files.delete(id)
    release(taking.bytes.length)
    if (error !== undefined) say(fail(id, error))
  }

  const take = (taking: Taking, frame: Frame): TransferError | undefined => {
    const { bytes, put } = taking
    switch (frame._tag) {
      case "Fail":
        // What is about to be written is written: its answer goes nowhere.
        if (!taking.isWhole) end(taking, undefined)
        return undefined
      case "Data":
        if (bytes.length + frame.bytes.length > TransferFrame.PIECE_LENGTH) {
          return violation(`${frame.id} is more than one piece`)
        }
        if (taking.isWhole || bytes.length > 0) break
        if (!hold(frame.bytes.length)) return violation("too much at once")
        taking.bytes = frame.bytes
        return undefined
      case "End": {
        if (taking.isWhole) break
        taking.isWhole = true
        const fits = bytes.length === put.facts.size && equal(TransferSender.rootOf(hash, bytes), frame.root)
        if (fits) Queue.offerUnsafe(puts, taking)
        else end(taking, TransferReceiver.damaged(put.path))
        return undefined
      }
      case "Accept":
      case "Chunks":
        return violation(`${frame._tag} makes no sense for ${frame.id}`)
    }
    if (!taking.isWhole) end(taking, TransferReceiver.unexpected(frame))
    return undefined
  }

  const hear: FilesSmall["hear"] = (frame) => {
    const file = files.get(frame.id)
    if (file === undefined) return undefined
    if ("put" in file) return take(file, frame)
    const isEarly = frame._tag === "Accept" || frame._tag === "Chunks"
    if (frame._tag !== "Fail" && !isEarly) return violation(`${frame._tag} makes no sense for ${frame.id}`)
    files.delete(frame.id)
    // It waits in the queue until it is met there.
    owed++
    if (isEarly) say(fail(frame.id, TransferReceiver.unexpected(frame)))
    return undefined
  }

  const giving = Effect.gen(function* () {
    const taken = yield* Queue.takeBetween(wants, 1, READ)
    const some = taken.filter((want) => files.get(want.id) === want)
    owed -= taken.length - some.length
    const found = yield* tree.readSmall(
      some.map(({ path }) => path),
      TransferFrame.PIECE_LENGTH
    )
    const frames: Array<Frame> = []
    let length = 0
    for (const [i, want] of some.entries()) {
      const file = found[i]
      const { id } = want
      // Given up meanwhile.
      if (files.get(id) !== want) {
        owed--
        continue
      }
      files.delete(id)
      if (file === undefined || Result.isFailure(file)) {
        frames.push(fail(id, file?.failure ?? MISSING))
        continue
      }
      const { bytes } = file.success
      if (bytes === undefined) yield* long(want)
      else if (!hold(bytes.length)) {
        frames.push(fail(id, new TransferError({ reason: "Busy", message: "too many files at once; try again" })))
      } else {
        length += bytes.length
        frames.push({ _tag: "File", id, facts: TransferSender.facts(file.success) })
        frames.push(...TransferSender.eager(id, bytes, TransferSender.rootOf(hash, bytes)))
      }
    }
    if (frames.length > 0) yield* lane.send(...frames)
    release(length)
  })

  const taking = Effect.gen(function* () {
    const some = yield* Queue.takeBetween(puts, 1, WRITTEN)
    const frames = some.flatMap((each) => ("put" in each ? [] : [each]))
    const files = some.flatMap((each) => ("put" in each ? [each] : []))
    const outcomes = yield* tree.writeSmall(
      files.map(({ bytes, put: { conflict, facts, path } }) => ({
        path,
        bytes,
        mtimeMs: facts.mtimeMs,
        mode: facts.mode,
        conflict,
        parents: true
      }))
    )
    const said = frames.length
    const taken: Array<Taken> = []
    for (const [i, file] of files.entries()) {
      const outcome = outcomes[i]
      const { id } = file.put
      end(file, undefined)
      if (outcome === undefined) frames.push(fail(id, MISSING))
      else if (Result.isSuccess(outcome)) frames.push({ _tag: "Done", id, path: outcome.success.path })
      else if (isTaken(file.put, outcome.failure)) taken.push({ put: file.put, error: outcome.failure })
      else frames.push(fail(id, outcome.failure))
    }
    const look = ({ error, put }: Taken): Effect.Effect<Frame> =>
      Effect.catch(inTheWay(put, error), (error) => Effect.succeed(fail(put.id, error)))
    if (taken.length > 0) frames.push(...(yield* Effect.forEach(taken, look, { concurrency: LOOKS })))
    if (frames.length > 0) yield* lane.send(...frames)
    owed -= said
  })

  const made: FilesSmall = {
    count: () => files.size + owed,
    has: (id) => files.has(id),
    want: (want) => {
      files.set(want.id, want)
      Queue.offerUnsafe(wants, want)
    },
    put: (put) => {
      files.set(put.id, { put, bytes: NOTHING, isWhole: false })
    },
    hear,
    run: Effect.raceFirst(Effect.forever(giving), Effect.forever(taking))
  }
  return made
})
