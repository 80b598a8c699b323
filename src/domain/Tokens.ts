/**
 * An estimate of what a text costs a model, without its tokenizer. Stated in eighths of a token per UTF-16 unit:
 *
 *     letters of ASCII and spaces                2    a word of English is about four characters
 *     other ASCII: digits, punctuation, newlines  5
 *     ASCII without a space for long             6    hashes, base64: from the 25th character on
 *     scripts without spaces, Hangul             8    CJK, Thai, ...
 *     all other scripts                          4
 *     halves of surrogate pairs                  7    emoji
 *
 * Against cl100k_base and o200k_base it lies between 0.6 and 1.5 times the count for prose in English, German, French,
 * Polish, Chinese, Japanese and Korean, for Markdown and for code; rarer scripts, which those two count very differently,
 * between 0.5 and 2.2 times.
 */

/** Characters of plain English that count as one token; no character counts for less. */
export const charsPerToken = 4

const WHOLE = 8
const LETTER = 2
const OTHER_ASCII = 5
const UNSPACED_ASCII = 6
const IDEOGRAPH = 8
const OTHER = 4
const SURROGATE = 7

/** ASCII characters without a space after which they count as no words. */
const WORD_CHARS = 24

/** Thai to Myanmar, Khmer, CJK with its punctuation and kana, Hangul, compatibility and full-width forms. */
const isUnspaced = (code: number): boolean =>
  (code >= 0x2e80 && code <= 0xa4cf) ||
  (code >= 0xac00 && code <= 0xd7a3) ||
  (code >= 0x0e00 && code <= 0x0eff) ||
  (code >= 0x1000 && code <= 0x109f) ||
  (code >= 0x1780 && code <= 0x17ff) ||
  (code >= 0xf900 && code <= 0xfaff) ||
  (code >= 0xfe30 && code <= 0xfe4f) ||
  (code >= 0xff00 && code <= 0xffef)

const isLetter = (code: number): boolean => (code >= 0x61 && code <= 0x7a) || (code >= 0x41 && code <= 0x5a)

/** Tokens, rounded up; never less than characters / 4. */
export const estimate = (text: string): number => {
  let eighths = 0
  let unspaced = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code >= 0x80) {
      unspaced = 0
      if (isUnspaced(code)) eighths += IDEOGRAPH
      else eighths += code >= 0xd800 && code <= 0xdfff ? SURROGATE : OTHER
    } else if (code <= 0x20) {
      unspaced = 0
      eighths += code === 0x20 ? LETTER : OTHER_ASCII
    } else if (++unspaced > WORD_CHARS) {
      eighths += UNSPACED_ASCII
    } else {
      eighths += isLetter(code) ? LETTER : OTHER_ASCII
    }
  }
  return Math.ceil(eighths / WHOLE)
}
