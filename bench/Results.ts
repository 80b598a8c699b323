/** RESULTS.md: the last written run of each benchmark, with its date, machine and versions. */
import * as fs from "node:fs"
import * as path from "node:path"
import * as Contenders from "./Contenders.ts"

const FILE = path.join(import.meta.dirname, "RESULTS.md")
const HEAD = `# Results

Written by \`npm run bench -- --write\`: one section for each benchmark, its last run. Absolute figures belong to the
machine; ratios within one section are what counts. README.md tells how to read them.
`

const sectionsOf = (text: string): Map<string, string> => {
  const sections = new Map<string, string>()
  for (const part of text.split(/^## /m).slice(1)) {
    const end = part.indexOf("\n")
    sections.set(part.slice(0, end).trim(), part.slice(end + 1).trim())
  }
  return sections
}

/** Replaces the section of one benchmark. */
export const write = (name: string, text: string, machine: string): void => {
  const sections = sectionsOf(fs.existsSync(FILE) ? fs.readFileSync(FILE, "utf8") : "")
  const rivals = ["transport", "connect", "fairness"].includes(name) ? `\n${Contenders.versions().join(", ")}` : ""
  const date = new Date().toISOString().slice(0, 10)
  sections.set(name, `${date}. ${machine}${rivals}\n\n\`\`\`text\n${text}\n\`\`\``)
  const body = [...sections].map(([title, section]) => `## ${title}\n\n${section}\n`).join("\n")
  fs.writeFileSync(FILE, `${HEAD}\n${body}`)
}
