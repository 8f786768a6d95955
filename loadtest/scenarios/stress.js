// Stress: twice the ordinary day. Slower is fine, refusing honestly too, breaking isn't.

import { RATE, number } from '../lib/environment.js';
import { plan } from '../lib/plan.js';
import { STRESS } from '../lib/thresholds.js';

export { answer, look, submit } from '../lib/journeys.js';
export { handleSummary, setup } from '../lib/run.js';

/** Ten minutes: long enough that a queue that only grows is seen growing. A release takes 1800. */
const SECONDS = number('DURATION', 600);

const stages = [
  { seconds: Math.max(10, SECONDS / 10), rate: 2 * RATE },
  { seconds: SECONDS, rate: 2 * RATE },
];

export const options = plan({ shape: { start: 1, stages }, thresholds: STRESS });
