/**
 * Proves the laws of DESIGN 2 over `src/`: arrows between floors point down only, no circles (those of types included),
 * no barrels, Effect by path, heavy libraries loaded late. Together with SourceLaws it prints one line per breach,
 * `file:line: law: what to do`, and exits with 1 when there is any.
 *
 *     node tools/ImportLaws.ts [ROOT]
 */
import * as Fs from "node:fs"
import { isBuiltin } from "node:module"
import * as Path from "node:path"
import * as SourceLaws from "./SourceLaws.ts"
import * as Syntax from "./Syntax.ts"

export interface Breach {
  /** Relative to the root, with forward slashes. */
  readonly file: string
  readonly line: number
  readonly law: Law
  readonly remedy: string
}

export type Law =
  | "floor"
  | "host"
  | "circle"
  | "barrel"
  | "default-export"
  | "effect-by-path"
  | "path"
  | "lazy"
  | "dependency"
  | "syntax"
  | SourceLaws.Law

type Floor = "main" | "cli" | "programs" | "layers" | "services" | "domain" | "protocol"

/** What each floor may import. */
const DOWN: Readonly<Record<Floor, ReadonlyArray<Floor>>> = {
  main: ["cli", "programs", "services", "domain", "protocol"],
  cli: ["cli", "programs", "layers", "services", "domain", "protocol"],
  programs: ["programs", "services", "domain", "protocol"],
  layers: ["layers", "services", "domain", "protocol"],
  services: ["services", "domain", "protocol"],
  domain: ["domain", "protocol"],
  protocol: ["protocol"]
}

/** Floors that may know the host: node:*, its libraries, JSON files. */
const HOST: ReadonlyArray<Floor> = ["main", "cli", "layers"]
/** Libraries without a host, open to every floor from domain up. */
const PURE: ReadonlyArray<string> = ["effect", "yaml", "croner"]
/** Libraries whose loading costs start-up. */
const HEAVY: ReadonlyArray<string> = ["openai", "@anthropic-ai/sdk"]

interface Import {
  readonly specifier: string | undefined
  readonly line: number
  readonly typeOnly: boolean
  readonly dynamic: boolean
}

interface Edge {
  readonly to: string
  readonly line: number
}

const floorOf = (file: string): Floor | undefined => {
  if (file === "src/main.ts") return "main"
  if (file.startsWith("src/programs/cli/")) return "cli"
  if (file.startsWith("src/programs/")) return "programs"
  if (file.startsWith("src/layers/")) return "layers"
  if (file.startsWith("src/services/")) return "services"
  if (file.startsWith("src/domain/protocol/")) return "protocol"
  if (file.startsWith("src/domain/")) return "domain"
  return undefined
}

const packageOf = (specifier: string): string =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/")

