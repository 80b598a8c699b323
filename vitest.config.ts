import { configDefaults, defineConfig } from "vitest/config"

/** They start the program, and take the longest, so they come first: projects run in the order of their names. */
const PROCESSES = ["processes", "outside", "nat"].map((folder) => `test/${folder}/**/*.test.ts`)

export default defineConfig({
  test: {
    pool: "forks",
    // One more than the least that a machine has: tests of processes wait for half of their time.
    maxWorkers: 3,
    // After these something hangs, on however busy a machine.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    reporters: ["default", "./tools/CountReporter.ts"],
    projects: [
      { extends: true, test: { name: "processes", include: PROCESSES, globalSetup: "./test/Built.ts" } },
      {
        extends: true,
        test: { name: "the rest", include: ["test/**/*.test.ts"], exclude: [...configDefaults.exclude, ...PROCESSES] }
      }
    ]
  }
})
