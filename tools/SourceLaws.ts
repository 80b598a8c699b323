/**
 * Laws within a file of `src/`. Everywhere: no `any`, no casts by way of `unknown`, no silenced checks. Outside
 * `src/layers` and `src/main.ts`: no ambient clock, randomness, environment, console or timers; they arrive as
 * arguments or services, so that a test can give its own.
 */
import * as Syntax from "./Syntax.ts"

export type Law = "ambient" | "cast" | "silenced"

export interface Finding {
  readonly line: number
  readonly law: Law
  readonly remedy: string
}

const CLOCK = "time comes from Clock, or as an argument"
const RANDOM = "randomness comes from Crypto's entropy, or as an argument"
const ENVIRONMENT = "the environment is read once, in src/layers or src/main.ts"
const OUTPUT = "print with effect/Console, log with Effect.log"
const TIMER = "wait with Effect.sleep or Schedule"

/** Members of globals that reach the host. */
const MEMBERS: Readonly<Record<string, string>> = {
  "Date.now": CLOCK,
  "performance.now": CLOCK,
  "process.hrtime": CLOCK,
  "Math.random": RANDOM,
  "crypto.getRandomValues": RANDOM,
  "crypto.randomUUID": RANDOM,
  "process.env": ENVIRONMENT
}
const TIMERS: ReadonlyArray<string> = ["setTimeout", "setInterval", "setImmediate"]
/** Names of those members when imported from their module. */
const IMPORTED: Readonly<Record<string, string>> = { env: ENVIRONMENT, hrtime: CLOCK, performance: CLOCK }

/** Names a file declares itself; a use of one of them is not the global. Scopes are not told apart. */
const declared = (source: Syntax.Source): Set<string> => {
  const names = new Set<string>()
  const bind = (pattern: Syntax.Node | undefined): void => {
    if (pattern === undefined) return
    const name = Syntax.text(pattern, "name")
    if (pattern.type === "Identifier" && name !== undefined) names.add(name)
    for (const each of Syntax.children(pattern, "elements")) bind(each)
    for (const each of Syntax.children(pattern, "properties")) bind(Syntax.child(each, "value") ?? each)
    bind(Syntax.child(pattern, "left"))
    bind(Syntax.child(pattern, "argument"))
  }
  for (const node of source.nodes) {
    if (node.type === "VariableDeclarator" || /^(Function|Class)Declaration$/.test(node.type))
      bind(Syntax.child(node, "id"))
    for (const each of Syntax.children(node, "params")) bind(each)
  }
  for (const node of source.nodes) {
    if (node.type !== "ImportDeclaration") continue
    if (/^(node:)?(process|console|timers|perf_hooks)/.test(Syntax.literal(Syntax.child(node, "source")) ?? ""))
      continue
    for (const each of Syntax.children(node, "specifiers")) bind(Syntax.child(each, "local"))
  }
  return names
}

