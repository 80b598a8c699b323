import { spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"

const program = path.resolve(import.meta.dirname, "ScreenProgram.ts")
// util-linux gives a program a terminal with script(1); other systems' take other arguments.
const hasTerminal = process.platform === "linux" && spawnSync("script", ["--version"]).status === 0

interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command; each step waits for its text in the output since the last step, then types. */
const run = (
  command: string,
  args: ReadonlyArray<string>,
  steps: ReadonlyArray<readonly [after: string, type: string]>,
  onStart: (child: ReturnType<typeof spawn>) => void = () => {}
): Promise<Outcome> =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { env: { ...process.env, TERM: "xterm", COLUMNS: "80" } })
    let stdout = ""
    let stderr = ""
    let seen = 0
    let step = 0
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text
      for (let next = steps[step]; next !== undefined; next = steps[step]) {
        const at = stdout.indexOf(next[0], seen)
        if (at < 0) return
        seen = at + next[0].length
        step++
        child.stdin.write(next[1])
      }
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
    })
    child.stdin.on("error", () => {})
    child.on("error", reject)
    child.on("close", (code) => resolve({ code, stdout, stderr }))
    onStart(child)
  })

const node = (...args: ReadonlyArray<string>) => [program, ...args]

describe("ScreenNode in a pipe", () => {
  it("answers lines to standard output and nothing else", async () => {
    const { code, stderr, stdout } = await run(process.execPath, node("chat"), [], (child) =>
      child.stdin?.end("hello\r\n\nnaïve 🦀\n/usage\nlast")
    )
    assert.match(
      stdout,
      /^you said "hello"\nyou said "naïve 🦀"\n2 questions in this chat: 6 tokens in, 10 out\nconversation .*\n(.+\n)*you said "last"\n$/
    )
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
  })

  it("takes one question from the input", async () => {
    const { code, stdout } = await run(process.execPath, node("-"), [], (child) => child.stdin?.end("two\nlines\n"))
    assert.strictEqual(stdout, 'you said "two\\nlines"\n')
    assert.strictEqual(code, 0)
  })

  it("leaves the input alone when the question is an argument", async () => {
    const { code, stdout } = await run(process.execPath, node("hello"), [])
    assert.strictEqual(stdout, 'you said "hello"\n')
    assert.strictEqual(code, 0)
  })

  it("ends quietly when nobody reads any more", async () => {
    const { code, stderr } = await run(process.execPath, node("chat"), [], (child) => {
      child.stdin?.write("big 512\n".repeat(64))
      child.stdout?.once("data", () => child.stdout?.destroy())
    })
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
  })
})

describe.skipIf(!hasTerminal)(
  hasTerminal ? "ScreenNode at a terminal" : "ScreenNode at a terminal (skipped: script(1) of util-linux is not here)",
  () => {
    const atTerminal = async (steps: ReadonlyArray<readonly [string, string]>, lines: ReadonlyArray<string> = []) => {
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-screen-"))
      const history = path.join(folder, "history")
      if (lines.length > 0) fs.writeFileSync(history, lines.map((line) => `${line}\n`).join(""), { mode: 0o600 })
      try {
        const line = [process.execPath, program, "chat", history].map((word) => `'${word}'`).join(" ")
        const outcome = await run("script", ["-qec", line, "/dev/null"], steps)
        return { ...outcome, history: fs.readFileSync(history, "utf8"), mode: fs.statSync(history).mode & 0o777 }
      } finally {
        fs.rmSync(folder, { recursive: true, force: true })
      }
    }

    it("edits lines, keeps their history, and leaves with Ctrl-D", async () => {
      const { code, history, mode, stdout } = await atTerminal([
        ["main> ", "helxo\x1b[D\x7fl\r"],
        ['you said "hello"', ""],
        ["main> ", "\x1b[A\r"],
        ['you said "hello"', ""],
        ["main> ", "\x04"]
      ])
      assert.strictEqual(code, 0, stdout)
      assert.strictEqual(history, "hello\nhello\n")
      assert.strictEqual(mode, 0o600)
      assert.isTrue(stdout.includes("\x1b[?2004h") && stdout.includes("\x1b[?2004l"))
    })

    it("takes a pasted text as one message", async () => {
      const { code, stdout } = await atTerminal([
        ["main> ", "\x1b[200~one\ntwo\x1b[31m\r\nthree\x1b[201~"],
        ["three", "\r"],
        ['you said "one\\ntwo[31m\\nthree"', ""],
        ["main> ", "\x04"]
      ])
      assert.strictEqual(code, 0, stdout)
    })

    it("cancels with Ctrl-C and knows the lines of earlier sessions", async () => {
      const { code, stdout } = await atTerminal(
        [
          ["main> ", "\x1b[A\r"],
          ["w2", "\x03"],
          ["(cancelled)", ""],
          ["main> ", "\x03"],
          ["press Ctrl-D to leave", ""],
          ["main> ", "\x04"]
        ],
        ["older", "slow 1000"]
      )
      assert.strictEqual(code, 0, stdout)
      assert.notInclude(stdout, "w999")
    })

    it("draws the prompt and what is typed again below a notice", async () => {
      const { code, stdout } = await atTerminal([
        ["main (connecting)> ", ""],
        ["main> ", "slow 5\r"],
        ["w1", "typed ahead"],
        ["w4", ""],
        ["main> typed ahead", "\r"],
        ['you said "typed ahead"', ""],
        ["main> ", "\x04"]
      ])
      assert.strictEqual(code, 0, stdout)
    })
  }
)
