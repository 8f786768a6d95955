// Spike: ten times the ordinary rate within ten seconds, and back. Nothing may break in it; a minute after it all is as
// before.

import { RATE, number } from '../lib/environment.js';
import { plan } from '../lib/plan.js';
import { SPIKE } from '../lib/thresholds.js';

export { answer, look, submit } from '../lib/journeys.js';
export { handleSummary, setup } from '../lib/run.js';

/** How many times the ordinary rate. */
const TIMES = number('TIMES', 10);

/** Two minutes on top: longer than any queue on the way could hide. */
const SECONDS = number('DURATION', 120);

const CALM_S = 30;
const EDGE_S = 10;

/** What was queued may take this long to be worked off; then the ordinary thresholds hold again. */
const RECOVERY_S = 60;

const stages = [
  { seconds: CALM_S, rate: RATE },
  { seconds: EDGE_S, rate: TIMES * RATE },
  { seconds: SECONDS, rate: TIMES * RATE },
  { seconds: EDGE_S, rate: RATE },
  { seconds: RECOVERY_S + CALM_S, rate: RATE },
];

const over_s = CALM_S + EDGE_S + SECONDS + EDGE_S;
const phases = [
  { name: 'before', until_s: CALM_S },
  { name: 'spike', until_s: over_s },
  { name: 'recovery', until_s: over_s + RECOVERY_S },
  { name: 'after', until_s: Infinity },
];

export const options = plan({ shape: { start: RATE, stages }, phases, thresholds: SPIKE });
