// MQTT.js in headless Chromium: subscribes on one node, publishes on another, at QoS 0, 1 and 2, over WebSocket.
// Usage: browser_roundtrip.js 4|5 SUBSCRIBER_URL PUBLISHER_URL CERTIFICATE
// CERTIFICATE is the PEM file of the one that the browser is to trust by name, although its authority is private.
// Prints one line for each message received: QoS and payload.
import { createHash, X509Certificate } from 'node:crypto'
import { createRequire } from 'node:module'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { chromium } from 'playwright-core'

const [version, subscriberUrl, publisherUrl, certificate] = [Number(process.argv[2]), ...process.argv.slice(3)]
const LIMIT_MS = 25_000
const bundle = join(dirname(createRequire(import.meta.url).resolve('mqtt/package.json')), 'dist/mqtt.min.js')

const publicKey = new X509Certificate(await readFile(certificate)).publicKey.export({ type: 'spki', format: 'der' })
const keyHash = createHash('sha256').update(publicKey).digest('base64')

const roundtrip = async ({ version, subscriberUrl, publisherUrl }) => {
  const connect = (name, url) => mqtt.connectAsync(url, {
    clientId: `browser-${name}`, protocolVersion: version, reconnectPeriod: 0, connectTimeout: 10_000,
  })
  const lines = []
  const subscriber = await connect('sub', subscriberUrl)
  const publisher = await connect('pub', publisherUrl)
  await subscriber.subscribeAsync('browser/#', { qos: 2 })
  for (const qos of [0, 1, 2]) {
    const arrival = new Promise(resolve => subscriber.once('message', (_topic, payload, packet) => {
      resolve(`${packet.qos} ${new TextDecoder().decode(payload)}`)
    }))
    await publisher.publishAsync(`browser/${qos}`, `a browser at QoS ${qos}`, { qos })
    lines.push(await arrival)
  }
  await publisher.endAsync()
  await subscriber.endAsync()
  return lines
}

const profile = await mkdtemp(join(tmpdir(), 'rollcall-browser-'))
const deadline = setTimeout(() => { console.error('not done in time'); process.exit(1) }, LIMIT_MS)
const context = await chromium.launchPersistentContext(profile, {
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update',
    '--disable-sync', '--no-first-run', `--ignore-certificate-errors-spki-list=${keyHash}`],
})
try {
  const page = await context.newPage()
  await page.addScriptTag({ path: bundle })
  for (const line of await page.evaluate(roundtrip, { version, subscriberUrl, publisherUrl })) console.log(line)
} finally {
  await context.close()
  await rm(profile, { recursive: true, force: true })
}
clearTimeout(deadline)
