// From a shape of load to k6's options: three streams of arrivals that run side by side, each an open model (arrivals
// come when they are due, whether or not earlier ones were answered).

import exec from 'k6/execution';

import { number } from './environment.js';
import { intendedS, isFlat, peak, phaseAt, share } from './schedule.js';

/**
 * Who asks for what, as shares of all arrivals: half wait for their answers, fewer submit and come back, few look
 * around. The middle one includes cancellations and repetitions (journeys.js).
 */
const SHARES = { answer: 0.5, submit: 0.4, look: 0.1 };

/**
 * Seconds that an arrival may keep a virtual user busy at the highest rate before arrivals are dropped, and the run with
 * them. 3: far above what a network that keeps its thresholds needs; a virtual user costs k6 some 0.5 MB, so the spike
 * stays below half a gigabyte.
 */
const HOLD_S = number('HOLD_S', 3);

/** k6 takes whole numbers: arrivals per minute are fine enough for a tenth of one a second. */
const UNIT_S = 60;

const shapes = {};
let phases = [];
let peak_rate = 0;

/**
 * k6's options for a scenario of this repository.
 * @param {{shape: object, phases?: object[], thresholds: object}} wanted phases tag what is measured
 */
export function plan(wanted) {
  phases = wanted.phases || [];
  peak_rate = peak(wanted.shape);
  const scenarios = {};
  for (const [name, part] of Object.entries(SHARES)) {
    shapes[name] = whole(share(wanted.shape, part));
    scenarios[name] = { ...executor(shapes[name]), exec: name, gracefulStop: '60s' };
  }
  return {
    scenarios,
    thresholds: wanted.thresholds,
    discardResponseBodies: false,
    setupTimeout: '60s',
    summaryTrendStats: ['min', 'med', 'avg', 'p(90)', 'p(95)', 'p(99)', 'max', 'count'],
    // What the series are made of, and no more: each tag is repeated on every sample.
    systemTags: ['status', 'name', 'scenario', 'check', 'error_code', 'expected_response'],
    userAgent: 'infera-load',
  };
}

/** The shape at rates that k6 can be told. */
function whole(shape) {
  const rounded = (rate) => Math.round(rate * UNIT_S) / UNIT_S;
  const stages = shape.stages.map((stage) => ({ seconds: stage.seconds, rate: rounded(stage.rate) }));
  return { start: rounded(shape.start), stages };
}

function executor(shape) {
  const users = Math.ceil(peak(shape) * HOLD_S) + 2;
  const shared = { timeUnit: `${UNIT_S}s`, preAllocatedVUs: users, maxVUs: users };
  const per_unit = (rate) => Math.round(rate * UNIT_S);
  if (isFlat(shape)) {
    const seconds = shape.stages.reduce((sum, stage) => sum + stage.seconds, 0);
    return { executor: 'constant-arrival-rate', rate: per_unit(shape.start), duration: `${seconds}s`, ...shared };
  }
  const stages = shape.stages.map((stage) => ({ duration: `${stage.seconds}s`, target: per_unit(stage.rate) }));
  return { executor: 'ramping-arrival-rate', startRate: per_unit(shape.start), stages, ...shared };
}

/**
 * This arrival: its number in its stream, when it was due and when it began (ms since the epoch), and the tags of its phase.
 *
 * k6 gives dropped arrivals no number. After one, those that follow seem later than they are; but then the run has failed.
 */
export function arrival() {
  const [index, start_ms, began_ms] = [exec.scenario.iterationInTest, exec.scenario.startTime, Date.now()];
  const due_ms = start_ms + intendedS(shapes[exec.scenario.name], index) * 1000;
  const tags = phases.length > 0 ? { phase: phaseAt(phases, (began_ms - start_ms) / 1000) } : {};
  return { index, due_ms, began_ms, tags };
}

/** Requests that the whole plan makes in its busiest minute: an arrival makes three, by and large. */
export function requestsPerMinute() {
  return peak_rate * 3 * 60;
}
