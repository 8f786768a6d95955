// When an arrival was meant to happen. Latency is counted from then and not from the moment at which the load generator
// got round to it, or a stall would hide itself (coordinated omission). Pure functions of a shape and a number.

/**
 * A shape of load: `start` arrivals per second at first, then stages that end at `rate` after `seconds` each.
 * @typedef {{start: number, stages: {seconds: number, rate: number}[]}} Shape
 */

/** Whether a shape never changes its rate. */
export function isFlat(shape) {
  return shape.stages.every((stage) => stage.rate === shape.start);
}

/** The highest rate of a shape. */
export function peak(shape) {
  return Math.max(shape.start, ...shape.stages.map((stage) => stage.rate));
}

/** A share of a shape: as long, and less of it. */
export function share(shape, part) {
  const stages = shape.stages.map((stage) => ({ seconds: stage.seconds, rate: stage.rate * part }));
  return { start: shape.start * part, stages };
}

/**
 * Seconds from the scenario's start to the arrival with this number, counted from 0.
 *
 * k6 starts a flat scenario's first arrival at once, and a ramp's when the area under the rate reaches 1.
 */
export function intendedS(shape, index) {
  if (isFlat(shape)) return index / shape.start;
  let [left, before, from] = [index + 1, 0, shape.start];
  for (const { seconds, rate } of shape.stages) {
    const area = ((from + rate) / 2) * seconds;
    if (left <= area) return before + within(from, rate, seconds, left);
    [left, before, from] = [left - area, before + seconds, rate];
  }
  return before;
}

/** Seconds into a stage at which the area under its rate is `area`: the root of from·t + (to − from)·t²/(2·seconds). */
function within(from, to, seconds, area) {
  const slope = (to - from) / seconds;
  if (slope === 0) return area / from;
  // Rounding may put the last arrival of a falling stage a hair beyond its end.
  return (Math.sqrt(Math.max(0, from * from + 2 * slope * area)) - from) / slope;
}

/**
 * The name of the phase at a moment.
 * @param {{name: string, until_s: number}[]} phases in order; the last one has no end
 */
export function phaseAt(phases, seconds) {
  const found = phases.find((phase) => seconds < phase.until_s);
  return (found || phases[phases.length - 1]).name;
}
