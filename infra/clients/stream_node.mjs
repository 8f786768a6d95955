// Streams with OpenAI's package for Node, unmodified, and holds each stream to the same answer unstreamed. Prints a line of JSON for
// each promise: {"promise": …, "kept": …, "found": …}.

import { createRequire } from 'node:module';

// The package lies in the folder that infra/clients.sh installs it into.
const OpenAI = createRequire(`${process.env.CLIENTS_NODE}/`)('openai');

const model = process.env.CLIENTS_MODEL;
const client = new OpenAI();
const messages = [{ role: 'user', content: 'What is 47 + 38?' }];

function hold(promise, kept, found) {
  console.log(JSON.stringify({ promise: `Node: ${promise}`, kept: Boolean(kept), found }));
}

/** A stream's texts, ends and tokens by choice, its usage and the verdict of its last chunk. */
async function streamed(more) {
  const stream = await client.chat.completions.create({
    model, messages, max_tokens: 48, stream: true, stream_options: { include_usage: true }, ...more,
  });
  const seen = { texts: {}, ends: {}, tokens: {}, usage: null, status: null };
  for await (const chunk of stream) {
    for (const choice of chunk.choices) {
      if (choice.delta.content) seen.texts[choice.index] = (seen.texts[choice.index] || '') + choice.delta.content;
      if (choice.logprobs) seen.tokens[choice.index] = choice.logprobs.content.map((one) => one.token);
      if (choice.finish_reason) [seen.ends[choice.index], seen.status] = [choice.finish_reason, chunk.verification.status];
    }
    seen.usage = chunk.usage || seen.usage;
  }
  return seen;
}

/** The same of an answer that isn't streamed. */
async function whole(more) {
  const answer = await client.chat.completions.create({ model, messages, max_tokens: 48, ...more });
  const seen = { texts: {}, ends: {}, tokens: {}, usage: answer.usage, status: answer.verification.status };
  for (const choice of answer.choices) {
    if (choice.message.content) seen.texts[choice.index] = choice.message.content;
    if (choice.logprobs) seen.tokens[choice.index] = choice.logprobs.content.map((one) => one.token);
    seen.ends[choice.index] = choice.finish_reason;
  }
  return seen;
}

const mixes = {
  'temperature 0': { temperature: 0 },
  seed: { temperature: 0.8, seed: 7 },
  'n of 3': { temperature: 1, seed: 5, n: 3 },
  stop: { temperature: 0, stop: ['8', ' is'] },
  logprobs: { temperature: 0.7, seed: 3, logprobs: true, top_logprobs: 3 },
};
for (const [name, mix] of Object.entries(mixes)) {
  const expected = await whole(mix);
  for (const release of ['agreed', 'first', 'verified']) {
    const found = await streamed({ ...mix, verification: { release } });
    for (const part of ['texts', 'ends', 'tokens', 'status']) {
      const kept = JSON.stringify(found[part]) === JSON.stringify(expected[part]);
      hold(`${name}, ${release}: the same ${part} as unstreamed`, kept, [found[part], expected[part]]);
    }
    hold(`${name}, ${release}: the same usage`, found.usage?.completion_tokens === expected.usage.completion_tokens, found.usage);
  }
}

const helped = client.chat.completions.stream({ model, messages, temperature: 0, max_tokens: 48 });
let deltas = '';
helped.on('content', (delta) => { deltas += delta; });
const final = await helped.finalChatCompletion();
hold('.stream() gathers the answer', deltas !== '' && final.choices[0].message.content === deltas, [deltas, final.choices]);

const left = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 48, stream: true });
for await (const chunk of left) {
  if (chunk.choices[0]?.delta.content) break;
}
hold('breaking off a stream aborts it', left.controller.signal.aborted, left.controller.signal.aborted);

try {
  await client.chat.completions.create({ model, messages, stream: true, verification: { replicas: 1, release: 'agreed' } });
  hold('agreed of one is refused', false, 'it was answered');
} catch (error) {
  hold('agreed of one is refused', error instanceof OpenAI.BadRequestError && error.code === 'invalid_value', `${error}`);
}
