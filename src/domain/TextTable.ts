/** Columns of text, and the few figures that tables hold. Pure. */

/** Columns as wide as their widest cell; nothing is padded at the end of a line. */
export const table = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths: Array<number> = []
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length)
  }
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i] ?? 0)))
        .join("  ")
        .trimEnd()
    )
    .join("\n")
}

/** US dollars: cents where there are some, else four more digits. */
export const dollars = (amount: number): string => `$${amount.toFixed(amount !== 0 && Math.abs(amount) < 1 ? 4 : 2)}`

/** A moment in UTC, to the minute; `ms` may come from another machine and be anything. */
export const minute = (ms: number): string => {
  const date = new Date(ms)
  return Number.isNaN(date.getTime()) ? "unknown" : date.toISOString().slice(0, 16).replace("T", " ")
}

/** The same by the clocks of an IANA zone; UTC, and said so, where there is no such zone. */
export const minuteIn = (zone: string): ((ms: number) => string) => {
  try {
    const format = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "short" })
    return (ms) => (Number.isNaN(new Date(ms).getTime()) ? "unknown" : format.format(ms))
  } catch {
    return (ms) => `${minute(ms)} UTC`
  }
}
