/** What a device's owner is told whose clock is so wrong that the server had to be searched for in time. */

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS

/** As long as people would say it: what worked is known to some minutes only. */
const about = (ms: number): string => {
  const minutes = Math.round(ms / MINUTE_MS)
  if (ms < HOUR_MS) return `${minutes} min`
  const rest = minutes % 60
  return rest === 0 ? `${minutes / 60} h` : `${Math.floor(minutes / 60)} h ${rest} min`
}

/** `skewMs` is what had to be added to this device's clock. */
export const sentence = (skewMs: number): string =>
  `this device's clock is about ${about(Math.abs(skewMs))} ${skewMs > 0 ? "behind" : "ahead of"} the server's: the line works all the same, but set date, time and time zone right (or switch NTP on), else connecting takes longer and credential files look expired`
