// Breakpoint: ever more, until something gives. Its result is the knee: the highest rate that was still served in time.
// Other scenarios belong at half of it and below.

import { RATE, number } from '../lib/environment.js';
import { plan } from '../lib/plan.js';
import { BREAKPOINT } from '../lib/thresholds.js';

export { answer, look, submit } from '../lib/journeys.js';
export { handleSummary, setup } from '../lib/run.js';

/** Ten minutes, so that each rate lasts long enough to fill the queues that it will fill. */
const SECONDS = number('DURATION', 600);

/**
 * Up to so many times the ordinary rate; the run ends itself when something gives. 20: beyond what two cores served, and
 * each further virtual user makes k6 itself slower.
 */
const TIMES = number('TIMES', 20);

export const options = plan({
  shape: { start: RATE, stages: [{ seconds: SECONDS, rate: TIMES * RATE }] },
  thresholds: BREAKPOINT,
});
