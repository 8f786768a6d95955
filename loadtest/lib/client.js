// One request to a gateway. Not: what is right about the reply.

import http from 'k6/http';

import { API_KEY, URLS } from './environment.js';

/** A synchronous answer may take as long as the request allows it (payloads.js: 60 s), and a little more. */
const TIMEOUT = '65s';

/** The gateway for this number: each in turn. */
export function gateway(number) {
  return URLS[number % URLS.length];
}

/**
 * Sends a request and waits for its reply.
 * @param {string} method
 * @param {string} url gateway and path
 * @param {{name: string, body?: object, headers?: object, expected?: number[]}} about `name` groups requests in the
 *   report; statuses beyond `expected` count as failed
 */
export function send(method, url, about) {
  const headers = { 'Content-Type': 'application/json', ...credential(about), ...(about.headers || {}) };
  const statuses = http.expectedStatuses(...(about.expected || [200]));
  const options = { headers, tags: { name: about.name }, timeout: TIMEOUT, responseCallback: statuses };
  return http.request(method, url, about.body ? JSON.stringify(about.body) : null, options);
}

/** The key, in the way of the face that is spoken to. */
function credential(about) {
  if (about.anonymous) return {};
  return about.own_face ? { api_key: API_KEY } : { Authorization: `Bearer ${API_KEY}` };
}
