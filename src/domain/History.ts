/** Which of the earlier exchanges go upstream with a question. Pure. */

export interface Exchange {
  readonly question: string
  /** Absent where the question went unanswered. */
  readonly answer: string | undefined
}

export interface Turn {
  readonly role: "user" | "assistant"
  readonly text: string
}

/** Characters that count as one token: a rough mean of English and code, stated rather than measured. */
export const charsPerToken = 4

/** An estimate, rounded up. */
export const estimateTokens = (text: string): number => Math.ceil(text.length / charsPerToken)

/**
 * The turns for a question: as many of the newest exchanges (given newest first) as fit the budget, whole, without
 * gaps, then the question, which always stays. So the first turn is the user's and every answer follows its question.
 */
export const turns = (
  newestFirst: ReadonlyArray<Exchange>,
  question: string,
  budgetTokens: number
): ReadonlyArray<Turn> => {
  let left = budgetTokens - estimateTokens(question)
  const kept: Array<Exchange> = []
  for (const exchange of newestFirst) {
    left -= estimateTokens(exchange.question) + estimateTokens(exchange.answer ?? "")
    if (left < 0) break
    kept.push(exchange)
  }
  const result: Array<Turn> = []
  for (const { answer, question } of kept.reverse()) {
    result.push({ role: "user", text: question })
    if (answer !== undefined) result.push({ role: "assistant", text: answer })
  }
  result.push({ role: "user", text: question })
  return result
}

/** Joins turns of one role that follow each other, for models that insist on alternation. */
export const alternate = (all: ReadonlyArray<Turn>): ReadonlyArray<Turn> => {
  const result: Array<Turn> = []
  for (const turn of all) {
    const last = result.at(-1)
    if (last?.role === turn.role) result[result.length - 1] = { role: turn.role, text: `${last.text}\n\n${turn.text}` }
    else result.push(turn)
  }
  return result
}
