// MQTT.js: subscribes on one node, publishes on another, at QoS 0, 1 and 2.
// Usage: mqttjs_roundtrip.js 4|5 SUBSCRIBER_URL PUBLISHER_URL; NODE_EXTRA_CA_CERTS names a private CA.
// Prints one line for each message received: QoS and payload.
import { once } from 'node:events'
import process from 'node:process'
import mqtt from 'mqtt'

const [version, subscriberUrl, publisherUrl] = [Number(process.argv[2]), ...process.argv.slice(3)]
const LIMIT_MS = 20_000
const deadline = setTimeout(() => { console.error('not done in time'); process.exit(1) }, LIMIT_MS)

const connect = (name, url) => mqtt.connectAsync(url, {
  clientId: `mqttjs-${name}-${version}`, protocolVersion: version, reconnectPeriod: 0, connectTimeout: 10_000,
})

const subscriber = await connect('sub', subscriberUrl)
const publisher = await connect('pub', publisherUrl)
const granted = await subscriber.subscribeAsync(`mqttjs/${version}/#`, { qos: 2 })
if (granted[0].qos !== 2) throw new Error(`granted ${JSON.stringify(granted)}`)
for (const qos of [0, 1, 2]) {
  const arrival = once(subscriber, 'message')
  await publisher.publishAsync(`mqttjs/${version}/${qos}`, `MQTT.js ${version} at QoS ${qos}`, { qos })
  const [, payload, packet] = await arrival
  console.log(packet.qos, payload.toString())
}
await publisher.endAsync()
await subscriber.endAsync()
clearTimeout(deadline)
