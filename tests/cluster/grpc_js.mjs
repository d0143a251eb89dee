// A gRPC client that shares no code with Renga (@grpc/grpc-js) on the peer port of a worker: it plays
// the head with proto/renga.proto, then asks for its health, then breaks rules.
//
// usage: grpc_js.mjs MODULES PROTO ADDRESS PEER_ID SELF_ID [TLS_DIR]
// Prints `ok NAME` or `FAIL NAME: why` for each check; the last line is `N passed, N failed`.
import { createRequire } from "node:module";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const [modules, proto, address, peerId, selfId, tlsDir] = process.argv.slice(2);
const require = createRequire(resolve(modules) + "/");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

// The proto of grpc.health.v1, as far as it is used.
const HEALTH = `syntax = "proto3";
package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse {
  enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
  ServingStatus status = 1;
}
service Health {
  rpc Check(HealthCheckRequest) returns (HealthCheckResponse);
  rpc Watch(HealthCheckRequest) returns (stream HealthCheckResponse);
  rpc List(HealthCheckRequest) returns (HealthCheckResponse);
}`;

const options = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };

function loadHealth() {
  const dir = mkdtempSync(join(tmpdir(), "renga-health-"));
  writeFileSync(join(dir, "health.proto"), HEALTH);
  try {
    return grpc.loadPackageDefinition(loader.loadSync(join(dir, "health.proto"), options)).grpc.health.v1;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const renga = grpc.loadPackageDefinition(loader.loadSync(proto, options)).renga.v1;
const health = loadHealth();

function credentials() {
  if (!tlsDir) return grpc.credentials.createInsecure();
  const read = (name) => readFileSync(join(tlsDir, name));
  return grpc.credentials.createSsl(read("ca.pem"), read("node.key"), read("node.pem"));
}

const channel = tlsDir
  ? { "grpc.ssl_target_name_override": peerId, "grpc.default_authority": peerId }
  : {};
const clients = [];

function client(Type) {
  const c = new Type(address, credentials(), channel);
  clients.push(c);
  return c;
}

// ---- checks ----

const checks = [];
const check = (name, run) => checks.push([name, run]);

function expect(truth, ...why) {
  if (!truth) throw new Error(why.map((w) => (typeof w === "string" ? w : JSON.stringify(w))).join(" "));
}

// A stream whose messages and end can be awaited.
function follow(call) {
  const s = { call, messages: [], status: null, waiting: [] };
  const wake = () => s.waiting.splice(0).forEach((f) => f());
  call.on("data", (m) => (s.messages.push(m), wake()));
  call.on("error", () => {});
  call.on("status", (st) => ((s.status = st), wake()));
  s.until = async (what, ready, ms = 8000) => {
    const end = Date.now() + ms;
    for (;;) {
      const found = ready();
      if (found) return found;
      expect(!s.status && Date.now() < end, "no", what, "within", ms, "ms; status", s.status, "messages",
        s.messages.map((m) => m.kind));
      await new Promise((f) => {
        const timer = setTimeout(f, 100);
        s.waiting.push(() => (clearTimeout(timer), f()));
      });
    }
  };
  s.message = (kind) => s.until(kind, () => s.messages.find((m) => m.kind === kind));
  s.end = () => s.until("end", () => s.status);
  return s;
}

const open = (method) => follow(client(renga.Peer)[method]());

// The dialler says Hello first.  One of another protocol is answered with theirs, which has the model
// that ours must have too.
let theirs = { major: 1, minor: 0, cluster: "plain", head_id: selfId, numerics: "cpu-1",
  claimed_bytes: String(2 ** 32), memory_bytes: String(2 ** 32),
  model: { digest: Buffer.alloc(16), layer_count: 1 } };

const helloLike = (changes) => ({ ...theirs, node_id: selfId, build: "grpc-js",
  boot: BigInt("0x" + randomBytes(8).toString("hex")).toString(), ...changes });

function greet(changes) {
  const s = open("Control");
  s.call.write({ hello: helloLike(changes) });
  return s;
}

check("another protocol is refused, and the values are said", async () => {
  const s = greet({ major: 2 });
  const { hello } = await s.message("hello");
  const { refuse } = await s.message("refuse");
  expect(hello.major === 1 && hello.node_id === peerId, hello.major, hello.node_id);
  expect(hello.head_id === selfId, "the head is", hello.head_id);
  expect(tlsDir ? /^[0-9a-f]{16}$/.test(hello.cluster) : hello.cluster === "plain", hello.cluster);
  expect(hello.model.digest.length === 16 && hello.model.layers.length === hello.model.layer_count,
    "layers", hello.model.layers.length);
  expect(/protocol/.test(refuse.what) && refuse.mine.includes("1") && refuse.yours.includes("2"), refuse);
  await s.end();
  theirs = hello;
});

check("both say Hello, then heartbeats go both ways", async () => {
  const s = greet();
  await s.message("hello");
  const first = await s.message("heartbeat");
  const mine = process.hrtime.bigint().toString();
  s.call.write({ heartbeat: { time_ns: mine, echo_time_ns: first.heartbeat.time_ns, echo_age_ns: "0" } });
  const echo = await s.until("echo", () =>
    s.messages.find((m) => m.kind === "heartbeat" && m.heartbeat.echo_time_ns === mine));
  expect(BigInt(echo.heartbeat.echo_age_ns) < 1000000000n, "age", echo.heartbeat.echo_age_ns);
  expect(!s.messages.some((m) => m.kind === "refuse") && !s.status, "ended", s.status);
  s.call.end();
  await s.end();
});

check("a model of other bytes is refused", async () => {
  const s = greet({ model: { ...theirs.model, digest: randomBytes(16) } });
  const { refuse } = await s.message("refuse");
  expect(/model/.test(refuse.what), refuse);
  await s.end();
});

check("a node that says no more is left within 5 s", async () => {
  const s = greet();
  await s.message("heartbeat");
  const began = Date.now();
  await s.end();
  expect(Date.now() - began < 5500, "after", Date.now() - began, "ms");
  expect(s.status.code !== grpc.status.OK, s.status);
});

check("a stream without a Hello is left within 6 s", async () => {
  const s = open("Control");
  await s.end();
  expect(s.messages.length === 0 && s.status.code !== grpc.status.OK, s.status);
});

check("a control message over 64 KiB ends the link", async () => {
  const s = greet({ build: "x".repeat(65537) });
  await s.end();
  expect(s.status.code === grpc.status.RESOURCE_EXHAUSTED, s.status);
});

check("bytes that are no message end the link", async () => {
  const c = client(renga.Peer);
  const bytes = (b) => b;
  const s = follow(c.makeBidiStreamRequest("/renga.v1.Peer/Control", bytes, bytes));
  s.call.write(Buffer.from("ffffffffffff", "hex"));
  await s.end();
  expect(s.status.code !== grpc.status.OK, s.status);
});

check("a step before its StepsOpen ends the link", async () => {
  const s = open("Steps");
  s.call.write({ step: { epoch: { boot: "1", n: "1" }, seq: "1" } });
  await s.end();
  expect(s.status.code !== grpc.status.OK, s.status);
});

check("a probe is answered", async () => {
  const s = open("Probe");
  s.call.write({ id: "7", answer_bytes: 1000, data: Buffer.alloc(3000) });
  const answer = await s.until("answer", () => s.messages[0]);
  expect(answer.id === "7" && answer.data.length === 1000, answer.id, answer.data.length);
  s.call.end();
  await s.end();
  expect(s.status.code === grpc.status.OK, s.status);
});

// ---- health ----

const ask = (method, service) =>
  new Promise((done) => {
    client(health.Health)[method]({ service }, (error, answer) => done({ error, answer }));
  });

check("health says SERVING or NOT_SERVING of the services it knows", async () => {
  for (const service of ["", "renga.v1.Peer"]) {
    const { error, answer } = await ask("Check", service);
    expect(!error, error);
    expect(["SERVING", "NOT_SERVING"].includes(answer.status), answer);
  }
});

check("health does not know other services", async () => {
  const { error } = await ask("Check", "renga.v1.Other");
  expect(error?.code === grpc.status.NOT_FOUND, error);
});

check("a watched service's health comes at once", async () => {
  for (const [service, known] of [["", true], ["nobody", false]]) {
    const s = follow(client(health.Health).Watch({ service }));
    const first = await s.until("health", () => s.messages[0]);
    expect(known === (first.status !== "SERVICE_UNKNOWN"), service, first);
    expect(!s.status, "ended", s.status);
    s.call.cancel();
    await s.end();
  }
});

check("a method that is not there is UNIMPLEMENTED", async () => {
  const { error } = await ask("List", "");
  expect(error?.code === grpc.status.UNIMPLEMENTED, error);
});

let passed = 0;
let failed = 0;
for (const [name, run] of checks) {
  try {
    await run();
    passed++;
    console.log(`ok ${name}`);
  } catch (e) {
    failed++;
    console.log(`FAIL ${name}: ${e.message}`);
  }
}
clients.forEach((c) => c.close());
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
