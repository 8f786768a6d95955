// Average: an ordinary day. Ramps up, so that caches and connections are warm, and holds.

import { RATE, number } from '../lib/environment.js';
import { plan } from '../lib/plan.js';
import { AVERAGE } from '../lib/thresholds.js';

export { answer, look, submit } from '../lib/journeys.js';
export { handleSummary, setup } from '../lib/run.js';

/** Five minutes: 6,000 arrivals at 20 a second, so that p99 is made of the 60 slowest. A release takes 1800. */
const SECONDS = number('DURATION', 300);

/** A tenth of it, at least ten seconds. */
const RAMP_S = Math.max(10, SECONDS / 10);

const stages = [
  { seconds: RAMP_S, rate: RATE },
  { seconds: SECONDS, rate: RATE },
];

export const options = plan({ shape: { start: 1, stages }, thresholds: AVERAGE });
