import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as fc from "fast-check"
import * as CronEdit from "../../src/domain/CronEdit.ts"
import * as CronFile from "../../src/domain/CronFile.ts"
import type { Job, NewJob } from "../../src/domain/CronJob.ts"

const page = `# Scheduled work

**Timezone**: Europe/Berlin

Words about this page.

## Morning mail
**Schedule**: 0 9 * * 1
**Command**: Read my mail and
tell me what is due.
**Enabled**: yes

Be brief.

\`\`\`
## not a job
**Schedule**: nor this
\`\`\`

## Backup ##
- **schedule:** \`@daily\`
- **Time zone**: UTC
- **Command**: Ask whether the backup ran.
- **Catch-up**: all
- **Overlap**: queue
- **Timeout**: 1h 30m
- **Tools**: memory_search, files_list
- **Enabled**: No

<!--
## Later
**Schedule**: every so often
-->

## Notes
Nothing to run here. **Note**: text.
`

const jobsIn = (text: string) => Result.getOrThrow(CronFile.parse(text)).sections.map((section) => section.job)

const problemsOf = (text: string) => {
  const file = CronFile.parse(text)
  assert.isTrue(Result.isFailure(file), "a file with mistakes was taken")
  return Result.isFailure(file)
    ? file.failure.map(({ column, line, message }) => `${line}:${column} ${message.split(/[:;]/)[0]}`)
    : []
}

describe("CRON.md", () => {
  it("is read as people write it", () => {
    const file = Result.getOrThrow(CronFile.parse(page))
    assert.strictEqual(file.timezone, "Europe/Berlin")
    assert.deepStrictEqual(file.notes, ["Notes"])
    const jobs: ReadonlyArray<Job> = [
      {
        name: "Morning mail",
        enabled: true,
        schedule: "0 9 * * 1",
        command: "Read my mail and\ntell me what is due.",
        context: "Be brief.\n\n```\n## not a job\n**Schedule**: nor this\n```"
      },
      {
        name: "Backup",
        enabled: false,
        schedule: "@daily",
        command: "Ask whether the backup ran.",
        timezone: "UTC",
        catchUp: "all",
        overlap: "queue",
        timeoutMs: 5_400_000,
        tools: ["memory_search", "files_list"]
      }
    ]
    assert.deepStrictEqual(jobsIn(page), jobs)
    assert.deepStrictEqual(jobsIn(page.replaceAll("\n", "\r\n")), jobs)
    assert.deepStrictEqual(jobsIn(`\ufeff${page.slice(page.indexOf("## Morning"))}`), jobs)
    assert.deepStrictEqual(jobsIn(""), [])
  })

  const cases: ReadonlyArray<readonly [string, string, ReadonlyArray<string>]> = [
    ["a schedule's mistake where it is", "## A\n**Schedule**: 0 25 * * *\n**Command**: x", ["2:17 Schedule"]],
    ["the column behind backticks", "## A\n- **Schedule:** `0 9 * * x`\n- **Command**: x", ["2:26 Schedule"]],
    [
      "what is missing",
      "## A\n**Schedule**: @daily\n\n## B\n**Command**: x",
      ['1:4 "A" has no Command', '4:4 "B" has no Schedule']
    ],
    [
      "names that are the same to the eye",
      "## A b\n**Schedule**: @daily\n**Command**: x\n## a B\n**Schedule**: @daily\n**Command**: x",
      ['4:4 "a B" stands in line 1 already']
    ],
    ["names that are none", "## A/b\n**Schedule**: @daily\n**Command**: x", ['1:4 "A/b" is no job\'s name']],
    [
      "fields that are nearly right",
      "## A\n**Shedule**: @daily\n**Schedule**: @daily\n**Command**: x\n**Cathc-up**: once",
      ["2:3 there is no field Shedule", "5:3 there is no field Cathc-up"]
    ],
    [
      "fields said twice or not at all",
      "## A\n**Schedule**: @daily\n**Schedule**: @daily\n**Command**:\n",
      ["3:1 Schedule is said twice", "4:13 Command has no value"]
    ],
    [
      "values that are not known",
      "## A\n**Schedule**: @daily\n**Command**: x\n**Enabled**: perhaps\n**Timezone**: Mars/Base\n**Timeout**: 2 days\n**Overlap**: join\n**Tools**: a, b;c",
      ["4:14 Enabled", "5:15 Timezone", "6:14 Timeout", "7:14 Overlap", "8:15 Tools"]
    ],
    [
      "fields in the wrong place",
      "**Enabled**: no\n# Page\n**Timezone**: UTC\n**Timezone**: UTC\n## A\n**Schedule**: @daily\n**Command**: x\n# End\n**Tools**: x",
      [
        "1:1 Enabled stands above all jobs, where only Timezone may",
        "4:1 Timezone is said twice",
        "9:1 Tools belongs to no job"
      ]
    ],
    [
      "a fence that swallows the rest",
      "## A\n**Schedule**: @daily\n**Command**: x\n~~~\n## B",
      ["4:1 this code fence is never closed"]
    ],
    ["a comment that does", "<!-- x\n## A", ["1:1 this comment is never closed"]]
  ]
  for (const [what, text, expected] of cases)
    it(`refuses, and tells ${what}`, () => assert.deepStrictEqual(problemsOf(text), expected))

  it("tells every mistake with what to write, twenty at most", () => {
    const file = CronFile.parse("## A\n**Schedule**: bad\n**Command**: x\n".repeat(30))
    assert.isTrue(Result.isFailure(file) && file.failure.length === 20)
    if (Result.isFailure(file)) for (const { message } of file.failure) assert.match(message, /write|give/)
  })

  it("reads 10,000 jobs and hostile lines in linear time", () => {
    const many = Array.from(
      { length: 10_000 },
      (_, n) => `## Job ${n}\n**Schedule**: ${n % 60} 9 * * *\n**Command**: do ${n}\n`
    )
    assert.strictEqual(jobsIn(many.join("\n")).length, 10_000)
    for (const unit of [" ", "#", "*", "`", "**Timeout**: ", "## x ", "1 ", "<!--", "\r"]) {
      CronFile.parse(`## A\n**Timeout**: ${unit.repeat(200_000)}`)
      CronFile.parse(`## ${unit.repeat(200_000)}x`)
    }
  })
})

