// What is asked. Short questions that the bundled model knows something about, in the three forms that the gateway takes.

import { MODEL } from './environment.js';

const QUESTIONS = [
  'What is 47 + 38?',
  'What is the capital of France?',
  'What is the opposite of cold?',
  'How many days does a week have?',
  'What is a gateway?',
  'How many centimetres is 3 metres?',
  'Which day comes after Tuesday?',
  'What is 9 times 7? Answer with the number only, please, and nothing else.',
];

/**
 * Tokens of an answer at most. 16: what the stub engine answers, and enough for the bundled model's sentences; longer ones
 * would measure the engine.
 */
export const TOKENS_MAX = 16;

/** The two quorums that can be asked of three replicas, in turn. 2 is what a request gets that doesn't say. */
export function quorumOf(index) {
  return index % 2 === 0 ? 2 : 3;
}

function messages(index) {
  return [{ role: 'user', content: QUESTIONS[index % QUESTIONS.length] }];
}

/** The body of `POST /v1/chat/completions`. */
export function openai(index, quorum) {
  return { model: MODEL, messages: messages(index), max_tokens: TOKENS_MAX, temperature: 0.7, verification: { quorum } };
}

/** The body of `POST /chat/completions`, the network's own form. */
export function chat(index, quorum) {
  return { ...openai(index, quorum), request_timeout_time: 60 };
}

/** The body of `POST /submit_job`. */
export function job(index, quorum) {
  return { model: MODEL, messages: messages(index), max_output: TOKENS_MAX, temperature: 0.7, verification: { quorum } };
}
