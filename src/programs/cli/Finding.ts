/** What one check of `clawchat doctor` found. */

export interface Finding {
  readonly verdict: "ok" | "warn" | "fail"
  readonly what: string
  /** What was found, and what to do about it. */
  readonly detail: string
}

export const ok = (what: string, detail: string): Finding => ({ verdict: "ok", what, detail })
export const warn = (what: string, detail: string): Finding => ({ verdict: "warn", what, detail })
export const fail = (what: string, detail: string): Finding => ({ verdict: "fail", what, detail })

export const line = ({ detail, verdict, what }: Finding): string =>
  `${verdict.padEnd(4)}  ${what.padEnd(14)}  ${detail}`
