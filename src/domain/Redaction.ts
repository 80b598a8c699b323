/** Secrets that the program knows, taken out of a text. Pure. */

/** Shorter ones are none, and shorter pieces tell too little. */
const leastChars = 8

const mark = "[secret]"

/** Characters at the end of `line` with which `secret` begins; 0 for fewer than `leastChars`. */
const begun = (line: string, secret: string): number => {
  for (let length = Math.min(secret.length, line.length); length >= leastChars; length--) {
    if (line.endsWith(secret.slice(0, length))) return length
  }
  return 0
}

/** Characters at the beginning of `line` with which `secret` ends. */
const ended = (line: string, secret: string): number => {
  for (let length = Math.min(secret.length, line.length); length >= leastChars; length--) {
    if (line.startsWith(secret.slice(-length))) return length
  }
  return 0
}

/**
 * Takes out each secret, and what of it is left where a line was cut: who may choose where a text begins and ends must not
 * get a secret in two parts.
 */
export const make = (known: ReadonlyArray<string>): ((text: string) => string) => {
  const secrets = known.filter((secret) => secret.length >= leastChars)
  const edges = (line: string, secret: string): string => {
    let rest = line
    if (secret.includes(rest.slice(-leastChars))) {
      const length = begun(rest, secret)
      if (length > 0) rest = rest.slice(0, -length) + mark
    }
    if (secret.includes(rest.slice(0, leastChars))) {
      const length = ended(rest, secret)
      if (length > 0) rest = mark + rest.slice(length)
    }
    return rest
  }
  return (text) =>
    secrets.reduce(
      (clean, secret) =>
        clean
          .replaceAll(secret, mark)
          .split("\n")
          .map((line) => (line.length < leastChars ? line : edges(line, secret)))
          .join("\n"),
      text
    )
}