const ambient = (source: Syntax.Source): Array<Finding> => {
  const found: Array<Finding> = []
  const own = declared(source)
  const report = (node: Syntax.Node, remedy: string): void => {
    found.push({ line: Syntax.line(node), law: "ambient", remedy })
  }
  /** The global a node names, also by way of globalThis. */
  const globalName = (node: Syntax.Node | undefined): string | undefined => {
    if (node?.type === "Identifier") {
      const name = Syntax.text(node, "name")
      return name === undefined || own.has(name) ? undefined : name
    }
    if (node === undefined || !/^(Optional)?MemberExpression$/.test(node.type)) return undefined
    const object = Syntax.child(node, "object")
    return object !== undefined && Syntax.text(object, "name") === "globalThis" ? property(node) : undefined
  }
  const property = (node: Syntax.Node): string | undefined => {
    const key = Syntax.child(node, "property")
    return node.computed === true ? Syntax.literal(key) : Syntax.text(key, "name")
  }
  const flagTimer = (node: Syntax.Node, name: string | undefined): void => {
    if (name !== undefined && TIMERS.includes(name)) report(node, `${name}: ${TIMER}`)
  }

  for (const node of source.nodes) {
    if (/^(Optional)?MemberExpression$/.test(node.type)) {
      const object = globalName(Syntax.child(node, "object"))
      const path = `${object}.${property(node)}`
      const remedy = Object.hasOwn(MEMBERS, path) ? MEMBERS[path] : undefined
      if (remedy !== undefined) report(node, `${path}: ${remedy}`)
      if (object === "console") report(node, `console: ${OUTPUT}`)
      flagTimer(node, globalName(node))
    }
    if (/^(Optional)?CallExpression$/.test(node.type)) {
      const callee = Syntax.child(node, "callee")
      if (callee?.type === "Identifier") flagTimer(node, globalName(callee))
      if (callee?.type === "Identifier" && globalName(callee) === "Date") report(node, `Date(): ${CLOCK}`)
      // A timer handed on rather than called.
      for (const each of Syntax.children(node, "arguments"))
        if (each.type === "Identifier") flagTimer(each, globalName(each))
    }
    if (node.type === "NewExpression" && Syntax.children(node, "arguments").length === 0)
      if (globalName(Syntax.child(node, "callee")) === "Date") report(node, `new Date(): ${CLOCK}`)
    if (node.type === "VariableDeclarator") {
      const init = Syntax.child(node, "init")
      const from = globalName(init)
      if (init?.type === "Identifier") flagTimer(node, from)
      if (from === "console") report(node, `console: ${OUTPUT}`)
      for (const each of Syntax.children(Syntax.child(node, "id") ?? node, "properties")) {
        const path = `${from}.${Syntax.text(Syntax.child(each, "key"), "name")}`
        const remedy = Object.hasOwn(MEMBERS, path) ? MEMBERS[path] : undefined
        if (remedy !== undefined) report(each, `${path}: ${remedy}`)
      }
    }
    if (node.type === "ImportDeclaration" && Syntax.text(node, "importKind") !== "type") {
      const from = Syntax.literal(Syntax.child(node, "source")) ?? ""
      if (/^(node:)?timers/.test(from)) report(node, TIMER)
      if (/^(node:)?console$/.test(from)) report(node, `console: ${OUTPUT}`)
      if (/^(node:)?(process|perf_hooks)$/.test(from))
        for (const each of Syntax.children(node, "specifiers")) {
          const name = Syntax.text(Syntax.child(each, "imported"), "name") ?? ""
          const remedy = Object.hasOwn(IMPORTED, name) ? IMPORTED[name] : undefined
          if (remedy !== undefined) report(each, `${name}: ${remedy}`)
        }
    }
  }
  return found
}

/** Every breach of these laws in one file; `file` is relative to the root, with forward slashes. */
export const check = (file: string, source: Syntax.Source): Array<Finding> => {
  const found: Array<Finding> = []
  for (const node of source.nodes) {
    const line = Syntax.line(node)
    if (node.type === "TSAnyKeyword")
      found.push({ line, law: "cast", remedy: "any: say the type, or unknown and narrow it" })
    if (node.type === "TSAsExpression" || node.type === "TSTypeAssertion") {
      const inner = Syntax.child(node, "expression")
      if (inner !== undefined && (inner.type === "TSAsExpression" || inner.type === "TSTypeAssertion"))
        if (Syntax.child(inner, "typeAnnotation")?.type === "TSUnknownKeyword")
          found.push({ line, law: "cast", remedy: "as unknown as: mend the types, or decode with Schema" })
    }
  }
  for (const comment of source.comments)
    if (/@ts-(ignore|expect-error|nocheck)/.test(comment.text))
      found.push({ line: comment.line, law: "silenced", remedy: "mend what the checker says" })
  if (!file.startsWith("src/layers/") && file !== "src/main.ts") found.push(...ambient(source))
  return found
}
