// Before and after: is there what the run needs, and where its summary goes.

import exec from 'k6/execution';

import { gateway, send } from './client.js';
import { API_KEY, MODEL, SUMMARY, URLS } from './environment.js';
import { requestsPerMinute } from './plan.js';
import { bodyOf, models } from './shapes.js';

/** Looks at each gateway; says what to do if the run would only measure a limit. */
export function setup() {
  if (URLS.length === 0 || API_KEY === '') exec.test.abort('LOAD_URLS and INFERA_API_KEY are needed: use `make load`');
  for (let number = 0; number < URLS.length; number += 1) {
    const response = send('GET', `${gateway(number)}/v1/models`, { name: 'setup' });
    if (response.status !== 200) exec.test.abort(`${gateway(number)} answers ${response.status} ${response.error}`);
    const allowed = Number(response.headers['X-Ratelimit-Limit-Requests'] || Infinity);
    if (allowed < requestsPerMinute() / URLS.length) {
      exec.test.abort(
        `this key may make ${allowed} requests a minute, the run some ${Math.round(requestsPerMinute())}: it would measure ` +
          'the limit. `make cluster` has none; `infera up` needs INFERA_GATEWAY__REQUESTS_PER_MINUTE=0 INFERA_GATEWAY__IN_FLIGHT_MAX=0',
      );
    }
    if (!models(response)) exec.test.abort(`three nodes of ${MODEL} are needed: ${JSON.stringify(bodyOf(response))}`);
  }
}

/** k6's summary, as JSON and nothing else: the page is made of it. */
export function handleSummary(data) {
  return { [SUMMARY]: JSON.stringify(data, null, 1) };
}