const name = fc.stringMatching(/^[A-Za-zäß0-9][A-Za-z0-9 ._-]{0,20}[a-z0-9]$/)
const line = fc.oneof(
  fc.stringMatching(/^[a-zA-Z0-9 .,:;!?'"()#*`<>~-]{1,40}$/),
  fc.constantFrom(
    "## Evil",
    "**Schedule**: * * * * *",
    "**Enabled**: no",
    "```",
    "<!--",
    "-->",
    "# Top",
    "- **Tools**: all",
    "##",
    "\u2028x"
  )
)
const schedule = fc.constantFrom("0 9 * * 1", "@daily", "*/15 * * * *", "30 7 1 * *", "@at 2030-01-01T09:00", "@reboot")
const newJob: fc.Arbitrary<NewJob> = fc.record(
  {
    name,
    schedule,
    command: fc.array(line, { minLength: 1, maxLength: 3 }).map((lines) => lines.join("\n")),
    enabled: fc.boolean(),
    timezone: fc.constantFrom("UTC", "Asia/Tokyo"),
    catchUp: fc.constantFrom("skip", "once", "all"),
    overlap: fc.constantFrom("skip", "queue", "kill"),
    timeoutMs: fc.integer({ min: 1, max: 86_400 }).map((seconds) => seconds * 1000),
    tools: fc.constantFrom([], ["memory_search"], ["a", "b.c"]),
    context: fc.array(line, { maxLength: 4 }).map((lines) => lines.join("\n"))
  },
  { requiredKeys: ["name", "schedule", "command"] }
)
const prose = fc.array(
  fc.oneof(
    fc.stringMatching(/^[A-Za-z0-9 .,]{0,30}$/),
    fc.constantFrom(
      "",
      "  ",
      "```\n## no\n```",
      "<!-- **Schedule**: x -->",
      "### Sub",
      "**Note**: well",
      "- item",
      "> quote"
    )
  ),
  { maxLength: 4 }
)
/** A page as somebody may have written it: odd blank lines, either line ending, text everywhere. */
const document = fc
  .record({
    front: prose,
    jobs: fc.uniqueArray(fc.tuple(name, schedule, prose, prose, fc.boolean()), {
      maxLength: 4,
      selector: ([each]) => each.toLowerCase()
    }),
    crlf: fc.boolean(),
    eof: fc.boolean()
  })
  .map(({ crlf, eof, front, jobs }) => {
    const marker = (list: boolean) => (list ? "* " : "")
    const lines = [
      ...front,
      ...jobs.flatMap(([title, when, above, below, list]) => [
        `## ${title}`,
        ...above,
        `${marker(list)}**Schedule**: \`${when}\` `,
        "",
        `${marker(list)}**Command:** do it`,
        "on two lines",
        ...below
      ])
    ]
    return lines.join("\n").replaceAll("\n", crlf ? "\r\n" : "\n") + (eof ? "\n" : "")
  })
  .filter((text) => Result.isSuccess(CronFile.parse(text)))

const settings = { seed: 6, numRuns: 300 }

/** Bytes before and after the section of a job. */
const around = (text: string, title: string) => {
  const file = Result.getOrThrow(CronFile.parse(text))
  const section = CronFile.find(file, title)
  const all = file.lines.map((each) => each.text + each.eol)
  return section === undefined
    ? undefined
    : { before: all.slice(0, section.heading).join(""), after: all.slice(section.end).join("") }
}

describe("changes of CRON.md", () => {
  it("an added job is read back as it was given, or is refused; all else stays", () => {
    let taken = 0
    fc.assert(
      fc.property(document, newJob, (text, job) => {
        const before = jobsIn(text)
        const added = CronEdit.add(text, [job])
        if (Result.isFailure(added)) {
          assert.include(["Invalid", "Exists"], added.failure.reason)
          assert.notStrictEqual(added.failure.message, "")
          return
        }
        taken++
        assert.isTrue(added.success.startsWith(text))
        const after = jobsIn(added.success)
        assert.deepStrictEqual(after.slice(0, -1), before)
        const expected = Result.getOrThrow(CronEdit.check(CronEdit.complete(job)))
        assert.deepStrictEqual(after.at(-1), expected)
        const removed = Result.getOrThrow(CronEdit.remove(added.success, job.name))
        assert.deepStrictEqual(jobsIn(removed), before)
        assert.strictEqual(removed.trimEnd(), text.trimEnd())
      }),
      settings
    )
    assert.isAbove(taken, 60)
  })

  it("an edit changes its section and nothing else", () => {
    let taken = 0
    fc.assert(
      fc.property(document, newJob, fc.nat(), (text, job, pick) => {
        const jobs = jobsIn(text)
        const target = jobs[pick % Math.max(1, jobs.length)]
        if (target === undefined) return
        const { name: _, ...change } = job
        const edited = CronEdit.edit(text, target.name, change)
        if (Result.isFailure(edited)) return assert.strictEqual(edited.failure.reason, "Invalid")
        taken++
        assert.deepStrictEqual(around(edited.success, target.name), around(text, target.name))
        const again = Result.getOrThrow(CronEdit.edit(edited.success, target.name, change))
        assert.strictEqual(again, edited.success, "the same edit again changes nothing")
      }),
      settings
    )
    assert.isAbove(taken, 40)
  })

  it("an edit and its opposite give the same bytes where no line was made or lost", () => {
    fc.assert(
      fc.property(document, fc.nat(), (text, pick) => {
        const jobs = jobsIn(text)
        const target = jobs[pick % Math.max(1, jobs.length)]
        if (target === undefined) return
        const there = Result.getOrThrow(CronEdit.edit(text, target.name, { schedule: "1 2 3 4 5", name: "Other name" }))
        const back = CronEdit.edit(there, "other NAME", { schedule: target.schedule, name: target.name })
        assert.strictEqual(Result.getOrThrow(back), text)
      }),
      settings
    )
  })

  it("removes a section, comments in it stay", () => {
    const removed = Result.getOrThrow(CronEdit.remove(page, "backup"))
    assert.strictEqual(
      removed,
      page.slice(0, page.indexOf("## Backup")) + page.slice(page.indexOf("<!--")).replace("-->\n\n", "-->\n")
    )
  })

  it("enables, disables, and takes optional fields in and out", () => {
    const off = Result.getOrThrow(CronEdit.edit(page, "Morning mail", { enabled: false, timezone: "UTC" }))
    assert.strictEqual(off, page.replace("**Enabled**: yes\n", "**Enabled**: no\n**Timezone**: UTC\n"))
    const on = Result.getOrThrow(CronEdit.edit(off, "Morning mail", { enabled: true, timezone: null }))
    assert.strictEqual(on, page)
    const list = Result.getOrThrow(CronEdit.edit(page, "Backup", { tools: null, overlap: "kill", enabled: true }))
    assert.strictEqual(
      list,
      page.replace("- **Tools**: memory_search, files_list\n", "").replace(": queue", ": kill").replace(": No", ": yes")
    )
  })

  it("keeps text out of a command when the line between goes", () => {
    const text = "## A\n**Schedule**: @daily\n**Command**: do\n**Overlap**: kill\nText.\n"
    const amid = "## A\nbefore\n**Schedule**: @daily\n**Tools**: none\nafter\n**Command**: x\n"
    assert.strictEqual(
      Result.getOrThrow(CronEdit.edit(amid, "A", { tools: null })),
      amid.replace("**Tools**: none\n", "")
    )
    const edited = Result.getOrThrow(CronEdit.edit(text, "A", { overlap: null }))
    assert.strictEqual(edited, "## A\n**Schedule**: @daily\n**Command**: do\n\nText.\n")
  })

  const base: NewJob = { name: "A", schedule: "0 9 * * 1", command: "do" }
  const refusals: ReadonlyArray<readonly [string, NewJob, string, number, number]> = [
    ["a schedule", { ...base, schedule: "0 25 * * 1" }, "Schedule", 1, 3],
    ["a zone", { ...base, timezone: "Mars" }, "Timezone", 1, 1],
    ["a zone with more lines", { ...base, timezone: "UTC\n## B" }, "Timezone", 1, 1],
    ["an empty command", { ...base, command: " \n " }, "Command", 1, 1],
    ["a command of two paragraphs", { ...base, command: "a\n\nb" }, "Command", 2, 1],
    ["a heading in the context", { ...base, context: "fine\n## B\n**Schedule**: * * * * *" }, "Context", 2, 1],
    ["a field in the context", { ...base, context: "- **Enabled**: no" }, "Context", 1, 1],
    ["an open fence in the context", { ...base, context: "a\n```" }, "Context", 2, 1]
  ]
  for (const [what, job, field, line, column] of refusals) {
    it(`refuses ${what}, and says where`, () => {
      const added = CronEdit.add("", [job])
      assert.isTrue(Result.isFailure(added))
      if (Result.isSuccess(added)) return
      assert.strictEqual(added.failure.reason, "Invalid")
      assert.isTrue(added.failure.message.startsWith(`${field}: `), added.failure.message)
      assert.deepInclude(added.failure.problems[0], { line, column })
    })
  }

  it("refuses twins, strangers, and files that have mistakes", () => {
    const reasonOf = (result: Result.Result<string, CronEdit.Refusal>) =>
      Result.isFailure(result) ? result.failure.reason : "taken"
    assert.strictEqual(reasonOf(CronEdit.add(page, [{ ...base, name: "BACKUP" }])), "Exists")
    assert.strictEqual(reasonOf(CronEdit.add(page, [base, { ...base, name: "a" }])), "Exists")
    assert.strictEqual(reasonOf(CronEdit.edit(page, "Backup", { name: "morning mail" })), "Exists")
    assert.strictEqual(reasonOf(CronEdit.remove(page, "Gone")), "NotFound")
    assert.strictEqual(reasonOf(CronEdit.edit(page, "Gone", {})), "NotFound")
    assert.strictEqual(reasonOf(CronEdit.remove(`${page}\n\`\`\``, "Backup")), "BadFile")
  })
})
