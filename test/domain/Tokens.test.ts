import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Tokens from "../../src/domain/Tokens.ts"

/** Texts with their counts under cl100k_base and o200k_base. The first four are those of OpenAI's cookbook. */
const counted: ReadonlyArray<readonly [text: string, cl100k: number, o200k: number]> = [
  ["tiktoken is great!", 6, 6],
  ["antidisestablishmentarianism", 6, 6],
  ["2 + 2 = 4", 7, 7],
  ["お誕生日おめでとう", 9, 8],
  [
    "When in the course of human events it becomes necessary for one people to dissolve the political bands which have connected them with another, and to assume among the powers of the earth, the separate and equal station.",
    41,
    41
  ],
  [
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
    44,
    38
  ],
  [
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    64,
    53
  ],
  ["人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。", 52, 37],
  [
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양심을 부여받았으며 서로 형제애의 정신으로 행동하여야 한다.",
    85,
    51
  ],
  ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", 43, 43],
  ["1234567890 3.14159 2026-01-15T10:22:33Z 192.168.1.1:8080", 34, 34]
]

/** The same for scripts that the two count very differently. */
const rarer: ReadonlyArray<readonly [text: string, cl100k: number, o200k: number]> = [
  [
    "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны поступать в отношении друг друга в духе братства.",
    74,
    41
  ],
  [
    "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا وعليهم أن يعامل بعضهم بعضا بروح الإخاء.",
    80,
    42
  ],
  ["👍🏽🎉🚀😂👨‍👩‍👧‍👦🏳️‍🌈", 41, 25]
]

/** Any UTF-16 unit, halves of pairs among them. */
const unit = fc.oneof(fc.nat(0x7f), fc.nat(0xffff)).map((code) => String.fromCharCode(code))

describe("Tokens.estimate", () => {
  it("lies between 0.6 and 1.5 times what tokenizers count, for rarer scripts between 0.5 and 2.2 times", () => {
    const bounds = [
      [counted, 0.6, 1.5],
      [rarer, 0.5, 2.2]
    ] as const
    for (const [texts, least, most] of bounds) {
      for (const [text, ...counts] of texts) {
        for (const count of counts) {
          const ratio = Tokens.estimate(text) / count
          assert.isTrue(ratio >= least && ratio <= most, `${text.slice(0, 20)}: ${ratio}`)
        }
      }
    }
  })

  it("is never less than a quarter of the characters nor more than all, and adds up within one", () => {
    fc.assert(
      fc.property(fc.string({ unit, maxLength: 200 }), fc.string({ maxLength: 200 }), (a, b) => {
        const tokens = Tokens.estimate(a)
        assert.isAtLeast(tokens, a.length / Tokens.charsPerToken)
        assert.isAtMost(tokens, a.length)
        assert.isAtMost(Tokens.estimate(`${a} ${b}`), tokens + Tokens.estimate(b) + 1)
      }),
      { seed: 20_260_102, numRuns: 500 }
    )
  })
})
