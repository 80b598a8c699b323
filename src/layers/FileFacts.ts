/** What lstat tells, as the domain says it. */
import * as Crypto from "node:crypto"
import type * as Fs from "node:fs"
import { MAX_TIME_MS, Stat } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"

/** Of a file or folder on the disk: `Fs.Stats` in bigint, as no other form holds nanoseconds and inode numbers. */
export type Stats = Fs.BigIntStats

/** Bits that a file keeps of the mode it is given: nobody but its owner writes to it, nothing runs as its owner. */
export const fileMode = (mode: number | undefined): number => ((mode ?? 0o644) & 0o755) | 0o600

export const kindOf = (stats: Fs.Stats | Stats): "file" | "folder" | "link" | "other" =>
  stats.isFile() ? "file" : stats.isDirectory() ? "folder" : stats.isSymbolicLink() ? "link" : "other"

export const facts = (stats: Fs.Stats | Stats) => {
  const kind = kindOf(stats)
  return {
    kind,
    // A link's size would tell the length of the path it points to.
    size: kind === "file" ? Number(stats.size) : 0,
    // Some file systems hold times that no date can say.
    mtimeMs: Math.max(-MAX_TIME_MS, Math.min(MAX_TIME_MS, Math.floor(Number(stats.mtimeMs)))),
    mode: Number(stats.mode) & 0o777
  } as const
}

/** Changes with every write to a file, and whenever another file takes its name. Tells nothing about the disk. */
export const versionOf = (stats: Stats): string =>
  Crypto.createHash("sha256")
    .update(`${stats.dev} ${stats.ino} ${stats.size} ${stats.mtimeNs} ${stats.ctimeNs}`)
    .digest("hex")
    .slice(0, 32)

export const stat = (path: RemotePath.RemotePath, stats: Stats): Stat =>
  new Stat({
    path: RemotePath.format(path),
    ...facts(stats),
    ...(stats.isFile() ? { version: versionOf(stats) } : {})
  })
