/**
 * What the providers refuse with 400, as their public documentation has it, and a little more: where several servers
 * of one protocol differ, the strictest counts. Each problem is one line.
 */
import type { Provider } from "../../src/domain/Llm.ts"
import { type Dialect, play, type Script } from "./FakeProviders.ts"

type Json = { readonly [key: string]: unknown }
const isJson = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value)
const listOf = (value: unknown): ReadonlyArray<unknown> => (Array.isArray(value) ? value : [])
const words = (value: unknown): value is string => typeof value === "string" && value.trim() !== ""
const fieldsOf = (value: Json, allowed: ReadonlyArray<string>): ReadonlyArray<string> =>
  Object.keys(value).filter((name) => !allowed.includes(name))

const toolName = /^[a-zA-Z0-9_-]{1,64}$/
const callId = /^[a-zA-Z0-9_-]{1,40}$/

/** What OpenAI, or Anthropic, refuses at the top of a tool's parameters. */
const notOnTop = ["oneOf", "anyOf", "allOf", "enum", "not", "$ref"]
/** What llama.cpp makes a grammar of that its own parser refuses, or servers written in Python cannot read. */
const unreadable = ["$ref", "$defs", "$schema", "pattern", "minLength", "maxLength", "minItems", "maxItems"]

/** Whether a tool's parameters are a plain schema of an object that every server takes. */
const schemaProblems = (name: string, schema: unknown): ReadonlyArray<string> => {
  if (!isJson(schema) || schema.type !== "object" || !isJson(schema.properties)) {
    return [`${name}: its parameters are no object's`]
  }
  const text = JSON.stringify(schema)
  return [
    ...notOnTop.filter((word) => word in schema).map((word) => `${name}: ${word} at the top`),
    ...unreadable.filter((word) => text.includes(`"${word}":`)).map((word) => `${name}: ${word}`)
  ]
}

/** Of chat completions. `thought`: what the server had thought before it made the call with an id. */
const chatProblems = (
  provider: Provider,
  body: Json,
  thought: (id: string) => string | undefined
): ReadonlyArray<string> => {
  const problems: Array<string> = []
  const say = (problem: string) => problems.push(problem)
  const known = ["model", "messages", "stream", "stream_options", "tools", "reasoning_effort"]
  const limit = provider === "openai" ? "max_completion_tokens" : "max_tokens"
  for (const name of fieldsOf(body, [...known, limit])) say(`the field ${name} is not known`)
  if (!words(body.model)) say("there is no model")
  const names = new Set<unknown>()
  for (const tool of listOf(body.tools)) {
    const called = isJson(tool) && tool.type === "function" && isJson(tool.function) ? tool.function : {}
    if (!words(called.name) || !toolName.test(called.name)) say(`a tool may not be called ${called.name}`)
    if (names.has(called.name)) say(`two tools are called ${called.name}`)
    names.add(called.name)
    for (const problem of schemaProblems(String(called.name), called.parameters)) say(problem)
  }
  const messages = listOf(body.messages).filter(isJson)
  const lastQuestion = messages.findLastIndex(({ role }) => role === "user")
  const ids = new Set<string>()
  let open: Array<string> = []
  let before: unknown
  for (const [index, message] of messages.entries()) {
    const { content, role } = message
    if (open.length > 0 && role !== "tool") {
      say(`message ${index}: ${open.join(", ")} had no result`)
      open = []
    }
    if (role === "system" && index > 0) say(`message ${index}: a second system message`)
    if (role !== "tool" && role === before) say(`message ${index}: two of ${role} in a row`)
    if (role === "system" || role === "user") {
      const parts = typeof content === "string" ? [content] : listOf(content)
      if (parts.length === 0 || content === "") say(`message ${index}: nothing in it`)
      for (const name of fieldsOf(message, ["role", "content"])) say(`message ${index}: ${name}`)
    } else if (role === "assistant") {
      const calls = listOf(message.tool_calls)
      if (message.tool_calls !== undefined && calls.length === 0) say(`message ${index}: an empty list of calls`)
      if (calls.length === 0 && !words(content)) say(`message ${index}: neither words nor calls`)
      const allowed = ["role", "content", "tool_calls", ...(provider === "openai" ? [] : ["reasoning_content"])]
      for (const name of fieldsOf(message, allowed)) say(`message ${index}: ${name}`)
      for (const call of calls) {
        const called = isJson(call) && isJson(call.function) ? call.function : {}
        const id = isJson(call) ? call.id : undefined
        if (!words(id) || !callId.test(id)) say(`message ${index}: the id ${id}`)
        else if (ids.has(id)) say(`message ${index}: the id ${id} comes twice`)
        else {
          ids.add(id)
          open.push(id)
          if (provider === "deepseek" && index > lastQuestion && message.reasoning_content !== (thought(id) ?? "")) {
            say(`message ${index}: what was thought is not given back`)
          }
        }
        if (!words(called.name) || !toolName.test(called.name)) say(`message ${index}: it calls ${called.name}`)
        if (typeof called.arguments !== "string" || !isJson(JSON.parse(called.arguments)))
          say(`message ${index}: its arguments are no object in JSON`)
      }
      if (provider === "deepseek") {
        const has = typeof message.reasoning_content === "string"
        if (has !== calls.length > 0) say(`message ${index}: reasoning_content goes with calls, and only with them`)
      }
    } else if (role === "tool") {
      const id = message.tool_call_id
      if (typeof id !== "string" || !open.includes(id)) say(`message ${index}: a result of ${id}, which was not called`)
      open = open.filter((each) => each !== id)
      if (!words(content)) say(`message ${index}: an empty result`)
    } else {
      say(`message ${index}: the role ${role}`)
    }
    before = role
  }
  if (open.length > 0) say(`${open.join(", ")} had no result`)
  if (before !== "user" && before !== "tool") say("it ends neither with the user nor with a result")
  return problems
}

