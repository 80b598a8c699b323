/** Jobs, runs, changes of memory and cost as people read them. */
import { assert, describe, it } from "@effect/vitest"
import type { Run } from "../../src/domain/CronJob.ts"
import type { JobView } from "../../src/domain/CronRpc.ts"
import * as CronText from "../../src/domain/CronText.ts"
import type { Change } from "../../src/domain/Memory.ts"
import * as MemoryText from "../../src/domain/MemoryText.ts"
import { dollars, minute, minuteIn, table } from "../../src/domain/TextTable.ts"
import type { UsageLine } from "../../src/domain/UsageRpc.ts"
import * as UsageText from "../../src/domain/UsageText.ts"

const NOON = Date.parse("2026-03-29T00:30:00Z")

const ran: Run = {
  id: 7,
  job: "plants",
  slot: "x",
  due: NOON,
  status: "ran",
  started: NOON,
  ended: NOON + 1500,
  text: "",
  cost: 0.0123,
  acknowledged: true
}

const view: JobView = {
  job: { name: "plants", enabled: true, schedule: "0 9 * * 1", command: "water\x1b[2J them" },
  line: 12,
  words: "every Monday at 09:00",
  zone: "Europe/Berlin",
  next: ["2026-03-29T00:30:00.000Z", "2026-03-29T01:30:00.000Z"],
  failures: 0
}

describe("CronText", () => {
  it("shows instants by the clocks of the job, over a change of them", () => {
    assert.strictEqual(
      CronText.job(view),
      "plants  every Monday at 09:00, Europe/Berlin\n  next  2026-03-29 01:30, 2026-03-29 03:30"
    )
  })

  it("says why a job does not run, and what was last", () => {
    const failed: Run = { ...ran, status: "failed", reason: "no\nline" }
    const text = CronText.job({
      ...view,
      next: [],
      failures: 5,
      last: failed,
      suspended: { since: NOON, reason: "5 failures in a row: clawchat cron enable plants" }
    })
    assert.strictEqual(
      text,
      [
        "plants (suspended)  every Monday at 09:00, Europe/Berlin",
        "  since 2026-03-29 00:30 UTC: 5 failures in a row: clawchat cron enable plants",
        "  last  2026-03-29 01:30 failed: no line, 5 times in a row"
      ].join("\n")
    )
    assert.match(CronText.job({ ...view, job: { ...view.job, enabled: false }, next: [] }), /^plants \(disabled\) {2}/)
    assert.match(CronText.job({ ...view, active: "running" }), /^plants \(running\) {2}/)
  })

  it("shows what a job says, cleaned", () => {
    const text = CronText.details({ ...view, job: { ...view.job, tools: ["memory_append"], timeoutMs: 90_000 } })
    assert.include(text, "  command   water them\n")
    assert.include(text, "  tools     memory_append\n")
    assert.include(text, "  timeout   90 s")
    assert.notInclude(text, "\x1b")
  })

  it("lists runs and mistakes", () => {
    assert.strictEqual(
      CronText.runs([ran]),
      "RUN  JOB     DUE (UTC)         TOOK   COST     STATUS\n7    plants  2026-03-29 00:30  1.5 s  $0.0123  ran"
    )
    assert.strictEqual(
      CronText.problems("a\x1b[1m.md", [{ line: 3, column: 14, message: "no\nhour" }]),
      "a.md:3:14: no hour"
    )
  })

  it("stands anything that another machine may send", () => {
    const odd = { ...view, zone: "No/Where", next: ["never", "2026-03-29T00:30:00.000Z"] }
    assert.match(CronText.job(odd), /next {2}unknown UTC, 2026-03-29 00:30 UTC$/)
    assert.strictEqual(minute(Number.NaN), "unknown")
    assert.strictEqual(minuteIn("UTC")(8.7e15), "unknown")
  })
})

describe("MemoryText", () => {
  const change: Change = {
    id: 3,
    at: NOON,
    file: "MEMORY.md",
    kind: "edit",
    before: "- tea\n",
    after: "- coffee\x1b[2J\n- milk\n",
    cause: { conversation: "main", messageId: "m" },
    undone: true
  }

  it("shows a change as a diff, with its cause", () => {
    assert.strictEqual(
      MemoryText.change(change),
      '3  2026-03-29 00:30 UTC  edit MEMORY.md, in "main" (taken back)\n  - - tea\n  + - coffee\n  + - milk'
    )
    const byHand = { ...change, undone: false, cause: { conversation: "", messageId: "" } }
    assert.match(MemoryText.change(byHand), /edit MEMORY\.md, by hand\n/)
    const byJob = { ...change, undone: false, cause: { conversation: "cron x", messageId: "m", job: "x" } }
    assert.match(MemoryText.change(byJob), /, by the job "x"\n/)
    assert.match(MemoryText.change({ ...change, kind: "undo", undoes: 2 }), /, takes back 2 /)
  })

  it("cuts what is long", () => {
    const long = Array.from({ length: 50 }, (_, n) => `${n}`).join("\n")
    assert.match(MemoryText.change({ ...change, before: "", after: long }), /\n {2}\+ 19\n {4}… 30 lines more$/)
  })
})

describe("UsageText", () => {
  const line: UsageLine = {
    key: "2026-03-29",
    requests: 2,
    usage: { inputTokens: 1000, outputTokens: 50, cachedTokens: 800 },
    cost: 1.5,
    unpriced: 0,
    estimated: 1
  }

  it("is a table with a sum, and budgets", () => {
    assert.strictEqual(
      UsageText.sums("day", {
        lines: [line],
        total: { ...line, key: "", unpriced: 1 },
        truncated: false,
        budgets: [
          { period: "day", limit: 5, spent: 1.5 },
          { period: "per_job", limit: 0.5 }
        ]
      }),
      [
        "DAY         REQUESTS  IN    CACHED  OUT  COST",
        "2026-03-29  2         1000  800     50   $1.50",
        "all         2         1000  800     50   $1.50 and 1 of unknown price",
        "tokens of 1 of 2 requests are estimated",
        "budget, this day: $1.50 of $5.00",
        "budget, each job: at most $0.5000 a day"
      ].join("\n")
    )
    assert.strictEqual(
      UsageText.line({ ...line, requests: 1, unpriced: 1 }),
      "1 request, 1000 tokens in (800 cached), 50 out, unknown"
    )
  })
})

describe("TextTable", () => {
  it("aligns columns and pads no line's end", () => {
    assert.strictEqual(table([["a", "bb", ""], ["ccc", "d"], []]), "a    bb\nccc  d\n")
  })

  it("writes dollars to the cent, and less than one of them finer", () => {
    assert.deepStrictEqual([0, 0.00004, 0.25, 1, 1234.5].map(dollars), [
      "$0.00",
      "$0.0000",
      "$0.2500",
      "$1.00",
      "$1234.50"
    ])
  })
})
