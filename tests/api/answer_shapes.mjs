// What an answer of the chat endpoint must look like, after docs/API.md: an error, a completion or
// a stream of chunks.
import assert from 'node:assert/strict';

const CODES = {
  400: ['invalid_json', 'unknown_field', 'invalid_value', 'unsupported', 'context_length_exceeded'],
  404: ['model_not_found'],
  413: ['invalid_value'],
};

function keys(object, wanted, what) {
  assert.ok(object !== null && typeof object === 'object', `${what} is no object`);
  assert.deepEqual(Object.keys(object).sort(), [...wanted].sort(), `the keys of ${what}`);
}

function count(value, what) {
  assert.ok(Number.isSafeInteger(value) && value >= 0, `${what} is ${value}`);
}

function checkError(status, text) {
  const object = JSON.parse(text);
  keys(object, ['error'], 'the answer');
  const { error } = object;
  keys(error, ['message', 'type', 'param', 'code'], 'the error');
  assert.ok(typeof error.message === 'string' && error.message.length > 0, 'the message');
  assert.equal(error.type, 'invalid_request_error');
  assert.ok(error.param === null || (typeof error.param === 'string' && error.param), 'param');
  assert.ok(CODES[status]?.includes(error.code), `status ${status} with code ${error.code}`);
  return error.code;
}

function checkToken(entry, more) {
  keys(entry, ['token', 'logprob', 'bytes', ...more], 'a token');
  assert.equal(typeof entry.token, 'string');
  assert.ok(Number.isFinite(entry.logprob) && entry.logprob <= 0, `logprob ${entry.logprob}`);
  assert.ok(entry.bytes.every((b) => Number.isInteger(b) && b >= 0 && b < 256), 'bytes');
}

function checkLogprobs(logprobs) {
  if (logprobs === null) return null;
  keys(logprobs, ['content', 'refusal'], 'logprobs');
  for (const entry of logprobs.content) {
    checkToken(entry, ['top_logprobs']);
    for (const top of entry.top_logprobs) checkToken(top, []);
  }
  return logprobs.content;
}

function checkUsage(usage) {
  keys(usage, ['prompt_tokens', 'completion_tokens', 'total_tokens'], 'usage');
  for (const [name, value] of Object.entries(usage)) count(value, name);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
}

function checkHead(object, kind, model, more) {
  keys(object, ['id', 'object', 'created', 'model', 'system_fingerprint', 'choices', ...more], kind);
  assert.match(object.id, /^chatcmpl-[0-9a-f]{16}$/);
  assert.equal(object.object, kind);
  assert.ok(Math.abs(object.created - Date.now() / 1000) < 600, 'created');
  assert.equal(object.model, model);
  assert.match(object.system_fingerprint, /^renga-/);
}

function checkCompletion(text, model) {
  const object = JSON.parse(text);
  checkHead(object, 'chat.completion', model, ['usage']);
  checkUsage(object.usage);
  const texts = [];
  const logprobs = [];
  object.choices.forEach((choice, i) => {
    keys(choice, ['index', 'message', 'logprobs', 'finish_reason'], 'a choice');
    assert.equal(choice.index, i);
    keys(choice.message, ['role', 'content', 'refusal'], 'the message');
    assert.equal(choice.message.role, 'assistant');
    assert.equal(typeof choice.message.content, 'string');
    assert.ok(['stop', 'length'].includes(choice.finish_reason), choice.finish_reason);
    texts.push(choice.message.content);
    logprobs.push(checkLogprobs(choice.logprobs));
  });
  return { texts, logprobs, usage: object.usage, streamed: false };
}

function checkChunk(choice, state) {
  keys(choice, ['index', 'delta', 'logprobs', 'finish_reason'], 'a choice of a chunk');
  const seen = state[choice.index] ??= { text: '', logprobs: null, ended: false, begun: false };
  assert.ok(!seen.ended, 'a chunk after finish_reason');
  assert.equal(choice.delta.role, seen.begun ? undefined : 'assistant', 'the role comes first');
  assert.ok(Object.keys(choice.delta).every((k) => k === 'role' || k === 'content'), 'delta');
  seen.begun = true;
  seen.text += choice.delta.content ?? '';
  const entries = checkLogprobs(choice.logprobs);
  if (entries) seen.logprobs = [...(seen.logprobs ?? []), ...entries];
  seen.ended = choice.finish_reason !== null;
  if (seen.ended) assert.ok(['stop', 'length'].includes(choice.finish_reason));
}

function checkStream(text, model) {
  const blocks = text.split('\n\n');
  assert.equal(blocks.pop(), '', 'the end of the last event');
  const data = [];
  for (const block of blocks) {
    assert.ok(!block.includes('\n'), 'an event of two lines');
    if (!block.startsWith(':')) {
      assert.ok(block.startsWith('data: '), `neither data nor comment: ${block.slice(0, 80)}`);
      data.push(block.slice(6));
    }
  }
  assert.equal(data.pop(), '[DONE]', 'the last event');
  const chunks = data.map((d) => JSON.parse(d));
  const withUsage = chunks.length > 0 && 'usage' in chunks[0];
  let usage = null;
  const state = [];
  chunks.forEach((chunk, i) => {
    checkHead(chunk, 'chat.completion.chunk', model, withUsage ? ['usage'] : []);
    assert.equal(chunk.id, chunks[0].id);
    if (withUsage && i === chunks.length - 1) {
      assert.deepEqual(chunk.choices, []);
      checkUsage(chunk.usage);
      usage = chunk.usage;
      return;
    }
    assert.equal(chunk.usage ?? null, null, 'usage before the end');
    assert.equal(chunk.choices.length, 1);
    checkChunk(chunk.choices[0], state);
  });
  assert.ok(state.length > 0 && state.every((s) => s.ended), 'a choice without an end');
  return {
    texts: state.map((s) => s.text), logprobs: state.map((s) => s.logprobs), usage, streamed: true,
  };
}

// -> the code of an error, or what a good answer holds: texts, logprobs, usage, streamed
export function checkAnswer(answer, model) {
  const text = new TextDecoder('utf-8', { fatal: true }).decode(answer.body);
  const type = answer.headers['content-type'];
  if (answer.status !== 200) {
    assert.equal(type, 'application/json');
    return checkError(answer.status, text);
  }
  const good = type === 'text/event-stream' ? checkStream(text, model) : checkCompletion(text, model);
  if (type !== 'text/event-stream') assert.equal(type, 'application/json');
  good.toString = () => (good.streamed ? 'stream' : 'completion');
  return good;
}