const filesBelow = (root: string, folder: string): Array<string> => {
  const at = Path.join(root, folder)
  if (!Fs.existsSync(at)) return []
  return Fs.readdirSync(at, { withFileTypes: true, recursive: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => Path.relative(root, Path.join(entry.parentPath, entry.name)).split(Path.sep).join("/"))
    .sort()
}

const importsOf = (source: Syntax.Source): Array<Import> => {
  const found: Array<Import> = []
  for (const node of source.nodes) {
    const line = Syntax.line(node)
    const typeOnly = Syntax.text(node, "importKind") === "type" || Syntax.text(node, "exportKind") === "type"
    switch (node.type) {
      case "ImportDeclaration":
      case "ExportNamedDeclaration":
      case "ExportAllDeclaration": {
        const source = Syntax.child(node, "source")
        if (source !== undefined) found.push({ specifier: Syntax.literal(source), line, typeOnly, dynamic: false })
        break
      }
      case "ImportExpression":
        found.push({ specifier: Syntax.literal(Syntax.child(node, "source")), line, typeOnly: false, dynamic: true })
        break
      case "TSImportType":
        found.push({ specifier: Syntax.literal(Syntax.child(node, "source")), line, typeOnly: true, dynamic: false })
        break
      case "TSExternalModuleReference":
        found.push({ specifier: Syntax.literal(Syntax.child(node, "expression")), line, typeOnly, dynamic: false })
        break
    }
  }
  return found
}

const exportsOf = (source: Syntax.Source, report: (line: number, law: Law, remedy: string) => void): void => {
  const imported = new Set<string | undefined>()
  for (const node of source.nodes)
    if (/^Import.*Specifier$/.test(node.type)) imported.add(Syntax.text(Syntax.child(node, "local"), "name"))
  const name = (node: Syntax.Node | undefined): string | undefined => Syntax.text(node, "name") ?? Syntax.literal(node)
  for (const node of source.nodes) {
    const line = Syntax.line(node)
    if (node.type === "ExportAllDeclaration") report(line, "barrel", "import from the file that declares it")
    if (node.type === "ExportDefaultDeclaration" || node.type === "TSExportAssignment")
      report(line, "default-export", "export by name")
    if (node.type !== "ExportNamedDeclaration") continue
    const specifiers = Syntax.children(node, "specifiers")
    if (Syntax.child(node, "source") !== undefined) report(line, "barrel", "import from the file that declares it")
    else if (specifiers.some((each) => imported.has(name(Syntax.child(each, "local")))))
      report(line, "barrel", "what was imported is not exported again: import it from the file that declares it")
    if (specifiers.some((each) => name(Syntax.child(each, "exported")) === "default"))
      report(line, "default-export", "export by name")
  }
}

/** One shortest circle for each knot of files that reach each other. */
const circles = (graph: ReadonlyMap<string, ReadonlyArray<Edge>>): Array<ReadonlyArray<string>> => {
  const found: Array<ReadonlyArray<string>> = []
  const reported = new Set<string>()
  for (const start of graph.keys()) {
    if (reported.has(start)) continue
    const cameFrom = new Map<string, string>()
    const queue = [start]
    let closed = false
    while (queue.length > 0 && !closed) {
      const file = queue.shift() ?? start
      for (const { to } of graph.get(file) ?? []) {
        if (to === start) {
          const path: Array<string> = []
          for (let at = file; at !== start; at = cameFrom.get(at) ?? start) path.unshift(at)
          for (const each of [start, ...path]) reported.add(each)
          found.push([start, ...path, start])
          closed = true
          break
        }
        if (cameFrom.has(to)) continue
        cameFrom.set(to, file)
        queue.push(to)
      }
    }
  }
  return found
}

const dependenciesOf = (root: string): ReadonlySet<string> | undefined => {
  const manifest = Path.join(root, "package.json")
  if (!Fs.existsSync(manifest)) return undefined
  const parsed: { dependencies?: Record<string, string> } = JSON.parse(Fs.readFileSync(manifest, "utf8"))
  return new Set(Object.keys(parsed.dependencies ?? {}))
}

/** Every breach below `root`, by file and line. Throws only where the disk does. */
export const check = (root: string): ReadonlyArray<Breach> => {
  const breaches: Array<Breach> = []
  const dependencies = dependenciesOf(root)
  const graph = new Map<string, Array<Edge>>()
  const files = filesBelow(root, "src")

  for (const file of files) {
    const report = (line: number, law: Law, remedy: string): void => {
      breaches.push({ file, line, law, remedy })
    }
    if (/\.([cm]js|jsx?|[cm]ts|tsx)$/.test(file)) report(1, "path", "sources are .ts files")
    if (!file.endsWith(".ts")) continue
    const floor = floorOf(file)
    if (floor === undefined) {
      report(1, "floor", "belongs to no floor: move it to domain, services, layers, programs or programs/cli")
      continue
    }
    if (/(^|\/)index\.ts$/.test(file)) report(1, "barrel", "no index.ts: name the file by what it holds")

    let source: Syntax.Source
    try {
      source = Syntax.parse(Fs.readFileSync(Path.join(root, file), "utf8"))
    } catch (cause) {
      report(1, "syntax", `cannot be parsed: ${cause instanceof Error ? cause.message : String(cause)}`)
      continue
    }
    exportsOf(source, report)
    for (const each of SourceLaws.check(file, source)) report(each.line, each.law, each.remedy)

    const edges: Array<Edge> = []
    graph.set(file, edges)
    for (const { specifier, line, typeOnly, dynamic } of importsOf(source)) {
      if (specifier === undefined) {
        report(line, "path", "import() takes a literal, so that the laws can see it")
        continue
      }
      if (/^\.{1,2}(\/|$)/.test(specifier)) {
        const target = Path.posix.join(Path.posix.dirname(file), specifier)
        if (specifier.endsWith(".json") && HOST.includes(floor)) {
          if (!Fs.existsSync(Path.join(root, target))) report(line, "path", `${specifier} does not exist`)
          continue
        }
        if (!specifier.endsWith(".ts")) report(line, "path", `"${specifier}" must carry its .ts extension`)
        // The listing, not the disk, decides: it minds case on every system.
        else if (target.startsWith("src/") && !files.includes(target))
          report(line, "path", `${specifier} does not exist`)
        edges.push({ to: target, line })
        const targetFloor = floorOf(target)
        if (targetFloor === undefined || !DOWN[floor].includes(targetFloor))
          report(
            line,
            "floor",
            `${floor} may not import ${targetFloor ?? target}: only ${DOWN[floor].join(", ")} (types too)`
          )
        continue
      }
      if (isBuiltin(specifier)) {
        if (!HOST.includes(floor)) report(line, "host", `${floor} knows no host: put ${specifier} behind a service`)
        else if (!specifier.startsWith("node:")) report(line, "path", `write node:${specifier}`)
        continue
      }
      const name = packageOf(specifier)
      if (/^[#/]|^[a-z]+:/.test(specifier)) {
        report(line, "path", `"${specifier}": import files by relative path, packages by name`)
        continue
      }
      if (floor === "protocol") report(line, "floor", "domain/protocol imports only its own folder")
      else if (!HOST.includes(floor) && !PURE.includes(name))
        report(line, "host", `${floor} may use ${PURE.join(", ")} only: put ${name} behind a service`)
      if (/^(effect(\/[a-z][a-z-]*)?|effect\/.*\/index|@effect\/[^/]+)$/.test(specifier))
        report(line, "effect-by-path", `"${specifier}" loads a whole area: name the module, as in "effect/Effect"`)
      if (HEAVY.includes(name) && !dynamic && !typeOnly)
        report(line, "lazy", `load ${name} with import() where it is used (import type is free)`)
      if (dependencies !== undefined && !dependencies.has(name))
        report(line, "dependency", `${name} is not among the dependencies of package.json`)
    }
  }

  for (const circle of circles(graph)) {
    const [file, next] = circle
    if (file === undefined) continue
    const line = graph.get(file)?.find((edge) => edge.to === next)?.line ?? 1
    breaches.push({ file, line, law: "circle", remedy: `break ${circle.join(" -> ")}` })
  }
  return breaches.sort((a, b) => (a.file === b.file ? a.line - b.line : a.file < b.file ? -1 : 1))
}

export const format = (breach: Breach): string => `${breach.file}:${breach.line}: ${breach.law}: ${breach.remedy}`

if (import.meta.main) {
  const breaches = check(Path.resolve(process.argv[2] ?? Path.join(import.meta.dirname, "..")))
  for (const breach of breaches) console.log(format(breach))
  if (breaches.length > 0) process.exitCode = 1
}
