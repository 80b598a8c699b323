/**
 * Paths below the base path, as users and peers write them: `/`-separated, relative to the base whether or not they
 * begin with a slash. Pure text: nothing is decoded, expanded, folded or normalised to another Unicode form, so what
 * passes is, byte for byte, the name on disk. Links are the layers' business.
 *
 * Empty and `.` components vanish. `..` is refused, not resolved: after a link it would mean another place on disk than
 * it does in text. Backslashes and control characters (C0, DEL, C1, U+2028, U+2029) are refused everywhere, lone
 * surrogates too: UTF-8 has no way to write them and Node would turn them all into the same U+FFFD.
 */
import * as Result from "effect/Result"

/** Components from the base down; none is the base itself. */
export type RemotePath = ReadonlyArray<string>

export type Fault = "Parent" | "Control" | "Backslash" | "Unicode" | "TooLong"

/** Bytes of UTF-8: NAME_MAX of Linux's file systems. */
export const MAX_NAME_LENGTH = 255
/** Bytes of UTF-8: PATH_MAX of Linux, taken for the path below the base. */
export const MAX_PATH_LENGTH = 4096

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/
const RESERVED = /^(con|prn|aux|nul|conin\$|conout\$|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])\s*(\..*)?$/i
const encoder = new TextEncoder()

const byteLength = (text: string): number => encoder.encode(text).length

const textFault = (text: string): Fault | undefined => {
  if (CONTROL.test(text)) return "Control"
  if (text.includes("\\")) return "Backslash"
  if (!text.isWellFormed()) return "Unicode"
  return undefined
}

/** What is wrong with one component; undefined for a name that may be asked for and listed. */
export const nameFault = (name: string): Fault | undefined => {
  if (name === "..") return "Parent"
  if (name.length > MAX_NAME_LENGTH || byteLength(name) > MAX_NAME_LENGTH) return "TooLong"
  return textFault(name)
}

/** Whether a name is one component of a path: what a peer lists must pass before it is joined to anything. */
export const isName = (name: string): boolean =>
  name !== "" && name !== "." && !name.includes("/") && nameFault(name) === undefined

/** Parses a user's or a peer's path; the fault is the first one found. */
export const parse = (path: string): Result.Result<RemotePath, Fault> => {
  // Lengths first: nothing below looks twice at more than 4 KiB.
  if (path.length > MAX_PATH_LENGTH || byteLength(path) > MAX_PATH_LENGTH) return Result.fail("TooLong")
  const components: Array<string> = []
  for (const name of path.split("/")) {
    if (name === "" || name === ".") continue
    const fault = nameFault(name)
    if (fault !== undefined) return Result.fail(fault)
    components.push(name)
  }
  return Result.succeed(components)
}

/** The one way to write a path; the base is `/`. */
export const format = (path: RemotePath): string => `/${path.join("/")}`

/** Whether Windows can hold a name and give it back unchanged: no device, stream, wildcard, trailing dot or space. */
export const isPortable = (name: string): boolean => !/[<>:"|?*]|[. ]$/.test(name) && !RESERVED.test(name)
