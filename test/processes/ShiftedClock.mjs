/** Loaded before a program (`node --import`): its time of day is off by CLOCK_SHIFT_MS. Steady clocks and timers are not. */
const shiftMs = Number(process.env.CLOCK_SHIFT_MS)
const Genuine = Date

globalThis.Date = class extends Genuine {
  constructor(...given) {
    if (given.length === 0) super(Genuine.now() + shiftMs)
    else super(...given)
  }

  static now() {
    return Genuine.now() + shiftMs
  }
}
