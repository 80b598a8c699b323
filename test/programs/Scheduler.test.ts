import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type { Run } from "../../src/domain/CronJob.ts"
import { CronStore, CronStoreError } from "../../src/services/CronStore.ts"
import * as World from "./CronWorld.ts"

const { at, job } = World

describe("Scheduler", () => {
  it.effect("runs jobs at their instants, in their zones, and records what came of it", () =>
    Effect.gen(function* () {
      const world = yield* World.make({
        now: "2026-03-06T12:00:00Z",
        file: job("Mail", "0 9 * * *", "**Timezone**: America/New_York\n") + job("Tea", "30 16 * * fri")
      })
      const { stop } = yield* world.start()
      yield* TestClock.adjust("4 days")
      assert.deepStrictEqual(yield* world.record, [
        "Mail 03-06T14:00 ran",
        "Tea 03-06T16:30 ran",
        "Mail 03-07T14:00 ran",
        "Mail 03-08T13:00 ran",
        "Mail 03-09T13:00 ran"
      ])
      for (const each of world.begun) assert.strictEqual(each.now, each.due)
      yield* stop
    })
  )

  it.effect("does nothing between slots, and nothing at all without any", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ now: "2026-03-06T12:00:00Z", file: job("Yearly", "0 0 1 1 *") })
      let writes = 0
      const counting = CronStore.of({
        ...world.store,
        advance: (batch) =>
          Effect.andThen(
            Effect.sync(() => writes++),
            world.store.advance(batch)
          ),
        saveStates: (states) =>
          Effect.andThen(
            Effect.sync(() => writes++),
            world.store.saveStates(states)
          )
      })
      const { stop } = yield* world.start(counting)
      const before = writes
      yield* TestClock.adjust("7 days")
      assert.deepStrictEqual(world.begun, [])
      assert.strictEqual(writes, before)
      yield* stop
    })
  )

  const rules: ReadonlyArray<readonly [string, ReadonlyArray<string>, number]> = [
    ["skip", ["A 03-06T13:00 missed", "A 03-06T14:00 missed", "A 03-06T15:00 missed", "A 03-06T16:00 ran"], 1],
    ["once", ["A 03-06T13:00 missed", "A 03-06T14:00 missed", "A 03-06T15:00 ran", "A 03-06T16:00 ran"], 2],
    ["all", ["A 03-06T13:00 ran", "A 03-06T14:00 ran", "A 03-06T15:00 ran", "A 03-06T16:00 ran"], 4]
  ]
  for (const [rule, expected, runs] of rules) {
    it.effect(`after a time away, catch-up ${rule}`, () =>
      Effect.gen(function* () {
        const world = yield* World.make({
          now: "2026-03-06T12:30:00Z",
          file: job("A", "0 * * * *", `**Catch-up**: ${rule}\n`)
        })
        yield* (yield* world.start()).stop
        yield* TestClock.setTime(at("2026-03-06T15:20:00Z"))
        const { stop } = yield* world.start()
        yield* TestClock.adjust("1 hour")
        assert.deepStrictEqual(yield* world.record, expected)
        assert.strictEqual(world.begun.length, runs)
        yield* stop
      })
    )
  }

  it.effect("puts a long absence on record in few words", () =>
    Effect.gen(function* () {
      const world = yield* World.make({
        now: "2026-01-01T00:00:30Z",
        file: job("Once", "* * * * *") + job("All", "* * * * *", "**Catch-up**: all\n")
      })
      yield* (yield* world.start()).stop
      yield* TestClock.setTime(at("2026-02-01T00:00:30Z"))
      const { stop } = yield* world.start()
      yield* Effect.repeat(TestClock.adjust("10 millis"), { times: 200 })
      const runs = yield* world.store.runs({ key: "once", limit: 500 })
      assert.strictEqual(runs.length, 21)
      assert.match(runs.at(-1)?.reason ?? "", /before it; the run of 2026-02-01T00:00:00.000Z stands for it/)
      // A hundred run; what came before them is on record too.
      const all = yield* world.store.runs({ key: "all", limit: 500 })
      assert.strictEqual(all.length, 101)
      assert.strictEqual(all.at(-1)?.status, "missed")
      assert.match(all.at(-1)?.reason ?? "", /and so were slots before it/)
      assert.strictEqual(world.begun.length, 101)
      yield* stop
    })
  )

  const overlaps: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
    ["skip", ["A 03-06T12:10 ran", "A 03-06T12:20 skipped", "A 03-06T12:30 skipped", "A 03-06T12:40 ran"]],
    ["queue", ["A 03-06T12:10 ran", "A 03-06T12:20 ran", "A 03-06T12:30 ran", "A 03-06T12:40 running"]],
    ["kill", ["A 03-06T12:10 failed", "A 03-06T12:20 failed", "A 03-06T12:30 failed", "A 03-06T12:40 running"]]
  ]
  for (const [rule, expected] of overlaps) {
    it.effect(`when a job takes longer than its period, overlap ${rule}`, () =>
      Effect.gen(function* () {
        const world = yield* World.make({
          now: "2026-03-06T12:05:00Z",
          file: job("A", "*/10 * * * *", `**Overlap**: ${rule}\n**Timeout**: 1h\n`)
        })
        let inside = 0
        world.script.run = () =>
          Effect.acquireUseRelease(
            Effect.sync(() => assert.strictEqual(++inside, 1)),
            () => Effect.as(Effect.sleep(rule === "skip" ? "25 minutes" : "12 minutes"), { text: "" }),
            () => Effect.sync(() => inside--)
          )
        const { stop } = yield* world.start()
        yield* TestClock.adjust(rule === "skip" ? "68 minutes" : "43 minutes")
        assert.deepStrictEqual((yield* world.record).slice(0, 4), expected)
        yield* stop
      })
    )
  }

  it.effect("ends what takes too long", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ now: "2026-03-06T12:00:30Z", file: job("A", "@hourly", "**Timeout**: 90s\n") })
      world.script.run = World.takes(5)
      const { stop } = yield* world.start()
      yield* TestClock.adjust("62 minutes")
      const [run] = yield* world.store.runs({ limit: 1 })
      assert.deepInclude(run, {
        status: "failed",
        reason: "it took longer than 90 s and was ended",
        ended: at("2026-03-06T13:01:30Z")
      })
      yield* stop
    })
  )

  it.effect("pauses after failures, suspends after five with one notice, and goes on when enabled", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ now: "2026-03-06T12:00:30Z", file: job("A", "* * * * *") })
      world.script.run = World.fails
      const { cron, stop } = yield* world.start()
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual(
        world.begun.map((each) => new Date(each.now).toISOString().slice(11, 16)),
        ["12:01", "12:02", "12:04", "12:08", "12:16"]
      )
      const runs = yield* world.store.runs({ limit: 500 })
      const notices = runs.filter((run) => /suspended/.test(run.reason ?? ""))
      assert.deepStrictEqual(
        notices.map((run) => run.status),
        ["failed"]
      )
      assert.isFalse(notices[0]?.acknowledged)
      const view = (yield* cron.show("A")).view
      assert.strictEqual(view.failures, 5)
      assert.match(view.suspended?.reason ?? "", /cron enable "A"/)
      assert.deepStrictEqual(view.next, [])
      world.script.run = World.done
      const enabled = yield* cron.setEnabled("a", true)
      assert.isUndefined(enabled.suspended)
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual((yield* world.record).slice(-2), ["A 03-06T14:01 ran", "A 03-06T14:02 ran"])
      yield* stop
    })
  )

  it.effect("remembers a suspension over restarts, until the job is edited", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ now: "2026-03-06T12:00:30Z", file: job("A", "@hourly") })
      world.script.run = World.fails
      const first = yield* world.start()
      yield* TestClock.adjust("5 hours")
      yield* first.stop
      world.script.run = World.done
      const { cron, stop } = yield* world.start()
      yield* TestClock.adjust("3 hours")
      assert.strictEqual(world.begun.length, 5)
      yield* cron.edit("A", { command: "do it better" })
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(world.begun.length, 6)
      yield* stop
    })
  )

  it.effect("repeats nothing when the clock goes back, and waits for no wrong year", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ now: "2026-03-06T12:00:30Z", file: job("A", "*/10 * * * *") })
      const { stop } = yield* world.start()
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(world.begun.length, 6)
      world.wall.shiftMs = -55 * 60_000
      yield* TestClock.adjust("54 minutes")
      assert.strictEqual(world.begun.length, 6)
      yield* TestClock.adjust("11 minutes")
      assert.strictEqual(world.begun.length, 7)
      // A year ahead: one run makes up for all; back again: on as before.
      world.wall.shiftMs += 365 * 86_400_000
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(world.begun.length, 8)
      world.wall.shiftMs -= 365 * 86_400_000
      yield* TestClock.adjust("20 minutes")
      assert.deepStrictEqual((yield* world.record).slice(-2), ["A 03-06T13:20 ran", "A 03-06T13:30 ran"])
      assert.strictEqual(new Set(world.begun.map((each) => each.slot)).size, world.begun.length)
      yield* stop
    })
  )

  it.effect("does not catch up for a schedule that was edited, added, or enabled", () =>
    Effect.gen(function* () {
      const world = yield* World.make({
        now: "2026-03-06T12:00:00Z",
        file: job("Edited", "0 0 1 1 *") + job("Off", "@hourly", "**Enabled**: no\n")
      })
      const { cron, stop } = yield* world.start()
      yield* TestClock.adjust("10 days")
      yield* world.memory.write(`${job("Edited", "0 6 * * *")}${job("Off", "@hourly")}${job("New", "0 7 * * *")}`)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(world.begun, [])
      assert.strictEqual((yield* cron.list({})).jobs.length, 3)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(
        world.begun.map((each) => each.job.name),
        ["Off"]
      )
      yield* stop
    })
  )

  it.effect("loses no slot and no suspension to an editor that saves in two steps", () =>
    Effect.gen(function* () {
      const file = job("A", "@hourly") + job("Sick", "*/5 * * * *")
      const world = yield* World.make({ now: "2026-03-06T12:30:30Z", file })
      world.script.run = (request) => (request.job.name === "Sick" ? World.fails(request) : World.done(request))
      const { cron, stop } = yield* world.start()
      yield* TestClock.setTime(at("2026-03-06T12:59:30Z"))
      for (let count = 0; count < 5; count++) yield* TestClock.adjust("2 hours")
      assert.isDefined((yield* cron.show("Sick")).view.suspended)
      // Emptied, and written anew: an editor is between the two when the slot comes.
      yield* TestClock.setTime(at("2026-03-06T22:59:59.500Z"))
      yield* world.memory.write("")
      yield* TestClock.adjust("1 second")
      assert.lengthOf((yield* cron.list({})).jobs, 0)
      yield* world.memory.write(file)
      yield* Effect.repeat(TestClock.adjust("1 second"), { times: 10 })
      const slots = (yield* world.record).filter((each) => each.startsWith("A "))
      assert.strictEqual(slots.at(-1), "A 03-06T23:00 ran")
      assert.isDefined((yield* cron.show("Sick")).view.suspended)
      // What is gone for good is forgotten, and comes back as new.
      yield* world.memory.write("")
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(yield* world.store.states, [])
      yield* world.memory.write(file)
      yield* TestClock.adjust("10 seconds")
      assert.isUndefined((yield* cron.show("Sick")).view.suspended)
      // So does one that a client removes and adds again.
      const { view } = yield* cron.show("A")
      yield* TestClock.setTime(at("2026-03-06T23:59:59.500Z"))
      yield* cron.remove("A")
      yield* TestClock.adjust("1 second")
      yield* cron.add(view.job)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* world.record).filter((each) => each.startsWith("A ")).at(-1), "A 03-06T23:00 ran")
      yield* stop
    })
  )

  it.effect("keeps the last good file, over a restart too, and says what is wrong with the new one", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ now: "2026-03-06T12:00:30Z", file: job("A", "@hourly") })
      const first = yield* world.start()
      yield* world.memory.write("## A\n**Schedule**: 0 99 * * *\n**Command**: x\n")
      yield* TestClock.adjust("1 hour")
      yield* first.stop
      const { cron, stop } = yield* world.start()
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(world.begun.length, 2)
      const { file, jobs } = yield* cron.list({})
      assert.deepInclude(file.problems[0], { line: 2, column: 17 })
      assert.deepStrictEqual(
        jobs.map((view) => view.job.schedule),
        ["@hourly"]
      )
      const added = yield* Effect.flip(cron.add({ name: "B", schedule: "@daily", command: "x" }))
      assert.strictEqual(added.reason, "BadFile")
      yield* world.memory.write(job("B", "@hourly"))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(world.begun.at(-1)?.job.name, "B")
      yield* stop
    })
  )

  it.effect("runs @reboot once at each start, and @at once at all", () =>
    Effect.gen(function* () {
      const world = yield* World.make({
        now: "2026-03-06T12:00:30Z",
        file: job("Boot", "@reboot") + job("Soon", "@at 2026-03-06T13:30")
      })
      const first = yield* world.start()
      yield* TestClock.adjust("3 hours")
      yield* first.stop
      const { cron, stop } = yield* world.start()
      yield* TestClock.adjust("1 day")
      assert.deepStrictEqual(
        world.begun.map((each) => each.job.name),
        ["Boot", "Soon", "Boot"]
      )
      assert.match((yield* cron.show("Soon")).view.suspended?.reason ?? "", /has passed/)
      yield* stop
    })
  )

  it.effect("runs a job on demand once for each request, and tells its end to whoever asks", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ now: "2026-03-06T12:00:30Z", file: job("A", "@yearly", "**Enabled**: no\n") })
      world.script.run = World.takes(5)
      const { cron, stop } = yield* world.start()
      const id = "00000000-0000-4000-8000-000000000001"
      const ask = Effect.forkChild(Stream.runCollect(cron.run("a", id)))
      const one = yield* ask
      yield* TestClock.adjust("1 minute")
      const two = yield* ask
      const gone = yield* Effect.forkChild(Stream.runCollect(Stream.take(cron.run("A", id), 1)))
      yield* Fiber.join(gone)
      yield* TestClock.adjust("5 minutes")
      for (const fiber of [one, two]) {
        const events = yield* Fiber.join(fiber)
        assert.deepStrictEqual(
          events.map((event) => event._tag),
          ["Started", "Ended"]
        )
        assert.deepInclude(events[1]?.run, { status: "ran", text: "did A" })
      }
      assert.strictEqual(world.begun.length, 1)
      const late = yield* Stream.runCollect(cron.run("A", id))
      assert.strictEqual(late[1]?.run.status, "ran")
      yield* stop
    })
  )

  it.effect("pushes results until they are acknowledged, and those that come", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ now: "2026-03-06T12:00:30Z", file: job("A", "@hourly") })
      const { cron, stop } = yield* world.start()
      yield* TestClock.adjust("2 hours")
      const seen: Array<Run> = []
      const follow = Stream.runForEach(cron.results({ follow: true }), (run) =>
        Effect.andThen(
          Effect.sync(() => seen.push(run)),
          cron.acknowledge([run.id])
        )
      )
      const client = yield* Effect.forkChild(follow)
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual(seen.map(World.short), ["03-06T13:00", "03-06T14:00", "03-06T15:00", "03-06T16:00"])
      assert.deepStrictEqual(yield* Stream.runCollect(cron.results({})), [])
      yield* Fiber.interrupt(client)
      yield* TestClock.adjust("1 hour")
      const left = yield* Stream.runCollect(cron.results({}))
      assert.deepStrictEqual(
        left.map((run) => run.text),
        ["did A"]
      )
      yield* stop
    })
  )

  it.effect("survives a runner with a bug, and a database that fails for a while", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ now: "2026-03-06T12:00:30Z", file: job("A", "@hourly") + job("B", "@hourly") })
      world.script.run = ({ job: { name } }) =>
        name === "A" ? Effect.die(new Error("oops")) : Effect.succeed({ text: "fine" })
      let down = false
      const broken = Effect.fail(new CronStoreError({ message: "the disk is full" }))
      const store = CronStore.of({
        ...world.store,
        advance: (batch) => (down ? broken : world.store.advance(batch)),
        begin: (id) => (down ? broken : world.store.begin(id)),
        end: (id, end) => (down ? broken : world.store.end(id, end))
      })
      const { stop } = yield* world.start(store)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual((yield* world.record).toSorted(), ["A 03-06T13:00 failed", "B 03-06T13:00 ran"])
      down = true
      yield* TestClock.adjust("1 hour")
      down = false
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual((yield* world.record).slice(2).toSorted(), ["A 03-06T14:00 failed", "B 03-06T14:00 ran"])
      yield* stop
    })
  )

  it.effect("keeps ten thousand jobs apart, few of them running at a time", () =>
    Effect.gen(function* () {
      const file = Array.from({ length: 10_000 }, (_, n) => job(`Job ${n}`, `${n % 5} ${n % 20} * * *`)).join("")
      const world = yield* World.make({ now: "2026-03-06T23:59:30Z", file })
      let inside = 0
      let most = 0
      world.script.run = () =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            most = Math.max(most, ++inside)
          }),
          () => Effect.as(Effect.yieldNow, { text: "x" }),
          () => Effect.sync(() => inside--)
        )
      const { stop } = yield* world.start()
      yield* TestClock.adjust("2 hours")
      // Virtual time does not wait for what so many runs take.
      for (let turn = 0; turn < 5000 && world.begun.length < 1000; turn++) yield* TestClock.adjust(1)
      assert.strictEqual(world.begun.length, 1000)
      assert.strictEqual(new Set(world.begun.map((each) => each.job.name)).size, 1000)
      assert.isAtMost(most, 4)
      yield* stop
    })
  )

  it.effect("shares slots with a twin on the same home: each is begun by one", () =>
    Effect.gen(function* () {
      const world = yield* World.make({
        now: "2026-03-06T12:30:00Z",
        file: job("A", "*/10 * * * *") + job("B", "*/20 * * * *", "**Overlap**: queue\n")
      })
      world.script.run = World.takes(3)
      const one = yield* world.start()
      const two = yield* world.start()
      yield* TestClock.adjust("3 hours")
      yield* TestClock.adjust("4 minutes")
      const slots = world.begun.map((each) => `${each.job.name} ${each.slot}`)
      assert.strictEqual(slots.length, 18 + 9)
      assert.strictEqual(new Set(slots).size, slots.length)
      for (const line of yield* world.record) assert.match(line, / ran$/)
      yield* one.stop
      yield* two.stop
    })
  )

  it.effect("says so when it is stopped in the middle", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ now: "2026-03-06T12:59:30Z", file: job("A", "@hourly") })
      world.script.run = World.takes(5)
      const { stop } = yield* world.start()
      yield* TestClock.adjust("1 minute")
      yield* stop
      const [run] = yield* world.store.runs({ limit: 1 })
      assert.deepInclude(run, { status: "failed", reason: "the assistant was stopped while it ran" })
      yield* (yield* world.start()).stop
      assert.strictEqual(world.begun.length, 1)
    })
  )
})

