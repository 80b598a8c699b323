/** Ends a run with one plain line, `N passed, N failed`, that scripts can read. */
import type { Reporter, TestModule } from "vitest/node"

export default class CountReporter implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, unhandled: ReadonlyArray<unknown>): void {
    let passed = 0
    let skipped = 0
    let failed = unhandled.length
    for (const module of modules) {
      const before = failed
      for (const test of module.children.allTests()) {
        const state = test.result().state
        if (state === "passed") passed++
        else if (state === "failed") failed++
        else skipped++
      }
      if (module.state() === "failed" && failed === before) failed++
    }
    const tail = skipped > 0 ? `, ${skipped} skipped` : ""
    process.stdout.write(`\n${passed} passed, ${failed} failed${tail}\n`)
  }
}
