// Random bodies to POST /v1/chat/completions (fast-check, npm): none is a 5xx, none hangs, each
// answer has the shape of docs/API.md, and what its tables accept is accepted.
// usage: node properties.mjs http://127.0.0.1:52415 MODEL docs/API.md [directory with node_modules]
//
// RENGA_PROPERTY_RUNS (2000) bodies, half of them meant to be valid; besides, a quarter as many that
// are certainly valid and a tenth as many with one field that is refused.  RENGA_PROPERTY_SEED
// repeats a run; a failing body is made smaller and printed.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

import { checkAnswer } from './answer_shapes.mjs';
import { makeGenerators, write } from './body_generators.mjs';

const [url, model, docs, where = process.cwd()] = process.argv.slice(2);
const fc = createRequire(pathToFileURL(`${where}/`))('fast-check');
const runs = Number(process.env.RENGA_PROPERTY_RUNS ?? 2000);
const seed = Number(process.env.RENGA_PROPERTY_SEED ?? Math.floor(Math.random() * 2 ** 31));
const HANG_MS = 10000;
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const { host: address } = new URL(url);
const counts = new Map();

// Each row of the table of the body's fields: name -> how it is used.
function documentedFields(text) {
  const table = text.slice(text.indexOf('### The body'), text.indexOf('### `stream_options`'));
  return new Map([...table.matchAll(/^\| `(\w+)` \| [^|]+ \| ([^|]+) \|/gm)]
    .map((row) => [row[1], row[2].trim()]));
}

// The body goes out with its length, or as chunks that end at the given places.
function post(body, cuts) {
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/json' };
    if (cuts.length === 0) headers['Content-Length'] = body.length;
    const request = http.request(`${url}/v1/chat/completions`,
      { method: 'POST', agent, headers }, (response) => {
        const pieces = [];
        response.on('data', (piece) => pieces.push(piece));
        response.on('error', reject);
        response.on('end', () => resolve({
          status: response.statusCode, headers: response.headers, body: Buffer.concat(pieces),
        }));
      });
    request.setTimeout(HANG_MS, () => request.destroy(new Error(`no answer in ${HANG_MS} ms`)));
    request.on('error', reject);
    let from = 0;
    for (const cut of [...cuts].sort((a, b) => a - b)) {
      const to = cut % (body.length + 1);
      if (to > from) request.write(body.subarray(from, to));
      from = Math.max(from, to);
    }
    request.end(body.subarray(from));
  });
}

async function ask(body, cuts) {
  const begin = performance.now();
  const answer = await post(body, cuts);
  assert.ok(performance.now() - begin <= HANG_MS, 'the answer took over 10 s');
  const code = checkAnswer(answer, model);
  const kind = `${answer.status} ${code}`;
  counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return { ...answer, code };
}

function parsed(body) {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body));
  } catch {
    return undefined;
  }
}

// What the answer owes to the request, for a body that was taken.
function checkAgainst(answer, asked) {
  const n = asked.n ?? 1;
  const most = asked.max_tokens ?? asked.max_completion_tokens;
  const { texts, logprobs, usage, streamed } = answer.code;
  assert.equal(streamed, asked.stream ?? false, 'stream');
  assert.equal(texts.length, n, 'n');
  if (most && usage) assert.ok(usage.completion_tokens <= most * n, 'max_tokens');
  if (streamed) assert.equal(Boolean(usage), asked.stream_options?.include_usage ?? false, 'usage');
  for (const stop of [asked.stop ?? []].flat())
    for (const text of texts) assert.ok(!text.includes(stop), `the stop string ${stop} is there`);
  for (const entries of logprobs) {
    assert.equal(Boolean(entries), asked.logprobs ?? false, 'logprobs');
    for (const entry of entries ?? [])
      assert.equal(entry.top_logprobs.length, asked.top_logprobs ?? 0, 'top_logprobs');
  }
}

async function run(name, numRuns, property) {
  const begin = performance.now();
  const result = await fc.check(property, { numRuns, seed, endOnFailure: false });
  if (result.failed) {
    const [input] = result.counterexample;
    const body = Buffer.isBuffer(input.bytes) ? input.bytes : write(input);
    console.log(`FAIL ${name}: seed ${seed}, run ${result.numRuns}, shrunk ${result.numShrinks} ` +
      `times: ${result.errorInstance?.stack ?? result.error}\n` +
      `${body.length} bytes: ${JSON.stringify(body.subarray(0, 3000).toString('latin1'))}` +
      `${input.cuts?.length ? ` as chunks cut at ${input.cuts}` : ''}`);
    process.exit(1);
  }
  const seconds = (performance.now() - begin) / 1000;
  console.log(`${name}: ${numRuns} bodies in ${seconds.toFixed(1)} s`);
}

const fields = documentedFields(readFileSync(docs, 'utf8'));
assert.ok(fields.size >= 30, `${docs} has no table of fields`);
const make = makeGenerators(fc, model, fields);
console.log(`seed ${seed}, server ${address}`);

await run('any body', runs, fc.asyncProperty(make.anyBody, async ({ bytes, cuts }) => {
  const answer = await ask(bytes, cuts);
  const value = parsed(bytes);
  if (answer.status === 200) assert.notEqual(value, undefined, 'this is not JSON, but was taken');
  if (value === undefined) assert.equal(answer.status, 400, 'the status of what is not JSON');
}));

await run('valid body', Math.ceil(runs / 4), fc.asyncProperty(make.validBody, async (body) => {
  const answer = await ask(write(body), []);
  assert.equal(answer.status, 200, answer.body.toString());
  checkAgainst(answer, JSON.parse(write(body)));
}));

await run('refused field', Math.ceil(runs / 10), fc.asyncProperty(
  make.validBody, make.refusedField, async (body, [name, value, code]) => {
    const answer = await ask(write({ ...body, [name]: value }), []);
    assert.deepEqual([answer.status, answer.code], [400, code], answer.body.toString());
    assert.equal(JSON.parse(answer.body).error.param, Buffer.from(name).subarray(0, 127).toString());
  }));

const total = [...counts.values()].reduce((a, b) => a + b);
const kinds = [...counts].sort((a, b) => b[1] - a[1]).map(([kind, n]) => `${n} x ${kind}`);
console.log(`${total} answers: ${kinds.join(', ')}`);
agent.destroy();
