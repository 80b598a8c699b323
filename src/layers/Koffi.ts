/**
 * Native functions by way of koffi, an optional dependency. Without it, or where it has no build for this machine,
 * everything runs on what Node itself offers: whoever calls `load` has a second way.
 */
import { createRequire } from "node:module"

/** What of koffi 3 the layers use. */
export interface Koffi {
  readonly version: string
  /** A library by path, or `null`: all that is linked into this process. Throws when there is none. */
  readonly load: (path: string | null) => Library
  /** Address of the first byte. */
  readonly address: (memory: ArrayBufferLike) => bigint
  /** `errno` as the last call left it. */
  readonly errno: () => number
  /** `errno` values by name. */
  readonly os: { readonly errno: Readonly<Record<string, number>> }
}

/** A C function about whose parameters nothing is said. */
type Native = (...args: ReadonlyArray<unknown>) => number

export interface Library {
  /** The function of a C prototype. Its TypeScript type is the caller's word. Throws when there is no such symbol. */
  readonly func: <F extends (...args: never) => unknown = Native>(prototype: string) => F
}

/** The versions whose conventions the layers were written and measured against. */
const MAJOR = /^3\./

const isKoffi = (found: unknown): found is Koffi =>
  typeof found === "object" &&
  found !== null &&
  "version" in found &&
  typeof found.version === "string" &&
  MAJOR.test(found.version) &&
  "load" in found &&
  typeof found.load === "function"

/** What `find` returns when that is a koffi; asked for at the first call, kept also when there is none. */
export const once = (find: () => unknown): (() => Koffi | undefined) => {
  let asked = false
  let koffi: Koffi | undefined
  return () => {
    if (asked) return koffi
    asked = true
    try {
      const found = find()
      if (isKoffi(found)) koffi = found
    } catch {
      // Not installed, or no build for this system: the same to the caller.
    }
    return koffi
  }
}

/** Resolved at run time, so that the bundle carries none of it. */
const find = (): unknown => {
  const here = createRequire(import.meta.url)
  const entry = here.resolve("koffi")
  try {
    // koffi's own entry looks for every system it knows before it comes to this: 8 ms of CPU against 4.5 ms.
    return createRequire(entry)(`@koromix/koffi-${process.platform}-${process.arch}`)
  } catch {
    return here("koffi")
  }
}

/** koffi, loaded at the first call; silently `undefined` where it cannot be. Synchronous, 5 to 10 ms. */
export const load: () => Koffi | undefined = once(find)
