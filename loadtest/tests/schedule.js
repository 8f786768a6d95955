// The moments that lib/schedule.js says arrivals are due, as a table. Run by test_scenarios.py: one iteration, no network.

import { check } from 'k6';

import { intendedS, isFlat, peak, phaseAt, share } from '../lib/schedule.js';

export const options = { thresholds: { checks: ['rate==1'] } };

const near = (left, right) => Math.abs(left - right) < 1e-9;
const flat = { start: 4, stages: [{ seconds: 10, rate: 4 }] };
// From 0 to 2 a second in 10 s: 10 arrivals, the n-th when t²/10 = n. Then 2 a second, then down to 0 in 10 s.
const hill = {
  start: 0,
  stages: [
    { seconds: 10, rate: 2 },
    { seconds: 5, rate: 2 },
    { seconds: 10, rate: 0 },
  ],
};

export default function () {
  check(null, {
    'flat: the first at once, the fifth after a second': () => intendedS(flat, 0) === 0 && near(intendedS(flat, 4), 1),
    'ramp: the first when the area is 1': () => near(intendedS(hill, 0), Math.sqrt(10)),
    'ramp: the tenth at its end': () => near(intendedS(hill, 9), 10),
    'plateau: half a second apart': () => near(intendedS(hill, 10), 10.5) && near(intendedS(hill, 19), 15),
    'down: slower and slower': () => near(intendedS(hill, 20), 25 - Math.sqrt(90)) && near(intendedS(hill, 29), 25),
    'beyond the end: the end': () => near(intendedS(hill, 99), 25),
    'share: as long, a part of it': () => near(intendedS(share(hill, 0.5), 4), 10) && share(hill, 0.5).stages.length === 3,
    'flat or not': () => isFlat(flat) && !isFlat(hill),
    'peak': () => peak(hill) === 2 && peak(flat) === 4,
    'phases end where they say': () => {
      const phases = [{ name: 'before', until_s: 5 }, { name: 'after', until_s: Infinity }];
      return phaseAt(phases, 4.9) === 'before' && phaseAt(phases, 5) === 'after';
    },
  });
}
