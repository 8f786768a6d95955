// What arrivals do. Three kinds of client, one function each, as k6 calls them: `answer` waits for its answer, `submit`
// leaves a job and comes back for it, `look` asks about the network and makes mistakes.

import { sleep } from 'k6';

import { gateway, send } from './client.js';
import { RUN } from './environment.js';
import { answer_latency, broken, ends, lateness, settle_latency, shed, submit_latency } from './metrics.js';
import * as payloads from './payloads.js';
import { arrival } from './plan.js';
import * as shapes from './shapes.js';

/** A job that hasn't ended by then counts as broken: the time that the project allows a job after the last fault, halved. */
const SETTLED_WITHIN_MS = 60_000;

/**
 * The first look at a job, and how much longer each pause is than the one before. So an end is seen late by at most half
 * of its own latency, and a slow network isn't drowned in questions.
 */
const FIRST_PAUSE_MS = 10;
const PAUSE_GROWTH = 1.5;
const PAUSE_MAX_MS = 1_000;

/** Notes that an arrival began, and how late. */
function begin() {
  const now = arrival();
  lateness.add(Math.max(0, now.began_ms - now.due_ms), now.tags);
  return now;
}

/** Notes what an arrival came to. */
function finish(now, end) {
  broken.add(end === 'broken', now.tags);
  ends.add(1, { ...now.tags, end });
}

function elapsed(now) {
  return Math.max(0, Date.now() - now.due_ms);
}

/** What a reply without an answer means. */
function endWithout(response) {
  if (!shapes.isHonestRefusal(response)) return 'broken';
  shed.add(1);
  return 'shed';
}

/** A conversation in, a verified answer out: on OpenAI's face and on the network's own in turn. */
export function answer() {
  const now = begin();
  const quorum = payloads.quorumOf(now.index);
  // Each gateway is asked on both faces and for both quorums: their turns have different lengths.
  const url = gateway(now.index >> 2);
  const own_face = (now.index >> 1) % 2 === 1;
  const response = own_face
    ? send('POST', `${url}/chat/completions`, { name: 'chat', own_face, body: payloads.chat(now.index, quorum) })
    : send('POST', `${url}/v1/chat/completions`, { name: 'chat', body: payloads.openai(now.index, quorum) });
  shapes.everyReply(response);
  if (response.status !== 200) return finish(now, endWithout(response));
  answer_latency.add(elapsed(now), now.tags);
  const holds = shapes.completion(shapes.bodyOf(response), quorum, payloads.TOKENS_MAX);
  return finish(now, holds ? 'succeeded' : 'broken');
}

/** A job left at one gateway and asked for at the next. One in ten is cancelled, one in ten is submitted twice. */
export function submit() {
  const now = begin();
  const order = {
    name: 'submit',
    own_face: true,
    headers: { 'Idempotency-Key': `${RUN}-${now.index}` },
    body: payloads.job(now.index, payloads.quorumOf(now.index)),
  };
  const response = send('POST', `${gateway(now.index)}/submit_job`, order);
  shapes.everyReply(response);
  if (response.status !== 200) return finish(now, endWithout(response));
  submit_latency.add(elapsed(now), now.tags);
  if (!shapes.receipt(response)) return finish(now, 'broken');
  const id = shapes.bodyOf(response).job_id;
  switch (now.index % 10) {
    case 4:
      return finish(now, again(now, order, id) ? settled(now, id) : 'broken');
    case 9:
      return finish(now, cancelled(now, id));
    default:
      return finish(now, settled(now, id));
  }
}

/** The same submission at the other gateway is the same job. */
function again(now, order, id) {
  const response = send('POST', `${gateway(now.index + 1)}/submit_job`, { ...order, name: 'submit again' });
  return shapes.replay(response, id);
}

/** Asks until the job has ended. */
function settled(now, id) {
  const url = `${gateway(now.index + 1)}/v1/jobs/${id}`;
  for (let pause_ms = FIRST_PAUSE_MS; ; pause_ms = Math.min(pause_ms * PAUSE_GROWTH, PAUSE_MAX_MS)) {
    sleep(pause_ms / 1000);
    const response = send('GET', url, { name: 'job' });
    if (response.status !== 200) return endWithout(response);
    if (!shapes.job(response, id)) return 'broken';
    const object = shapes.bodyOf(response);
    if (object.status === 'succeeded') {
      settle_latency.add(elapsed(now), now.tags);
      const quorum = payloads.quorumOf(now.index);
      return shapes.completion(object.result || {}, quorum, payloads.TOKENS_MAX) ? 'succeeded' : 'broken';
    }
    if (!['queued', 'running'].includes(object.status) || Date.now() > now.began_ms + SETTLED_WITHIN_MS) return 'broken';
  }
}

/** Calls the job off: it is cancelled, or had ended before; and so it stays. */
function cancelled(now, id) {
  const [here, there] = [gateway(now.index), gateway(now.index + 1)];
  const response = send('DELETE', `${here}/v1/jobs/${id}`, { name: 'cancel' });
  if (response.status !== 200) return endWithout(response);
  const later = send('GET', `${there}/v1/jobs/${id}`, { name: 'job' });
  if (later.status !== 200) return endWithout(later);
  if (!shapes.job(response, id) || !shapes.cancelled(response, later)) return 'broken';
  return shapes.bodyOf(later).status;
}

/** Models, counts and the usual mistakes, one of them each time. */
export function look() {
  const now = begin();
  const looks = [models, statistics, unknownJob, noKey, unknownModel, missingFields];
  const url = gateway(Math.floor(now.index / looks.length));
  const { response, check } = looks[now.index % looks.length](url, now.index);
  shapes.everyReply(response);
  if (response.status === 429 || response.status === 503) return finish(now, endWithout(response));
  return finish(now, check(response) ? 'looked' : 'broken');
}

function models(url) {
  return { response: send('GET', `${url}/v1/models`, { name: 'models' }), check: shapes.models };
}

function statistics(url) {
  const response = send('GET', `${url}/network_stats`, { name: 'network_stats', own_face: true });
  return { response, check: shapes.statistics };
}

function unknownJob(url) {
  const nobody = `job_${'0'.repeat(32)}`;
  const response = send('GET', `${url}/v1/jobs/${nobody}`, { name: 'mistake', expected: [404] });
  return { response, check: (r) => shapes.openaiError(r, 404, 'not_found') };
}

function noKey(url) {
  const response = send('GET', `${url}/v1/models`, { name: 'mistake', anonymous: true, expected: [401] });
  return { response, check: (r) => shapes.openaiError(r, 401, 'missing_api_key') };
}

function unknownModel(url, index) {
  const body = { ...payloads.openai(index, 2), model: 'no-such-model' };
  const response = send('POST', `${url}/v1/chat/completions`, { name: 'mistake', body, expected: [404] });
  return { response, check: (r) => shapes.openaiError(r, 404, 'model_not_found') };
}

/** A submission that lacks two fields gets both named, as FastAPI does. */
function missingFields(url, index) {
  const { messages, max_output } = payloads.job(index, 2);
  const about = { name: 'mistake', own_face: true, body: { messages, max_output }, expected: [422] };
  return { response: send('POST', `${url}/submit_job`, about), check: (r) => shapes.ownError(r, 422, 2) };
}
