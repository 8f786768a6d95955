// Checks of what comes back: bodies, headers and how they fit together, each under a sentence that says what holds. Not:
// what is asked, or how long it took.

import { check } from 'k6';

import { MODEL } from './environment.js';

const JOB_ID = /^job_[0-9a-f]{32}$/;

/** The body as an object; an empty one if it isn't JSON. */
export function bodyOf(response) {
  try {
    return response.json() || {};
  } catch (_) {
    return {};
  }
}

/** Whether a text is one of our job ids. */
export function isJobId(text) {
  return typeof text === 'string' && JOB_ID.test(text);
}

function isText(value) {
  return typeof value === 'string' && value.length > 0;
}

/** What every reply of the gateway has. */
export function everyReply(response) {
  return check(response, {
    'every reply: JSON': (r) => (r.headers['Content-Type'] || '').startsWith('application/json'),
    'every reply: x-request-id': (r) => isText(r.headers['X-Request-Id']),
    'every reply: not to be stored': (r) => r.headers['Cache-Control'] === 'no-store',
  });
}

/** A `chat.completion` that three replicas were asked for, and that as many as the quorum agree on. */
export function completion(object, quorum, tokens_max) {
  const { choices: [choice] = [], usage = {}, verification = {} } = object;
  const replicas = verification.replicas || {};
  return check(object, {
    'answer: a chat.completion of the model asked for': (o) => o.object === 'chat.completion' && o.model === MODEL,
    'answer: text is not empty': () => isText(choice && choice.message && choice.message.content),
    'answer: role and finish_reason': () =>
      !!choice && choice.message.role === 'assistant' && ['stop', 'length'].includes(choice.finish_reason),
    'answer: ids belong together': (o) => isJobId(o.job_id) && o.id === `chatcmpl-${o.job_id.slice('job_'.length)}`,
    'usage: prompt and completion are counted': () =>
      usage.prompt_tokens > 0 && usage.completion_tokens > 0 && usage.completion_tokens <= tokens_max,
    'usage: the total is their sum': () => usage.total_tokens === usage.prompt_tokens + usage.completion_tokens,
    'verification: status is verified': () => verification.status === 'verified',
    'verification: 3 of 3 replicas were asked': () => replicas.asked === 3,
    'verification: the quorum answered': () => replicas.answered >= quorum && replicas.answered <= 3,
    'verification: the quorum agreed': () => replicas.agreed >= quorum && replicas.agreed <= replicas.answered,
    'verification: a rung and numbers inside': () => isText(verification.rung) && verification.numbers === 'inside',
  });
}

/** The receipt of a submission. */
export function receipt(response) {
  return check(response, {
    'submit: 200 and queued': (r) => r.status === 200 && bodyOf(r).status === 'queued',
    'submit: a job id, in body and header': (r) =>
      isJobId(bodyOf(r).job_id) && r.headers['X-Job-Id'] === bodyOf(r).job_id,
  });
}

/** A job object, whatever its status. */
export function job(response, id) {
  return check(response, {
    'job: 200': (r) => r.status === 200,
    'job: its own id, twice': (r) => bodyOf(r).id === id && bodyOf(r).job_id === id,
    'job: a known status': (r) =>
      ['queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired'].includes(bodyOf(r).status),
    'job: expires after it was made': (r) => bodyOf(r).expires > bodyOf(r).created,
  });
}

/** The list of models, with ours served by three nodes at least. */
export function models(response) {
  const ours = (bodyOf(response).data || []).find((entry) => entry.id === MODEL) || {};
  return check(response, {
    'models: 200 and a list': (r) => r.status === 200 && bodyOf(r).object === 'list',
    'models: ours is there': () => ours.object === 'model' && ours.context_length > 0 && ours.created > 0,
    'models: at least 3 nodes serve it': () => ours.nodes >= 3,
  });
}

/** The network's counts. */
export function statistics(response) {
  const counts = ['accepted', 'queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired', 'nodes'];
  return check(response, {
    'network_stats: 200 and counts': (r) =>
      r.status === 200 && counts.every((name) => Number.isInteger(bodyOf(r)[name]) && bodyOf(r)[name] >= 0),
  });
}

/** An error as OpenAI's clients read it. */
export function openaiError(response, status, code) {
  const { error = {} } = bodyOf(response);
  return check(response, {
    'mistakes under /v1: the expected status': (r) => r.status === status,
    'mistakes under /v1: the expected code': () => error.code === code,
    'mistakes under /v1: message, type and param': () =>
      isText(error.message) && isText(error.type) && 'param' in error,
  });
}

/** An error as FastAPI's clients read it: a sentence, or one entry per mistake. */
export function ownError(response, status, mistakes) {
  const { detail } = bodyOf(response);
  const isEntry = (entry) => isText(entry.type) && isText(entry.msg) && Array.isArray(entry.loc);
  const isMistakes = Array.isArray(detail) && detail.length === mistakes && detail.every(isEntry);
  return check(response, {
    "mistakes on the network's paths: the expected status": (r) => r.status === status,
    "mistakes on the network's paths: FastAPI's detail": () => (mistakes > 0 ? isMistakes : isText(detail)),
  });
}

/** Whether a refusal is honest: 429 or 503, when to come back, and a reason that programs can read. */
export function isHonestRefusal(response) {
  if (response.status !== 429 && response.status !== 503) return false;
  const body = bodyOf(response);
  const wait_s = Number(response.headers['Retry-After']);
  const reason = body.detail || (body.error && body.error.code);
  return check(response, {
    'refusals: Retry-After and a reason': () => Number.isInteger(wait_s) && wait_s >= 0 && isText(reason),
  });
}

/** The same submission again. */
export function replay(response, id) {
  return check(response, {
    'submit again: the same job': (r) => r.status === 200 && bodyOf(r).job_id === id,
    'submit again: marked as a replay': (r) => r.headers['Idempotent-Replayed'] === 'true',
  });
}

/** A job called off, and what another gateway says of it later. */
export function cancelled(response, later) {
  return check(response, {
    'cancel: cancelled, or ended before': (r) => ['cancelled', 'succeeded'].includes(bodyOf(r).status),
    'cancel: the end is the end': (r) => bodyOf(later).status === bodyOf(r).status,
  });
}
