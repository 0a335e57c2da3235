// A client of the npm package coap that knows nothing of us. It prints one line of JSON, and
// test_coap_node.py says what has to be in it.

'use strict';

const coap = require('coap');

const WAIT_MS = 20_000;
const NOTIFICATIONS = 20;
const LARGE = Buffer.alloc(100_000, 'a hundred kilobytes, more or less; ');

const [host, port] = process.argv[2].split(':');

// Resolves with what `act` resolves with, or fails when time is up.
const within = (what, promise) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${WAIT_MS} ms`)), WAIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

function request(method, pathname, { payload, query = '', options = {}, ...more } = {}) {
  const promise = new Promise((resolve, reject) => {
    const sent = coap.request({ host, port: Number(port), method, pathname, query, options, ...more });
    sent.on('response', resolve);
    sent.on('error', reject);
    sent.end(payload);
  });
  return within(`the answer to ${method} ${pathname}`, promise);
}

const text = (response) => response.payload.toString();

async function values() {
  const json = { 'Content-Format': 'application/json' };
  const created = await request('PUT', '/ps/node/value', { payload: '{"t":20}', query: 'retain=true', options: json });
  const changed = await request('POST', '/ps/node/value', { payload: '{"t":21}', query: 'retain=true', options: json });
  const found = await request('GET', '/ps/node/value');
  const valid = await request('GET', '/ps/node/value', { options: { ETag: found.headers.ETag } });
  const other = await request('GET', '/ps/node/value', { options: { Accept: 'application/cbor' } });
  const missing = await request('GET', '/ps/node/missing');
  const deleted = await request('DELETE', '/ps/node/value');
  const codes = [created, changed, found, valid, other, missing, deleted].map(({ code }) => code);
  return { codes, body: text(found), format: found.headers['Content-Format'], diagnostic: text(missing) };
}

async function large() {
  const put = await request('PUT', '/ps/node/large', { payload: LARGE, query: 'retain=true', options: { Block1: Buffer.from([6]) } });
  const got = await request('GET', '/ps/node/large');
  return { code: put.code, same: got.payload.equals(LARGE) };
}

async function observe() {
  await request('PUT', '/ps/node/observed', { payload: 'first', query: 'retain=true' });
  const stream = await request('GET', '/ps/node/observed', { observe: true });
  const bodies = [];
  let more = () => {};
  stream.on('data', (data) => { bodies.push(data.toString()); more(); });
  const until = (count) => within(`notification ${count}`, new Promise((resolve) => {
    more = () => bodies.length >= count && resolve();
    more();
  }));
  await until(1);
  for (let n = 0; n < NOTIFICATIONS; n += 1) {
    await request('PUT', '/ps/node/observed', { payload: `n${n}`, query: 'qos=1' });
    await until(n + 2);
  }
  stream.close();
  return { bodies };
}

async function main() {
  console.log(JSON.stringify({ values: await values(), large: await large(), observed: await observe() }));
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
