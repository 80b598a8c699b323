/** `node bench/run.ts [--json] [name ...]`: measures and prints; without names everything. See README.md. */
import * as os from "node:os"
import { parseArgs } from "node:util"
import { type Bench, type Report, table } from "./Harness.ts"

const benches: Readonly<Record<string, () => Promise<{ readonly bench: Bench }>>> = {
  crypto: () => import("./Crypto.ts"),
  transport: () => import("./Transport.ts"),
  memory: () => import("./Memory.ts"),
  startup: () => import("./Startup.ts")
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean", default: false } }
})
const names = positionals.length > 0 ? positionals : Object.keys(benches)
const unknown = names.filter((name) => !Object.hasOwn(benches, name))

if (unknown.length > 0) {
  console.error(`no such benchmark: ${unknown.join(", ")} (there are ${Object.keys(benches).join(", ")})`)
  process.exitCode = 2
} else {
  const host = {
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpus: os.cpus().length,
    cpu: os.cpus()[0]?.model ?? ""
  }
  if (!values.json) console.log(`Node ${host.node}, ${host.platform}, ${host.cpus} x ${host.cpu}`)
  const reports: Record<string, Report> = {}
  for (const name of names) {
    const found = await benches[name]?.()
    if (found === undefined) continue
    const report = await found.bench.measure()
    reports[name] = report
    if (!values.json) console.log(`\n${table(found.bench.name, report)}`)
  }
  if (values.json) console.log(JSON.stringify({ host, reports }, undefined, 2))
}
