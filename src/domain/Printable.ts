/**
 * Text from elsewhere (a model, a device's name, an error) made fit for a terminal: it may be read, it may not steer.
 *
 * What goes: C0 and C1 control characters but `\n` and `\t`, DEL, whole CSI sequences (ECMA-48 section 5.4), and the
 * bidirectional embeddings, overrides and isolates (U+202A..202E, U+2066..2069), which make text read as what it is not.
 * Of other escape sequences the introducer goes and the rest stays visible, harmless: nothing can hide text.
 */

const isBidi = (code: number): boolean => (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069)

const isControl = (code: number): boolean =>
  (code < 0x20 && code !== 0x0a && code !== 0x09) || (code >= 0x7f && code <= 0x9f)

const isHigh = (code: number): boolean => code >= 0xd800 && code <= 0xdbff
const isLow = (code: number): boolean => code >= 0xdc00 && code <= 0xdfff

const ESC = 0x1b
const CSI = 0x9b
const LEFT_BRACKET = 0x5b
const REPLACEMENT = "\ufffd"

/** Cleans a text that arrives in pieces: sequences and surrogate pairs may be cut anywhere. */
export class Filter {
  #state: "text" | "escape" | "csi" = "text"
  /** The first half of a surrogate pair, kept until its second half is here. */
  #high = ""

  /** What may be shown of the text so far. */
  push(text: string): string {
    let out = ""
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i)
      if (this.#state === "escape") {
        this.#state = code === LEFT_BRACKET ? "csi" : "text"
        if (this.#state === "csi") continue
      } else if (this.#state === "csi") {
        // Parameters and intermediates; the final byte ends the sequence, anything else breaks it off.
        if (code >= 0x20 && code <= 0x3f) continue
        this.#state = "text"
        if (code >= 0x40 && code <= 0x7e) continue
      }
      if (this.#high !== "") {
        if (isLow(code)) {
          out += this.#high + text.charAt(i)
          this.#high = ""
          continue
        }
        out += REPLACEMENT
        this.#high = ""
      }
      if (isHigh(code)) this.#high = text.charAt(i)
      else if (isLow(code)) out += REPLACEMENT
      else if (code === ESC) this.#state = "escape"
      else if (code === CSI) this.#state = "csi"
      else if (!isControl(code) && !isBidi(code)) out += text.charAt(i)
    }
    return out
  }

  /** What was held back, when no more comes. */
  end(): string {
    const rest = this.#high === "" ? "" : REPLACEMENT
    this.#high = ""
    this.#state = "text"
    return rest
  }
}

/** A whole text, cleaned. */
export const clean = (text: string): string => {
  const filter = new Filter()
  return filter.push(text) + filter.end()
}

/** The same on one line. */
export const line = (text: string): string =>
  clean(text.replace(/\r\n?/g, "\n"))
    .replace(/[\n\t\u2028\u2029]+/g, " ")
    .trim()

/** JSON that a terminal may show as it is: nothing is lost, what could steer is escaped. */
export const json = (value: unknown): string =>
  JSON.stringify(value).replace(
    /[\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`
  )
