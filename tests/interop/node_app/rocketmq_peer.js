// Does what lines of JSON say with RocketMQ's client for Node, answers each with one: as rocketmq_app/peer.py does
// with the one for Python, so that tests have both. It knows nothing of us.

'use strict';

const { createInterface } = require('node:readline');

const { ConsumeResult, FilterExpression, Producer, PushConsumer, SimpleConsumer } = require('rocketmq-client-nodejs');
const { FilterType, TransactionResolution } = require('rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb');

const SECONDS_MS = 1000;
const RESULTS = { ok: ConsumeResult.SUCCESS, fail: ConsumeResult.FAILURE };
const RESOLUTIONS = { commit: TransactionResolution.COMMIT, rollback: TransactionResolution.ROLLBACK };
const quiet = Object.fromEntries(['debug', 'info', 'warn', 'error'].map((name) => [name, () => {}]));
if (process.env.ROCKETMQ_LOG) quiet.error = quiet.warn = console.error;

// What comes one by one, and whoever waits for the next.
class Inbox {
  constructor() {
    this.held = [];
    this.waiting = [];
  }

  put(item) {
    const next = this.waiting.shift();
    if (next) next(item);
    else this.held.push(item);
  }

  get(seconds) {
    if (this.held.length > 0) return Promise.resolve(this.held.shift());
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.waiting.splice(this.waiting.indexOf(take), 1);
        resolve(null);
      }, seconds * SECONDS_MS);
      const take = (item) => {
        clearTimeout(timer);
        resolve(item);
      };
      this.waiting.push(take);
    });
  }
}

const told = (message) => ({
  topic: message.topic,
  body: message.body.toString('base64'),
  tag: message.tag || null,
  keys: [...message.keys].sort(),
  message_group: message.messageGroup || null,
  delivery_timestamp: message.deliveryTimestamp ? message.deliveryTimestamp.getTime() : null,
  priority: message.priority ?? null,
  properties: Object.fromEntries(message.properties),
  message_id: message.messageId,
  attempt: message.deliveryAttempt,
  born_host: message.bornHost,
  born_timestamp: message.bornTimestamp ? message.bornTimestamp.getTime() : null,
  corrupted: Boolean(message.corrupted),
  handle: message.receiptHandle,
});

const options = (line) => ({
  endpoints: line.endpoints,
  namespace: line.namespace ?? '',
  sslEnabled: line.tls,
  logger: quiet,
  ...(line.access_key ? { sessionCredentials: { accessKey: line.access_key, accessSecret: line.secret } } : {}),
});

const expression = (text) => (text.startsWith('sql:') ? new FilterExpression(text.slice(4), FilterType.SQL) : new FilterExpression(text));
const filters = (line) => new Map(Object.entries(line.subscription).map(([topic, text]) => [topic, expression(text)]));

const given = (line) => ({
  topic: line.topic,
  body: Buffer.from(line.body, 'base64'),
  tag: line.tag,
  keys: line.keys,
  messageGroup: line.message_group,
  priority: line.priority,
  deliveryTimestamp: line.delivery_timestamp ? new Date(line.delivery_timestamp) : undefined,
  properties: line.properties ? new Map(Object.entries(line.properties)) : undefined,
});

// What is said of a message is by its body: of each attempt in turn; the last for all more.
const next = (table, body) => {
  const says = table[body] ?? [];
  return says.length > 1 ? says.shift() : says[0];
};

const clients = new Map();
const inboxes = new Map();
const held = new Map();
const transactions = new Map();

async function start(line, client, inbox) {
  await client.startup();
  clients.set(line.name, client);
  inboxes.set(line.name, inbox);
  return { client_id: client.clientId };
}

const COMMANDS = {
  producer(line) {
    const inbox = new Inbox();
    const checker = {
      async check(message) {
        inbox.put(told(message));
        return RESOLUTIONS[line.checks?.[message.body.toString()]] ?? TransactionResolution.TRANSACTION_RESOLUTION_UNSPECIFIED;
      },
    };
    return start(line, new Producer({ ...options(line), topics: line.topics ?? [], checker }), inbox);
  },

  simple(line) {
    const more = { consumerGroup: line.group, subscriptions: filters(line), awaitDuration: line.wait * SECONDS_MS };
    return start(line, new SimpleConsumer({ ...options(line), ...more }));
  },

  push(line) {
    const inbox = new Inbox();
    const results = line.results ?? {};
    const messageListener = {
      async consume(message) {
        const result = next(results, message.body.toString()) ?? 'ok';
        inbox.put({ ...told(message), result });
        return RESULTS[result];
      },
    };
    const more = { consumerGroup: line.group, subscriptions: filters(line), messageListener };
    return start(line, new PushConsumer({ ...options(line), ...more }), inbox);
  },

  async close(line) {
    const client = clients.get(line.name);
    clients.delete(line.name);
    const ended = client.shutdown();
    // A push consumer takes its time over a long poll; nobody waits for that here.
    if (client instanceof PushConsumer) ended.catch(() => {});
    else await ended;
    return {};
  },

  async send(line) {
    const client = clients.get(line.name);
    let transaction;
    if (line.transaction) {
      transaction = client.beginTransaction();
      transactions.set(line.transaction, transaction);
    }
    const { messageId, transactionId, recallHandle, offset } = await client.send(given(line), transaction);
    return { message_id: messageId, transaction_id: transactionId, recall_handle: recallHandle || null, offset };
  },

  async send_many(line) {
    const client = clients.get(line.name);
    const sent = line.bodies.map((body) => client.send(given({ ...line, body })).then(({ messageId }) => messageId, () => null));
    return { message_ids: await Promise.all(sent) };
  },

  async end(line) {
    const transaction = transactions.get(line.transaction);
    await (line.resolution === 'commit' ? transaction.commit() : transaction.rollback());
    return {};
  },

  async recall(line) {
    const { messageId } = await clients.get(line.name).recallMessage(line.topic, line.handle);
    return { message_id: messageId };
  },

  async receive(line) {
    const messages = await clients.get(line.name).receive(line.max, line.invisible * SECONDS_MS);
    messages.forEach((message) => held.set(message.receiptHandle, message));
    return { messages: messages.map(told) };
  },

  async ack(line) {
    const client = clients.get(line.name);
    for (const handle of line.handles) await client.ack(held.get(handle));
    line.handles.forEach((handle) => held.delete(handle));
    return {};
  },

  async change(line) {
    const message = held.get(line.handle);
    await clients.get(line.name).changeInvisibleDuration(message, line.invisible * SECONDS_MS);
    held.set(message.receiptHandle, message);
    return { handle: message.receiptHandle };
  },

  async subscribe(line) {
    for (const [topic, filter] of filters(line)) await clients.get(line.name).subscribe(topic, filter);
    return {};
  },

  async unsubscribe(line) {
    clients.get(line.name).unsubscribe(line.topic);
    return {};
  },

  async got(line) {
    return { message: await inboxes.get(line.name).get(line.seconds) };
  },
};

async function answer(line) {
  let found;
  try {
    found = await COMMANDS[line.do](line);
  } catch (error) {
    const cause = error.cause?.cause ?? error.cause ?? error; // startup wraps what went wrong
    found = { failed: cause.name, why: String(cause.message), code: typeof cause.code === 'number' ? cause.code : null };
  }
  console.log(JSON.stringify({ ...found, id: line.id }));
}

createInterface({ input: process.stdin })
  .on('line', (text) => answer(JSON.parse(text)))
  .on('close', () => process.exit(0)); // whoever is in a long poll ends with its process
