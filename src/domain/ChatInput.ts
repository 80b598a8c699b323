/** What a line that a person types in a chat means. */

export type ChatInput =
  | { readonly _tag: "Empty" }
  | { readonly _tag: "Message"; readonly text: string }
  /** `name` without the slash, in lower case; whether there is such a command is for others to say. */
  | { readonly _tag: "Command"; readonly name: string; readonly argument: string }

/**
 * A line that begins with a slash is a command, unless its first word has another slash: `/etc/hosts` is text, and
 * `//word` says `/word`. Blank lines mean nothing.
 */
export const parse = (line: string): ChatInput => {
  const text = line.trimEnd()
  if (text.trim() === "") return { _tag: "Empty" }
  if (text.startsWith("//")) return { _tag: "Message", text: text.slice(1) }
  const command = /^\/([^\s/]*)(?:\s+(.*))?$/s.exec(text)
  if (command === null) return { _tag: "Message", text }
  return { _tag: "Command", name: (command[1] ?? "").toLowerCase(), argument: command[2] ?? "" }
}

/**
 * A typed line that ends in an odd number of backslashes goes on in the next one; gives it without the last backslash,
 * or undefined when the line is complete.
 */
export const continued = (line: string): string | undefined => {
  const tail = /\\+$/.exec(line)
  return tail !== null && tail[0].length % 2 === 1 ? line.slice(0, -1) : undefined
}
