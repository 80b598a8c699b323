/**
 * Whether a call of a tool may be carried out. Pure: the model has no part in it, and what it has read can only make it
 * stricter.
 */

/**
 * How much a call can harm:
 * - `free`: it reads what the user may see anyway.
 * - `guarded`: it changes what can be taken back, such as a note in memory.
 * - `dangerous`: it changes what the user owns.
 * - `always`: it changes who the assistant is, what it does by itself, or reveals what is likely secret.
 */
export type Risk = "free" | "guarded" | "dangerous" | "always"

export interface Situation {
  readonly risk: Risk
  readonly tool: string
  /** Text that others than the user may have written is before the model. */
  readonly tainted: boolean
  /** The user allowed this tool for the rest of the conversation. */
  readonly granted: boolean
  /** Set when no person attends: the tools that the job's policy names. */
  readonly unattended: ReadonlySet<string> | undefined
}

/** `ask`: a person decides. `refuse`: nobody can; `reason` is for the model and the record. */
export type Verdict =
  | { readonly _tag: "Run" }
  | { readonly _tag: "Ask" }
  | { readonly _tag: "Refuse"; readonly reason: string }

const run: Verdict = { _tag: "Run" }
const ask: Verdict = { _tag: "Ask" }

/**
 * - attended: `free` runs; `guarded` runs unless tainted; what is left needs a person, or, unless it is `always`, an
 *   earlier grant for the conversation.
 * - unattended: only what the job's policy names, and never what is `always`.
 */
export const judge = ({ granted, risk, tainted, tool, unattended }: Situation): Verdict => {
  if (unattended !== undefined) {
    if (risk === "always") return { _tag: "Refuse", reason: `${tool} needs a person to decide, and nobody attends` }
    return unattended.has(tool)
      ? run
      : { _tag: "Refuse", reason: `the job's policy does not name ${tool}: its owner can add it to **Tools**` }
  }
  if (risk === "free" || (risk === "guarded" && !tainted)) return run
  return granted && risk !== "always" ? run : ask
}

/** What a model is told of a call that was not allowed. */
export const denial = (by: "user" | "timeout"): string =>
  by === "user"
    ? "the user has denied this: do not try it another way"
    : "nobody decided about this in time, so it was not done"

/** What may be decided about a call that waits. */
export const decisions = (risk: Risk): ReadonlyArray<"once" | "conversation" | "deny"> =>
  risk === "always" ? ["once", "deny"] : ["once", "conversation", "deny"]
