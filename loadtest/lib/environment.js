// What a run is told from outside: where to, as whom, which model, how much, how long. Not: which traffic, or what is
// right; `make load` (run.py) sets these.

/** Gateways, used in turn. A job submitted at one is asked for at the next. */
export const URLS = (__ENV.LOAD_URLS || '').split(',').filter((url) => url !== '');

/** The key that opens them. */
export const API_KEY = __ENV.INFERA_API_KEY || '';

/** The model asked for: the one that ships with the repository, which the stub engine serves under the same name. */
export const MODEL = __ENV.MODEL || 'infera-tiny';

/** Where k6's own summary goes. */
export const SUMMARY = __ENV.SUMMARY || 'summary.json';

/** Names this run in idempotency keys, so that no run is answered with another one's jobs. */
export const RUN = __ENV.RUN || 'run';

/**
 * A positive number from the environment.
 * @param {string} name of the variable
 * @param {number} standard what it is if it isn't set
 */
export function number(name, standard) {
  const text = __ENV[name];
  if (text === undefined || text === '') return standard;
  const value = Number(text);
  if (!(value > 0)) throw new Error(`${name}=${text}: a positive number is needed`);
  return value;
}

/**
 * Arrivals per second that stand for an ordinary day; every scenario but smoke is a multiple of it.
 *
 * 20: 1.7 million a day, and a seventh of the knee of `infera up` on two busy cores (README.md), so that an ordinary day leaves
 * the machine room.
 */
export const RATE = number('RATE', 20);
