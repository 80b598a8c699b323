/** A file of lines that begins anew when it is full and keeps so many full ones: `NAME.1` is the newest, `NAME.N` the oldest. */
import * as Fs from "node:fs"
import { dirname } from "node:path"
import * as Folders from "./Folders.ts"

export interface Options {
  readonly maxSizeBytes: number
  /** Full files that are kept. */
  readonly backupCount: number
  /** Refuses a link, and closes a file to others that stood open to them. */
  readonly strict?: boolean
}

const LINE_FEED = 0x0a

/** The file and its full ones, the newest first, whether or not they are there. */
export const names = (path: string, backupCount: number): ReadonlyArray<string> => [
  path,
  ...Array.from({ length: backupCount }, (_, i) => `${path}.${i + 1}`)
]

export class RotatingFile {
  readonly #path: string
  readonly #options: Options
  /** Absent after trouble: the next line opens it anew. */
  #descriptor: number | undefined
  #size = 0

  /** Opens or makes it, 0600. Throws what the host throws. */
  constructor(path: string, options: Options) {
    this.#path = path
    this.#options = options
    Folders.make(dirname(path))
    this.#open()
  }

  /** Appends a line, its end included; throws when the disk refuses. */
  write(line: string): void {
    const bytes = Buffer.from(line)
    if (this.#size + bytes.length > this.#options.maxSizeBytes && this.#size > 0) this.#rotate()
    const descriptor = this.#descriptor ?? this.#open()
    const written = Fs.writeSync(descriptor, bytes)
    this.#size += written
    if (written === bytes.length) return
    this.close()
    throw new Error(`${this.#path}: the disk took a part of the line`)
  }

  close(): void {
    const descriptor = this.#descriptor
    this.#descriptor = undefined
    if (descriptor !== undefined) Fs.closeSync(descriptor)
  }

  #open(): number {
    const { O_APPEND, O_CREAT, O_NOFOLLOW = 0, O_WRONLY } = Fs.constants
    const strict = this.#options.strict === true
    const descriptor = Fs.openSync(this.#path, O_APPEND | O_CREAT | O_WRONLY | (strict ? O_NOFOLLOW : 0), 0o600)
    this.#descriptor = descriptor
    this.#size = Fs.fstatSync(descriptor).size
    if (strict) Fs.fchmodSync(descriptor, 0o600)
    // A line that was cut off, by a crash or a full disk, must not take the next one with it.
    if (strict && this.#size > 0 && !this.#endsInLine()) this.#size += Fs.writeSync(descriptor, "\n")
    return descriptor
  }

  #endsInLine(): boolean {
    const reader = Fs.openSync(this.#path, Fs.constants.O_RDONLY | (Fs.constants.O_NOFOLLOW ?? 0))
    try {
      const last = new Uint8Array(1)
      return Fs.readSync(reader, last, 0, 1, this.#size - 1) === 1 && last[0] === LINE_FEED
    } finally {
      Fs.closeSync(reader)
    }
  }

  #rotate(): void {
    const { backupCount } = this.#options
    this.close()
    if (backupCount === 0) Fs.rmSync(this.#path, { force: true })
    for (let i = backupCount; i > 0; i--) {
      const from = i === 1 ? this.#path : `${this.#path}.${i - 1}`
      if (Fs.existsSync(from)) Fs.renameSync(from, `${this.#path}.${i}`)
    }
    this.#open()
  }
}
