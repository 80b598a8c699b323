/** `node bench/run.ts [options] [name ...]`: measures and prints; without names everything. See README.md. */
import * as os from "node:os"
import { parseArgs } from "node:util"
import { type Bench, type Options, type Report, table } from "./Harness.ts"
import * as Results from "./Results.ts"

const benches: Readonly<Record<string, () => Promise<{ readonly bench: Bench }>>> = {
  crypto: () => import("./Crypto.ts"),
  packets: () => import("./Packets.ts"),
  transport: () => import("./Transport.ts"),
  fairness: () => import("./Fairness.ts"),
  connect: () => import("./Connect.ts"),
  crowd: () => import("./Crowd.ts"),
  memory: () => import("./Memory.ts"),
  sealed: () => import("./Sealed.ts"),
  files: () => import("./Files.ts"),
  transcript: () => import("./Transcript.ts"),
  startup: () => import("./Startup.ts")
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    full: { type: "boolean", default: false },
    rounds: { type: "string" },
    seconds: { type: "string" },
    only: { type: "string", multiple: true, default: [] },
    ours: { type: "string", multiple: true, default: [] }
  }
})
const names = positionals.length > 0 ? positionals : Object.keys(benches)
const unknown = names.filter((name) => !Object.hasOwn(benches, name))
const count = (text: string | undefined): number | undefined => (text === undefined ? undefined : Number(text))
const list = (texts: ReadonlyArray<string>): ReadonlyArray<string> =>
  texts.flatMap((text) => text.split(";")).map((word) => word.trim())
const options: Options = {
  rounds: count(values.rounds),
  seconds: count(values.seconds),
  full: values.full,
  only: list(values.only),
  ours: list(values.ours)
}

// Children and links end when their parent does; an exit by signal would skip the sweeping of temporary folders.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130))

if (unknown.length > 0) {
  console.error(`no such benchmark: ${unknown.join(", ")} (there are ${Object.keys(benches).join(", ")})`)
  process.exitCode = 2
} else if ([options.rounds, options.seconds].some((n) => n !== undefined && !(n > 0))) {
  console.error("--rounds and --seconds take a number above 0")
  process.exitCode = 2
} else {
  const host = {
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    kernel: os.release(),
    cpus: os.cpus().length,
    cpu: os.cpus()[0]?.model.trim() ?? ""
  }
  const line = `Node ${host.node}, ${host.platform} (${host.kernel}), ${host.cpus} x ${host.cpu}`
  if (!values.json) console.log(line)
  const reports: Record<string, Report> = {}
  for (const name of names) {
    const found = await benches[name]?.()
    if (found === undefined) continue
    const report = await found.bench.measure(options)
    reports[name] = report
    if (!values.json) console.log(`\n${table(found.bench.name, report)}`)
    if (values.write) Results.write(name, table(found.bench.name, report), line)
  }
  if (values.json) console.log(JSON.stringify({ host, reports }, undefined, 2))
}
