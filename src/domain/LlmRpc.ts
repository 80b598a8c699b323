/** All procedures of the llm tier, as both ends of a stream to it know them: a client is typed by it, the tier serves it. */
import * as Predicate from "effect/Predicate"
import { type ChatEvent, ChatRpc } from "./ChatRpc.ts"
import { CronRpc } from "./CronRpc.ts"
import { HistoryRpc } from "./HistoryRpc.ts"
import { MemoryRpc } from "./MemoryRpc.ts"
import { UsageRpc } from "./UsageRpc.ts"

export const LlmRpc = ChatRpc.merge(HistoryRpc, MemoryRpc, CronRpc, UsageRpc)

/** The end of an answer, as it is sent. Whether somebody has read it up to here is noted, so it is waited for. */
export const isLast: (item: unknown) => boolean = Predicate.isTagged("Done" satisfies ChatEvent["_tag"])