/** The record of a program that is killed at the `step`th thing it does with it: just before it, or just after. */
const dying = (store: CronStore["Service"], step: number, before: boolean, die: Effect.Effect<unknown>) => {
  let steps = 0
  let dead = false
  const through = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      if (dead) return Effect.interrupt
      if (++steps !== step) return effect
      const end = Effect.suspend(() => {
        dead = true
        return Effect.andThen(die, Effect.interrupt)
      })
      return before ? end : Effect.andThen(effect, end)
    })
  const wrapped = CronStore.of({
    ...store,
    advance: (batch) => through(store.advance(batch)),
    begin: (id) => through(store.begin(id)),
    end: (id, end) => through(store.end(id, end)),
    saveStates: (states) => through(store.saveStates(states)),
    sweep: through(store.sweep),
    states: through(store.states),
    keepGood: (text) => through(store.keepGood(text)),
    get: (id) => through(store.get(id))
  })
  return { wrapped, isDead: () => dead }
}

describe("a crash at every step", () => {
  const file = job("All", "@hourly", "**Catch-up**: all\n") + job("Once", "30 * * * *", "**Overlap**: queue\n")
  for (const before of [true, false]) {
    it.effect(`never runs a slot twice, and has each on record: killed ${before ? "before" : "after"} each`, () =>
      Effect.gen(function* () {
        let deaths = 0
        for (let step = 1; step <= 40; step++) {
          const world = yield* World.make({ now: "2026-03-06T12:10:00Z", file })
          world.script.run = World.takes(7)
          const { isDead, wrapped } = dying(world.store, step, before, Effect.void)
          const first = yield* Effect.exit(world.start(wrapped))
          yield* TestClock.adjust("3 hours")
          if (first._tag === "Success") yield* first.value.stop
          if (isDead()) deaths++
          const crashed = world.begun.length
          // Whoever dies while a job runs leaves it begun: nobody can know how far it came.
          const { stop } = yield* world.start()
          yield* TestClock.adjust("2 hours")
          yield* stop
          const where = `killed at step ${step}, ${crashed} begun before`
          const slots = world.begun.map((each) => `${each.job.name} ${each.slot}`)
          assert.strictEqual(new Set(slots).size, slots.length, where)
          const runs = yield* world.store.runs({ limit: 1000 })
          for (const run of runs) {
            assert.include(["ran", "failed", "missed", "unknown"], run.status, `${where}: ${run.job} ${run.slot}`)
            const wasBegun = slots.includes(`${run.job} ${run.slot}`)
            if (["ran", "failed"].includes(run.status)) assert.isTrue(wasBegun, where)
            if (run.status === "missed") assert.isFalse(wasBegun, where)
          }
          const known = new Set(runs.map((run) => `${run.job} ${World.short(run)}`))
          for (const slot of slots) {
            assert.isTrue(
              runs.some((run) => `${run.job} ${run.slot}` === slot),
              `${where}: ${slot} is not on record`
            )
          }
          // A job is known from the moment that the program first saw it; from then on no slot is lost.
          const seen = first._tag === "Success" || crashed > 0
          if (seen) {
            for (const hour of [13, 14, 15, 16, 17])
              assert.isTrue(known.has(`All 03-06T${hour}:00`), `${where}: All ${hour}`)
            for (const hour of [12, 13, 14, 15, 16])
              assert.isTrue(known.has(`Once 03-06T${hour}:30`), `${where}: Once ${hour}`)
          }
        }
        assert.isAbove(deaths, 20)
      })
    )
  }
})
