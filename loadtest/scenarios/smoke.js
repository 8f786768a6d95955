// Smoke: is anything wrong at all? So few arrivals that nothing waits for anything else, and not one flaw is allowed.

import { number } from '../lib/environment.js';
import { plan } from '../lib/plan.js';
import { FLAWLESS } from '../lib/thresholds.js';

export { answer, look, submit } from '../lib/journeys.js';
export { handleSummary, setup } from '../lib/run.js';

/** A minute: each kind of mistake is made several times, and a person waits for it. */
const SECONDS = number('DURATION', 60);

/** Three a second: within the limits that a gateway has unless its operator says otherwise. */
const RATE = number('RATE', 3);

export const options = plan({ shape: { start: RATE, stages: [{ seconds: SECONDS, rate: RATE }] }, thresholds: FLAWLESS });
