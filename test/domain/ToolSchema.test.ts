import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as ToolSchema from "../../src/domain/ToolSchema.ts"

describe("ToolSchema.plain", () => {
  it("puts definitions where they are named, with what stands beside", () => {
    assert.deepStrictEqual(
      ToolSchema.plain({
        $schema: "x",
        $id: "y",
        properties: {
          a: { $ref: "#/$defs/A", description: "first" },
          list: { type: "array", items: [{ $ref: "#/definitions/B~1C" }] },
          $id: { type: "string" },
          $defs: { type: "number" }
        },
        $defs: { A: { type: "object", properties: { b: { $ref: "#/definitions/B~1C" } } } },
        definitions: { "B/C": { enum: ["x", null] } }
      }),
      {
        type: "object",
        properties: {
          a: { type: "object", properties: { b: { enum: ["x", null] } }, description: "first" },
          list: { type: "array", items: [{ enum: ["x", null] }] },
          $id: { type: "string" },
          $defs: { type: "number" }
        }
      }
    )
  })

  it("what holds itself, or is not there, takes anything", () => {
    const tree = { $ref: "#/$defs/Tree" }
    assert.deepStrictEqual(
      ToolSchema.plain({
        properties: { tree, lost: { $ref: "#/$defs/Lost" } },
        $defs: { Tree: { type: "object", properties: { child: tree } } }
      }),
      { type: "object", properties: { tree: { type: "object", properties: { child: {} } }, lost: {} } }
    )
  })

  it("takes what Effect makes of a struct", () => {
    const Input = Schema.Struct({ path: Schema.String, limit: Schema.optionalKey(Schema.Int) })
    const { schema } = Schema.toJsonSchemaDocument(Input)
    const plain = ToolSchema.plain({ ...schema })
    assert.strictEqual(plain.type, "object")
    assert.deepStrictEqual(plain.required, ["path"])
    assert.notInclude(JSON.stringify(plain), "$")
    assert.deepStrictEqual(ToolSchema.plain({}), { type: "object", properties: {} })
    const { schema: nothing } = Schema.toJsonSchemaDocument(Schema.Struct({}))
    assert.deepStrictEqual(ToolSchema.plain({ ...nothing }), { type: "object", properties: {} })
  })

  it("leaves out what a server refuses or chokes on; names of properties stay", () => {
    const bounded = { type: "string", description: "a word", minLength: 1, maxLength: 4000, pattern: "^\\p{L}+$" }
    assert.deepStrictEqual(
      ToolSchema.plain({
        not: { type: "null" },
        anyOf: [{ type: "object" }],
        additionalProperties: true,
        properties: {
          pattern: bounded,
          not: { anyOf: [bounded, { type: "integer", minimum: 1, maximum: Number.MAX_SAFE_INTEGER }] },
          list: { type: "array", minItems: 1, maxItems: 9, items: { type: "integer", minimum: 0, maximum: 5 } },
          map: { type: "object", additionalProperties: { type: "number" } }
        },
        required: ["pattern"]
      }),
      {
        type: "object",
        properties: {
          pattern: { type: "string", description: "a word" },
          not: {
            anyOf: [
              { type: "string", description: "a word" },
              { type: "integer", minimum: 1 }
            ]
          },
          list: { type: "array", items: { type: "integer", minimum: 0, maximum: 5 } },
          map: { type: "object", additionalProperties: { type: "number" } }
        },
        required: ["pattern"]
      }
    )
  })
})
