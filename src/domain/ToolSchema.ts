/** A tool's JSON Schema in the form that all providers take. Pure. */

type Json = { readonly [key: string]: unknown }

const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value)

/** Definitions within definitions; what lies deeper, or holds itself, takes anything. */
const maxDepth = 16

const definitionKeys = ["$defs", "definitions"]

/**
 * What only a validator reads. Bounds of texts and lists are among it: llama.cpp makes a grammar of all tools together, which
 * its own parser refuses from 2000 repetitions on; patterns with `\p` are unknown to servers written in Python. Who takes
 * the arguments checks them, and says what is wrong with them.
 */
const unsaid = new Set([
  ...["$schema", "$id", "$comment", "pattern", "minLength", "maxLength", "minItems", "maxItems"],
  ...definitionKeys
])

/** OpenAI refuses a tool with one of these at the top, Anthropic with most of them. */
const notOnTop = ["oneOf", "anyOf", "allOf", "enum", "not"]

/** Whether a field says nothing: anything more is welcome, any safe integer is. */
const isIdle = (key: string, field: unknown): boolean =>
  (key === "additionalProperties" && field === true) || (key === "maximum" && field === Number.MAX_SAFE_INTEGER)

/**
 * Without what only a validator reads, references to `$defs` replaced by what they name, `type: "object"` and `properties`
 * always there: several compatible servers refuse or misread the rest.
 */
export const plain = (schema: Json): Json => {
  const definitions = new Map<string, unknown>()
  for (const key of definitionKeys) {
    const found = schema[key]
    if (!isObject(found)) continue
    for (const [name, value] of Object.entries(found)) definitions.set(`#/${key}/${name}`, value)
  }

  const visit = (value: unknown, within: ReadonlyArray<string>): unknown => {
    if (Array.isArray(value)) return value.map((item) => visit(item, within))
    if (!isObject(value)) return value
    const reference = value.$ref
    if (typeof reference === "string") {
      const name = reference.replaceAll("~1", "/").replaceAll("~0", "~")
      const { $ref: _, ...beside } = value
      const found = definitions.get(name)
      const known = isObject(found) && !within.includes(name) && within.length < maxDepth
      return { ...(known ? properties(found, [...within, name]) : {}), ...properties(beside, within) }
    }
    return properties(value, within)
  }

  /** All of an object's fields but those that only a validator reads. */
  const properties = (value: Json, within: ReadonlyArray<string>): Json => {
    const result: Record<string, unknown> = {}
    for (const [key, field] of Object.entries(value)) {
      if (unsaid.has(key) || isIdle(key, field)) continue
      // Names of properties are names, whatever they look like.
      result[key] =
        key === "properties" && isObject(field)
          ? Object.fromEntries(Object.entries(field).map(([name, inner]) => [name, visit(inner, within)]))
          : visit(field, within)
    }
    return result
  }

  const result = visit(Object.fromEntries(Object.entries(schema).filter(([key]) => !notOnTop.includes(key))), [])
  return { ...(isObject(result) ? { properties: {}, ...result } : { properties: {} }), type: "object" }
}