const blockText = ({ content, text }: Json): boolean => words(text) || words(content) || listOf(content).length > 0

/** Of messages. `thought`: what the server had thought before it made the call with an id. */
const messagesProblems = (body: Json, thought: (id: string) => string | undefined): ReadonlyArray<string> => {
  const problems: Array<string> = []
  const say = (problem: string) => problems.push(problem)
  for (const name of fieldsOf(body, ["model", "max_tokens", "system", "tools", "messages", "stream"]))
    say(`the field ${name} is not known`)
  if (!words(body.model)) say("there is no model")
  if (typeof body.max_tokens !== "number" || body.max_tokens < 1) say("max_tokens")
  const marks = JSON.stringify(body).split('"cache_control"').length - 1
  if (marks > 4) say(`${marks} marks for the cache`)
  const names = new Set<unknown>()
  for (const tool of listOf(body.tools)) {
    const { input_schema: schema, name } = isJson(tool) ? tool : { input_schema: undefined, name: undefined }
    if (!words(name) || !toolName.test(name)) say(`a tool may not be called ${name}`)
    if (names.has(name)) say(`two tools are called ${name}`)
    names.add(name)
    for (const problem of schemaProblems(String(name), schema)) say(problem)
  }
  const messages = listOf(body.messages).filter(isJson)
  const blocksOf = (message: Json | undefined): ReadonlyArray<Json> => {
    const content = message?.content
    return typeof content === "string" ? [{ type: "text", text: content }] : listOf(content).filter(isJson)
  }
  const lastQuestion = messages.findLastIndex(
    (message) => message.role === "user" && blocksOf(message).some(({ type }) => type !== "tool_result")
  )
  const ids = new Set<unknown>()
  let open: ReadonlyArray<unknown> = []
  for (const [index, message] of messages.entries()) {
    const blocks = blocksOf(message)
    if (message.role !== (index % 2 === 0 ? "user" : "assistant")) say(`message ${index}: the role ${message.role}`)
    if (blocks.length === 0) say(`message ${index}: nothing in it`)
    for (const block of blocks) {
      if ((block.type === "text" || block.type === "tool_result") && !blockText(block))
        say(`message ${index}: empty text`)
    }
    if (message.role === "user") {
      const results = blocks.filter(({ type }) => type === "tool_result").map((block) => block.tool_use_id)
      const first = blocks.slice(0, results.length)
      if (first.some(({ type }) => type !== "tool_result")) say(`message ${index}: results do not come first`)
      if (JSON.stringify([...results].sort()) !== JSON.stringify([...open].sort()))
        say(`message ${index}: results of [${results}] to the calls [${open}]`)
      open = []
      continue
    }
    const calls = blocks.filter(({ type }) => type === "tool_use")
    open = calls.map(({ id }) => id)
    for (const { id, input, name } of calls) {
      if (!words(id) || !callId.test(id)) say(`message ${index}: the id ${id}`)
      if (ids.has(id)) say(`message ${index}: the id ${id} comes twice`)
      ids.add(id)
      if (!isJson(input)) say(`message ${index}: the input of ${name} is no object`)
      if (!words(name) || !toolName.test(name)) say(`message ${index}: it calls ${name}`)
    }
    const wanted = open.map((id) => thought(String(id))).find((text) => text !== undefined)
    const thinking = blocks.findIndex(({ type }) => type === "thinking")
    if (thinking > 0) say(`message ${index}: a thought that is not first`)
    if (index > lastQuestion && wanted !== undefined) {
      const { signature, thinking: text } = blocks[0] ?? {}
      if (text !== wanted || signature !== `signed:${wanted}`) say(`message ${index}: a thought was changed or lost`)
    }
  }
  if (open.length > 0) say(`${open} had no result`)
  if (messages.at(-1)?.role !== "user") say("it does not end with the user")
  return problems
}

/** Of one request; `thought` tells what came with the call of an id, where the server remembers it. */
export const problemsOf = (
  provider: Provider,
  body: string,
  thought: (id: string) => string | undefined = () => undefined
): ReadonlyArray<string> => {
  const json: unknown = JSON.parse(body)
  if (!isJson(json)) return ["the request is no object"]
  return provider === "anthropic" ? messagesProblems(json, thought) : chatProblems(provider, json, thought)
}

/** Plays a provider that keeps to the letter: `problems` has all that it would have refused, with the request's number. */
export const playStrictly = (dialect: Dialect, problems: Array<string>, script: Script) => {
  const thoughts = new Map<string, string>()
  return play(dialect, (asked, index, seen) => {
    // Anthropic's are signed: another model may do without them.
    const keyOf = (id: string) => (dialect.provider === "anthropic" ? `${asked.model} ${id}` : id)
    const found = problemsOf(dialect.provider, seen.body, (id) => thoughts.get(keyOf(id)))
    problems.push(...found.map((problem) => `${index}: ${problem}`))
    const said = script(asked, index, seen)
    if ("status" in said) return said
    for (const { id } of said.calls ?? []) if (said.reasoning !== undefined) thoughts.set(keyOf(id), said.reasoning)
    return said
  })
}
