/** All procedures of the llm tier, as both ends of a stream to it know them: a client is typed by it, the tier serves it. */
import { ChatRpc } from "./ChatRpc.ts"
import { CronRpc } from "./CronRpc.ts"
import { HistoryRpc } from "./HistoryRpc.ts"
import { MemoryRpc } from "./MemoryRpc.ts"
import { UsageRpc } from "./UsageRpc.ts"

export const LlmRpc = ChatRpc.merge(HistoryRpc, MemoryRpc, CronRpc, UsageRpc)
