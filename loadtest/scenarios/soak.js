// Soak: an ordinary day for hours. What leaks, grows or wears out shows in the report's memory and latency over time.

import { RATE, number } from '../lib/environment.js';
import { plan } from '../lib/plan.js';
import { AVERAGE } from '../lib/thresholds.js';

export { answer, look, submit } from '../lib/journeys.js';
export { handleSummary, setup } from '../lib/run.js';

/** An hour, for a night; a release takes 28800 (eight). */
const SECONDS = number('DURATION', 3600);

export const options = plan({ shape: { start: RATE, stages: [{ seconds: SECONDS, rate: RATE }] }, thresholds: AVERAGE });
