// A client of amqplib that knows nothing of us: its URL is all it is told. It prints one line of JSON,
// and test_amqp_node.py says what has to be in it.

'use strict';

const { isDeepStrictEqual } = require('node:util');

const amqp = require('amqplib');

const MESSAGES = 200;
const PREFETCH = 10;
const WAIT_MS = 30_000;
const QUEUE = { durable: true, deadLetterExchange: '', deadLetterRoutingKey: 'dead', messageTtl: 3_600_000, maxLength: 1000 };

// The n-th message's headers: whole numbers go over the wire in as few bytes as they need.
const headers = (n) => ({
  text: 'é and plain',
  n,
  large: 2 ** 40 + n,
  negative: -1 - n,
  fraction: n + 0.5,
  yes: n % 2 === 0,
  nothing: null,
  nested: { deeper: { still: n, list: ['x', false] } },
  list: [1, 'two', [3, { four: 4 }], true],
});

// Resolves with what `act` resolves with, or fails when time is up.
const within = (what, promise) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${WAIT_MS} ms`)), WAIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

// A queue of deliveries that one can wait for.
class Inbox {
  constructor() {
    this.waiting = [];
    this.held = [];
  }

  take(message) {
    this.held.push(message);
    this.waiting = this.waiting.filter(({ count, resolve }) => this.held.length < count || resolve());
  }

  until(count) {
    if (this.held.length >= count) return Promise.resolve();
    return within(`delivery ${count}`, new Promise((resolve) => this.waiting.push({ count, resolve })));
  }
}

async function publish(channel) {
  let confirmed = 0;
  for (let n = 0; n < MESSAGES; n += 1) {
    const options = { persistent: true, headers: headers(n), messageId: `m-${n}`, contentType: 'text/plain', timestamp: n };
    channel.publish('news', `a.${n % 3}.b`, Buffer.from(`body ${n}`), options, (error) => {
      if (!error) confirmed += 1;
    });
  }
  await within('the confirms', channel.waitForConfirms());
  return confirmed;
}

// Hold all that the prefetch count lets through, look that no more comes, acknowledge, and again.
async function consume(channel) {
  const seen = { bodies: [], sameHeaders: 0, samePlaces: 0, persistent: 0, heldMax: 0, leftWhileHeld: 0, redelivered: 0 };
  const inbox = new Inbox();
  await channel.prefetch(PREFETCH);
  const { consumerTag } = await channel.consume('work', (message) => inbox.take(message));
  while (seen.bodies.length < MESSAGES) {
    await inbox.until(Math.min(PREFETCH, MESSAGES - seen.bodies.length));
    const { messageCount } = await channel.checkQueue('work'); // its answer comes after all deliveries before it
    const held = inbox.held.splice(0);
    seen.heldMax = Math.max(seen.heldMax, held.length);
    if (seen.bodies.length === 0) seen.leftWhileHeld = messageCount;
    for (const { fields, properties, content } of held) {
      const n = seen.bodies.length;
      seen.bodies.push(content.toString());
      seen.sameHeaders += isDeepStrictEqual({ ...properties.headers }, headers(n));
      seen.samePlaces += fields.exchange === 'news' && fields.routingKey === `a.${n % 3}.b` && properties.messageId === `m-${n}`;
      seen.persistent += properties.deliveryMode === 2;
      seen.redelivered += fields.redelivered;
    }
    // One at a time, all together, and the last of all not at all: it is a dead letter.
    const dead = seen.bodies.length === MESSAGES ? held.pop() : undefined;
    if (seen.bodies.length % 20) held.forEach((message) => channel.ack(message));
    else channel.ack(held.at(-1), true);
    if (dead) channel.nack(dead, false, false);
  }
  await channel.cancel(consumerTag);
  return seen;
}

async function deadLetter(channel) {
  const inbox = new Inbox();
  await channel.consume('dead', (message) => inbox.take(message));
  await inbox.until(1);
  const [letter] = inbox.held;
  channel.ack(letter);
  const story = letter.properties.headers;
  const kept = Object.entries(headers(MESSAGES - 1)).every(([name, value]) => isDeepStrictEqual(story[name], value));
  const [{ time, ...death }] = story['x-death'];
  return { body: letter.content.toString(), headersKept: kept, deaths: story['x-death'].length, death, hasTime: Boolean(time) };
}

async function returned(channel) {
  const back = new Promise((resolve) => channel.once('return', resolve));
  channel.publish('news', 'nobody.listens', Buffer.from('come back'), { mandatory: true, messageId: 'lost' });
  const { fields, properties, content } = await within('the return', back);
  await within('its confirm', channel.waitForConfirms());
  return { code: fields.replyCode, text: fields.replyText, key: fields.routingKey, id: properties.messageId, body: content.toString() };
}

// A declaration that differs ends its channel, and nothing else.
async function refused(connection, channel) {
  const other = await connection.createChannel();
  const error = new Promise((resolve) => other.once('error', resolve));
  const closed = new Promise((resolve) => other.once('close', resolve));
  const declared = await other.assertQueue('work', { ...QUEUE, maxLength: 5 }).catch((reason) => reason);
  const { code, message } = await within('the error', error);
  await within('the end of the channel', closed);
  const { messageCount } = await channel.checkQueue('work'); // the connection and its first channel go on
  const again = await connection.createChannel();
  await again.assertQueue('work', QUEUE);
  await again.close();
  return { rejected: declared instanceof Error, code, message, left: messageCount };
}

async function main(url) {
  const connection = await amqp.connect(url);
  const faults = [];
  connection.on('error', (error) => faults.push(error.message));
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange('news', 'topic', { durable: true });
  await channel.assertQueue('dead', { durable: true });
  await channel.assertQueue('work', QUEUE);
  await channel.bindQueue('work', 'news', 'a.*.b');
  const results = {
    product: connection.connection.serverProperties.product,
    confirmed: await publish(channel),
    queued: (await channel.checkQueue('work')).messageCount,
    seen: await consume(channel),
    dead: await deadLetter(channel),
    returned: await returned(channel),
    refused: await refused(connection, channel),
  };
  await channel.close();
  await connection.close();
  console.log(JSON.stringify({ ...results, faults }));
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
