/** The CRON.md that a fresh machine starts with: the same as `context/CRON.md`. It holds no job. */
export const cronDefault = `# Scheduled work

Your assistant does what stands here at its time, with nobody there to ask; \`clawchat cron ls\` shows what comes next.
A job is a heading with a schedule and a command below it. This one would run every Monday at nine, without the marks
of a comment around it:

<!--
## Week ahead
**Schedule**: 0 9 * * 1
**Command**: Look through memory and tell me what is due this week.
**Timezone**: Europe/Berlin
**Enabled**: yes

Be brief: five lines at most.
-->

The five fields are minute, hour, day of the month, month, day of the week. \`@daily\`, \`@reboot\` and
\`@at 2027-03-01T09:00\` will do too. Without a Timezone, here or in the job, that of the machine counts.
`
