// What a run must keep, k6's exit code included. The numbers come from the project's own targets; what this repository's
// development machine does is in README.md.

/** A run with dropped arrivals says nothing about the server: the load was not what it claims to be. */
const VALID = { dropped_iterations: ['count==0'] };

/** Nothing is wrong, refused or unexplained. */
export const FLAWLESS = {
  ...VALID,
  checks: ['rate==1'],
  http_req_failed: ['rate==0'],
  broken: ['rate==0'],
  shed: ['count==0'],
};

/**
 * Ordinary load: a submission costs a commit (50 ms is several of a slow disk's), the slowest one in a hundred may wait
 * for a batch before its own. An answer with a model takes seconds, and so do the nodes of strangers.
 */
export const AVERAGE = {
  ...VALID,
  checks: ['rate>0.999'],
  broken: ['rate<0.001'],
  shed: ['count==0'],
  submit_latency: ['p(95)<50', 'p(99)<200'],
  answer_latency: ['p(95)<10000', 'p(99)<60000'],
  settle_latency: ['p(95)<10000', 'p(99)<60000'],
};

/** Twice the load, twice the slowest; refusals are fine if they are honest. */
export const STRESS = {
  ...VALID,
  checks: ['rate>0.999'],
  broken: ['rate<0.001'],
  submit_latency: ['p(99)<400'],
  answer_latency: ['p(99)<120000'],
  settle_latency: ['p(99)<120000'],
};

/** Nothing breaks in the spike, and a minute later everything is as it was. */
export const SPIKE = {
  ...VALID,
  checks: ['rate>0.999'],
  broken: ['rate<0.001'],
  'submit_latency{phase:before}': ['p(99)<200'],
  'submit_latency{phase:after}': ['p(99)<200'],
  'settle_latency{phase:after}': ['p(99)<60000'],
};

/** Where to stop: dropped arrivals, or one in twenty broken, mean that the knee is behind us. */
export const BREAKPOINT = {
  dropped_iterations: [{ threshold: 'count==0', abortOnFail: true }],
  broken: [{ threshold: 'rate<0.05', abortOnFail: true, delayAbortEval: '30s' }],
  answer_latency: [{ threshold: 'p(95)<10000', abortOnFail: true, delayAbortEval: '30s' }],
};
