// Listens to the state of messages and checks each event against docs/asyncapi.json: an example to copy.
// See docs/events.md. Start it with `npm ci && node listen.js [--group NAME] [--count N]`.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { Kafka, logLevel } from "kafkajs";

const STATES = {
  "delivery.message-delayed.v1": "delayed",
  "delivery.message-sent.v1": "sent",
  "delivery.message-delivered.v1": "delivered",
  "delivery.message-failed.v1": "failed",
};

// Returns topic → a function that checks an event. Fields that the contract does not name are allowed: `.v1` may grow.
function readContract() {
  const contract = JSON.parse(readFileSync(new URL("../../asyncapi.json", import.meta.url), "utf8"));
  const ajv = new Ajv({ strict: false, allErrors: true });
  addFormats(ajv);
  ajv.addSchema({ $id: "contract", components: contract.components });
  const checks = {};
  for (const [name, channel] of Object.entries(contract.channels)) {
    checks[channel.address] = ajv.compile({ $ref: `contract#/components/schemas/${name}` });
  }
  return checks;
}

// Returns whether `event` is newer than what is known of its message: by dispatch number, then version. The topics have
// no common order, and an event may be repeated. In your service, `newest` is a table that you update in the
// transaction of what you do with the event.
function isNewer(newest, event) {
  const known = newest.get(event.schedule_id) ?? { dispatch_number: 0, version: 0 };
  const order = event.dispatch_number - known.dispatch_number || event.version - known.version;
  if (order > 0) newest.set(event.schedule_id, { dispatch_number: event.dispatch_number, version: event.version });
  return order > 0;
}

function describe(topic, event) {
  const state = STATES[topic];
  const details = {
    delayed: ` until ${event.next_attempt_at}: ${event.failure_category}`,
    failed: `: ${event.failure_category}`,
  };
  return `${event.occurred_at} schedule ${event.schedule_id}: ${state}${details[state] ?? ""}`;
}

const { values: options } = parseArgs({
  options: { group: { type: "string", default: "example.listen-node" }, count: { type: "string" } },
});
const checks = readContract();
const newest = new Map();
const brokers = (process.env.KAFKA_BOOTSTRAP_SERVERS ?? "localhost:9092").split(",");
const kafka = new Kafka({ clientId: "example", brokers, logLevel: logLevel.ERROR });
const consumer = kafka.consumer({ groupId: options.group });
let printed = 0;
let finish;
const finished = new Promise((resolve) => (finish = resolve));

await consumer.connect();
await consumer.subscribe({ topics: Object.keys(STATES), fromBeginning: true });
await consumer.run({
  // kafkajs commits the offset of a record after this function has returned, so unhandled records are read again.
  eachMessage: async ({ topic, partition, message }) => {
    if (printed === Number(options.count ?? Infinity)) return;
    const event = JSON.parse(message.value.toString("utf8"));
    if (!checks[topic](event)) {
      // In your service, store such a record and continue. It must not stop the records after it.
      const errors = checks[topic].errors.map(({ instancePath, message }) => `${instancePath} ${message}`);
      console.error(`${topic} ${partition}/${message.offset} breaks the contract: ${errors.join("; ")}`);
      return;
    }
    if (!isNewer(newest, event)) return;
    console.log(describe(topic, event));
    printed += 1;
    if (printed === Number(options.count ?? Infinity)) finish();
  },
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, finish);
await finished;
await consumer.disconnect();
