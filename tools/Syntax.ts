/** The little of a syntax tree that the laws need: every node with its children, whatever its kind. */
import { parse as babel } from "@babel/parser"

/** A node, seen without its kind's own type: fields are read one by one and checked. */
export interface Node {
  readonly type: string
  readonly [field: string]: unknown
}

export interface Source {
  readonly nodes: ReadonlyArray<Node>
  readonly comments: ReadonlyArray<{ readonly line: number; readonly text: string }>
}

const isNode = (value: unknown): value is Node =>
  typeof value === "object" && value !== null && "type" in value && typeof value.type === "string"

export const child = (node: Node, field: string): Node | undefined => {
  const value = node[field]
  return isNode(value) ? value : undefined
}

export const children = (node: Node, field: string): ReadonlyArray<Node> => {
  const value = node[field]
  return Array.isArray(value) ? value.filter(isNode) : []
}

export const text = (node: Node | undefined, field: string): string | undefined => {
  const value = node?.[field]
  return typeof value === "string" ? value : undefined
}

/** The line a node starts on, from 1. */
export const line = (node: Node): number => {
  const loc = node.loc
  if (typeof loc !== "object" || loc === null || !("start" in loc)) return 1
  const start = loc.start
  return typeof start === "object" && start !== null && "line" in start && typeof start.line === "number"
    ? start.line
    : 1
}

/** The text of a string literal, or of a template without holes. */
export const literal = (node: Node | undefined): string | undefined => {
  if (node?.type === "StringLiteral") return text(node, "value")
  if (node?.type !== "TemplateLiteral" || children(node, "expressions").length > 0) return undefined
  const value = children(node, "quasis")[0]?.value
  return typeof value === "object" && value !== null && "cooked" in value && typeof value.cooked === "string"
    ? value.cooked
    : undefined
}

/** Every node of a module, parents before children. Throws a SyntaxError on what is not TypeScript. */
export const parse = (code: string): Source => {
  const file = babel(code, { sourceType: "module", plugins: ["typescript"] })
  const nodes: Array<Node> = []
  const walk = (value: unknown): void => {
    if (Array.isArray(value)) for (const item of value) walk(item)
    else if (isNode(value)) {
      nodes.push(value)
      for (const [field, inner] of Object.entries(value)) if (!field.endsWith("omments")) walk(inner)
    }
  }
  walk(file.program)
  const comments = (file.comments ?? []).map((comment) => ({ line: comment.loc?.start.line ?? 1, text: comment.value }))
  return { nodes, comments }
}
