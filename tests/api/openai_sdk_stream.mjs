// One long stream through the openai package: "begun" when some of it is there, then all of it as JSON.
// usage: node openai_sdk_stream.mjs http://127.0.0.1:52415/v1 '{"a": "request body"}' DIRECTORY_WITH_NODE_MODULES
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [url, body, where] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${where}/`));
const OpenAI = require('openai').default ?? require('openai');
const client = new OpenAI({ baseURL: url, apiKey: 'none', maxRetries: 0, timeout: 60000 });

let n = 0;
let text = '';
for await (const chunk of await client.chat.completions.create({ ...JSON.parse(body), stream: true })) {
  if (n++ === 20) {
    console.log('begun');
  }
  text += chunk.choices[0]?.delta?.content ?? '';
}
console.log(JSON.stringify(text));
