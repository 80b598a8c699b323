/** Lines out of text that arrives in pieces, of bounded length: what a line has beyond that is dropped. */
export class LineSplitter {
  readonly #maxChars: number
  #line = ""
  /** A `\r` ended the last piece: a `\n` that follows belongs to it. */
  #afterReturn = false

  /** `maxChars` in UTF-16 units. */
  constructor(maxChars: number) {
    this.#maxChars = maxChars
  }

  /** The lines that are complete now, without their ends (`\n`, `\r\n` or `\r`). */
  push(text: string): ReadonlyArray<string> {
    const rest = this.#afterReturn && text.startsWith("\n") ? text.slice(1) : text
    if (text !== "") this.#afterReturn = text.endsWith("\r")
    const parts = rest.split(/\r\n|\n|\r/)
    const last = parts.pop() ?? ""
    const lines = parts.map((part) => {
      const line = this.#append(part)
      this.#line = ""
      return line
    })
    this.#append(last)
    return lines
  }

  /** The last line, if it had no end. */
  end(): ReadonlyArray<string> {
    const line = this.#line
    this.#line = ""
    return line === "" ? [] : [line]
  }

  #append(part: string): string {
    this.#line += part.slice(0, Math.max(0, this.#maxChars - this.#line.length))
    return this.#line
  }
}
