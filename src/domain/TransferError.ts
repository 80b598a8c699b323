/** Why a transfer, or one file of it, came to nothing. */
import * as Schema from "effect/Schema"
import { REASONS } from "./TransferFrame.ts"

/**
 * FilesError's reasons, and:
 * - `Damaged`: bytes and hash do not fit.
 * - `Protocol`: the peer says what no peer of ours says.
 * - `Stopped`: somebody asked for it.
 * - `Lost`: the line is gone.
 * - `Idle`: the peer is there and says nothing, though it is its turn.
 */
export const Reason = Schema.Literals([...REASONS, "Lost", "Idle"])
export type Reason = typeof Reason.Type

export class TransferError extends Schema.TaggedError<TransferError>()("TransferError", {
  reason: Reason,
  /** One line for people. */
  message: Schema.String,
  /** Whose files it is about, where it is about one side's: this program's, or the other end's, which said so. */
  side: Schema.optionalKey(Schema.Literals(["here", "there"]))
}) {}
