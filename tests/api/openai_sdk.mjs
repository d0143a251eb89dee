// The openai package (npm) against a server.
// usage: node openai_sdk.mjs http://127.0.0.1:52415/v1 [directory with node_modules]
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [url, where = process.cwd()] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${where}/`));
const OpenAI = require('openai').default ?? require('openai');
const client = new OpenAI({ baseURL: url, apiKey: 'none', maxRetries: 0, timeout: 60000 });

const model = (await client.models.list()).data[0].id;
const ask = {
  model, messages: [{ role: 'user', content: 'Hello' }], temperature: 0, max_tokens: 20,
};

const whole = await client.chat.completions.create(ask);
const text = whole.choices[0].message.content;

let streamed = '';
let usage = null;
for await (const chunk of await client.chat.completions.create({
  ...ask, stream: true, stream_options: { include_usage: true },
})) {
  streamed += chunk.choices[0]?.delta?.content ?? '';
  usage = chunk.usage ?? usage;
}
assert.equal(streamed, text);
assert.deepEqual(usage, whole.usage);

const abort = new AbortController();
const long = await client.chat.completions.create(
  { ...ask, max_tokens: 1000, stream: true }, { signal: abort.signal });
for await (const chunk of long) {
  assert.ok(chunk.id);
  abort.abort();
  break;
}

await assert.rejects(client.chat.completions.create({ ...ask, temperature: 3 }),
  (e) => e instanceof OpenAI.BadRequestError && e.param === 'temperature');
await assert.rejects(client.chat.completions.create({ ...ask, model: 'gpt-4' }),
  (e) => e instanceof OpenAI.NotFoundError && e.code === 'model_not_found');
console.log(`openai for node: ${JSON.stringify(text)}`);
