// Bodies for the chat endpoint: valid ones after the tables of docs/API.md, and what becomes of
// them when fields, values and bytes are changed at random.

// JSON text that JSON.stringify would not write: 1e999, a number of 40 digits, "\ud800".
class Raw {
  constructor(text) {
    this.text = text;
  }
}

function text(value) {
  if (value instanceof Raw) return value.text;
  if (Array.isArray(value)) return `[${value.map(text).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const members = Object.entries(value).filter(([, v]) => v !== undefined);
  return `{${members.map(([k, v]) => `${JSON.stringify(k)}:${text(v)}`).join(',')}}`;
}

export function write(value) {
  return Buffer.from(text(value));
}

// Strings of whole characters from everywhere in Unicode, without NUL.
function makeWords(fc) {
  return (maxLength) => fc.oneof(
    fc.string({ maxLength }), fc.string({ unit: 'binary', maxLength }),
    fc.constantFrom('', 'Hello', '<|im_start|>', '<|im_end|>', '\u{1F469}\u200D\u{1F680}', 'a\u0301',
      '\u202E', '\uFEFF', '{{ 1 }}', '\r\n', '\x1b[31m', '"\\'),
  ).map((s) => s.replaceAll('\0', '0'));
}

function makeMessages(fc, words) {
  const part = fc.record({ type: fc.constant('text'), text: words(12) });
  const content = fc.oneof({ weight: 3, arbitrary: words(24) },
    { weight: 1, arbitrary: fc.array(part, { maxLength: 3 }) });
  const call = fc.record({
    id: words(8), type: fc.constant('function'), index: fc.nat(9),
    function: fc.record({
      name: words(8), arguments: fc.oneof(words(12), fc.constant({}), fc.constant({ a: [1, null] })),
    }, { requiredKeys: ['name'] }),
  }, { requiredKeys: ['function'] });
  const said = fc.record({
    role: fc.constantFrom('system', 'developer', 'user'), content, name: words(8),
  }, { requiredKeys: ['role', 'content'] });
  const assistant = fc.record({
    role: fc.constant('assistant'), content: fc.option(content), name: words(8),
    tool_calls: fc.array(call, { maxLength: 2 }), reasoning_content: words(8), reasoning: words(8),
    thinking: words(8), annotations: fc.constant([]), refusal: fc.constant(null),
  }, { requiredKeys: ['role'] });
  const tool = fc.record({
    role: fc.constant('tool'), tool_call_id: words(8), content: fc.option(content),
  }, { requiredKeys: ['role', 'tool_call_id'] });
  const named = fc.record({
    role: fc.constant('function'), name: words(8), content: fc.option(content),
  }, { requiredKeys: ['role', 'name'] });
  return fc.array(fc.oneof({ weight: 3, arbitrary: said }, assistant, tool, named),
    { minLength: 1, maxLength: 4 });
}

// Every honoured and accepted field of the table; a model whose template looks at enable_thinking
// and at nothing else that a field could set is assumed (tiny_model.py).
function makeFields(fc, model, words) {
  const real = (min, max) => fc.oneof(fc.double({ min, max, noNaN: true }),
    fc.constantFrom(min, max), fc.integer({ min, max }));
  const stop = fc.string({ unit: 'binary', minLength: 1, maxLength: 16 })
    .map((s) => s.replaceAll('\0', '0'));
  const label = words(20);
  const only = (...values) => fc.constantFrom(...values);
  return {
    model: fc.constant(model),
    messages: makeMessages(fc, words),
    stream: fc.boolean(),
    stream_options: fc.record({ include_usage: fc.option(fc.boolean()),
      include_obfuscation: fc.boolean() }, { requiredKeys: [] }),
    n: fc.integer({ min: 1, max: 4 }),
    max_tokens: fc.integer({ min: 1, max: 6 }),
    max_completion_tokens: fc.integer({ min: 1, max: 6 }),
    stop: fc.oneof(stop, fc.array(stop, { maxLength: 4 })),
    temperature: real(0, 2),
    top_p: real(0, 1),
    top_k: fc.oneof(fc.integer({ min: 0, max: 300 }), only(4194304)),
    min_p: real(0, 1),
    repetition_penalty: fc.oneof(real(1, 10), fc.double({ min: 0.01, max: 1, noNaN: true })),
    presence_penalty: real(-2, 2),
    frequency_penalty: real(-2, 2),
    logit_bias: fc.dictionary(fc.integer({ min: 0, max: 258 }).map(String), real(-100, 100),
      { maxKeys: 5 }),
    seed: fc.oneof(fc.integer(), only(new Raw('9223372036854775807'),
      new Raw('-9223372036854775808'))),
    logprobs: fc.boolean(),
    top_logprobs: fc.integer({ min: 0, max: 20 }),
    chat_template_kwargs: fc.dictionary(fc.string({ maxLength: 8 }).map((s) => `x${s}`),
      fc.jsonValue({ maxDepth: 3 }), { maxKeys: 3 }),
    enable_thinking: fc.boolean(),
    reasoning_effort: only(null),
    documents: only([]),
    user: label,
    metadata: fc.dictionary(fc.string({ maxLength: 8 }), label, { maxKeys: 3 }),
    safety_identifier: label,
    prompt_cache_key: label,
    prompt_cache_retention: label,
    store: only(false),
    service_tier: only('auto', 'default'),
    verbosity: only('medium'),
    modalities: only(['text']),
    response_format: only({ type: 'text' }),
    parallel_tool_calls: fc.boolean(),
    tools: only([]),
    tool_choice: only('auto', 'none'),
    functions: only([]),
    function_call: only('auto', 'none'),
  };
}

// What two fields say together.
function agree(body) {
  const b = { ...body };
  if (b.stream !== true) delete b.stream_options;
  if (b.top_logprobs > 0) b.logprobs = true;
  if (b.max_completion_tokens != null) delete b.max_tokens;
  else b.max_tokens ??= 3;
  return b;
}

function makeJunk(fc) {
  const numbers = fc.constantFrom('0', '-0', '-1', '1.5', '1e308', '-1e308', '1e-400', '1e2',
    '9007199254740993', '18446744073709551616', '9'.repeat(300), '2147483648', '-2147483649',
    '4294967296', '-9223372036854775809', '0.30000000000000004', '5', '20', '21');
  const wrong = fc.constantFrom('"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"\\x"', '"\\u12"',
    '"\n"', "'a'", '"', '"\\', 'tru', 'undefined', '//', '/**/1', '[1,]', '{,}', '{"a":1,"a":2}',
    '{"a" 1}', '\uFEFF1', '', 'NaN', 'Infinity', '01', '+1', '1.', '.5', '1e', '0x10', '-', '1e999',
    '-1e999');
  const nested = fc.tuple(fc.integer({ min: 1, max: 200 }), fc.constantFrom('[]', '{}'))
    .map(([n, kind]) => (kind === '[]' ? '['.repeat(n) + ']'.repeat(n)
      : '{"a":'.repeat(n) + '1' + '}'.repeat(n)));
  const huge = fc.tuple(fc.constantFrom('a', '\\n', '\\u00e9', 'é', ' ', '<|im_end|>'),
    fc.integer({ min: 1, max: 20000 })).map(([s, n]) => `"${s.repeat(n)}"`);
  const many = fc.tuple(fc.constantFrom('1', '{}', '"a"', 'null'), fc.integer({ min: 1, max: 5000 }))
    .map(([s, n]) => `[${Array(n).fill(s).join(',')}]`);
  const raw = fc.oneof({ weight: 8, arbitrary: numbers }, { weight: 1, arbitrary: wrong }, nested,
    { weight: 2, arbitrary: huge }, many).map((s) => new Raw(s));
  return fc.oneof({ weight: 3, arbitrary: fc.jsonValue() }, { weight: 3, arbitrary: raw },
    { weight: 2, arbitrary: fc.constantFrom(null, true, false, '', [], {}, 'auto', 'none',
      [{ type: 'function', function: { name: 'f', parameters: {} } }], { type: 'json_object' },
      { type: 'json_schema', json_schema: { name: 'a', schema: {} } },
      [{ type: 'image_url', image_url: { url: 'http://127.0.0.1:1/' } }]) });
}

const MESSAGE_FIELDS = ['role', 'content', 'name', 'tool_calls', 'tool_call_id', 'refusal', 'audio',
  'reasoning_content', 'function_call', 'weight'];

function changeValue(body, { at, name, value, drop }) {
  const b = { ...body };
  const list = Array.isArray(b.messages) ? [...b.messages] : [];
  const target = at > 0 && list.length > 0 ? { ...list[(at - 1) % list.length] } : b;
  if (drop) delete target[name];
  else target[name] = value;
  if (target !== b) {
    list[(at - 1) % list.length] = target;
    b.messages = list;
  }
  return b;
}

function changeBytes(bytes, { kind, at, insert }) {
  const i = at % (bytes.length + 1);
  const more = Buffer.from(insert);
  const join = (from) => Buffer.concat([bytes.subarray(0, i), more, bytes.subarray(from)]);
  switch (kind) {
    case 'cut': return bytes.subarray(0, i);
    case 'insert': return join(i);
    case 'replace': return join(Math.min(bytes.length, i + more.length));
    default: return Buffer.concat([bytes, bytes.subarray(i)]);
  }
}

function makeEdits(fc, fields, junk) {
  const top = fc.record({
    at: fc.constant(0), drop: fc.integer({ max: 5, min: 0 }).map((n) => n === 0), value: junk,
    name: fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...fields.keys()) },
      { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 200 }) }),
  });
  const inMessage = fc.record({
    at: fc.integer({ min: 1, max: 4 }), drop: fc.constant(false), value: junk,
    name: fc.constantFrom(...MESSAGE_FIELDS),
  });
  const bytes = fc.record({
    kind: fc.constantFrom('cut', 'insert', 'replace', 'repeat'), at: fc.nat(4000),
    insert: fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 4 }),
      fc.constantFrom('"', '\\', '{', ']', ',', '\0', '\xff', '\r\n').map((s) => Buffer.from(s))),
  });
  return { values: fc.array(fc.oneof(top, inMessage), { maxLength: 3 }), bytes };
}

// fields: name -> use, from the documentation.
export function makeGenerators(fc, model, fields) {
  const words = makeWords(fc);
  const known = makeFields(fc, model, words);
  const refused = [...fields].filter(([, use]) => use.startsWith('400')).map(([name]) => name);
  for (const name of fields.keys())
    if (!known[name] && !refused.includes(name)) throw new Error(`no generator for field ${name}`);
  for (const name of Object.keys(known))
    if (!fields.has(name)) throw new Error(`field ${name} is not in the documentation`);

  // A field that is there may also be null, which is the same as absent.
  const optional = Object.fromEntries(Object.entries(known).map(([name, value]) =>
    [name, name === 'model' || name === 'messages' ? value : fc.option(value, { freq: 20 })]));
  const validBody = fc.record(optional, { requiredKeys: ['model', 'messages'] }).map(agree);
  const junk = makeJunk(fc);
  const edits = makeEdits(fc, fields, junk);
  const changed = fc.tuple(validBody, edits.values, fc.oneof(
    { weight: 3, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: edits.bytes }))
    .map(([body, values, bytes]) => {
      const written = write(values.reduce(changeValue, body));
      return bytes ? changeBytes(written, bytes) : written;
    });
  const bytes = fc.oneof({ weight: 30, arbitrary: changed },
    { weight: 1, arbitrary: junk.map(write) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }).map((b) => Buffer.from(b)) });
  const cuts = fc.oneof({ weight: 3, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.array(fc.nat(2000), { minLength: 1, maxLength: 6 }) });
  const unknown = fc.string({ minLength: 1, maxLength: 30 }).filter((s) => !fields.has(s) &&
    s !== '__proto__');
  return {
    validBody,
    anyBody: fc.record({ bytes, cuts }),
    refusedField: fc.oneof(
      fc.tuple(fc.constantFrom(...refused), fc.jsonValue().filter((v) => v !== null),
        fc.constant('unsupported')),
      fc.tuple(unknown, fc.jsonValue(), fc.constant('unknown_field'))),
  };
}
