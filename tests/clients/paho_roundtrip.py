"""Eclipse Paho: subscribes on one node, publishes on another, at QoS 0, 1 and 2.

Usage: paho_roundtrip.py 3.1|3.1.1|5 SUBSCRIBER_URL PUBLISHER_URL [CA_FILE]; URLs are mqtt, mqtts, ws or wss.
Prints one line for each message received: QoS and payload.
"""
import queue
import sys
import threading
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt

LIMIT_SECONDS = 10
PROTOCOLS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}


def connected(client_id, protocol, url, ca):
    url = urlsplit(url)
    transport = "websockets" if url.scheme in ("ws", "wss") else "tcp"
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, transport=transport
    )
    if transport == "websockets":
        client.ws_set_options(path=url.path)
    if url.scheme in ("mqtts", "wss"):
        client.tls_set(ca)
    done = threading.Event()

    def on_connect(_client, _userdata, _flags, reason, _properties):
        if reason.is_failure:
            sys.exit(f"{client_id} is refused: {reason}")
        done.set()

    client.on_connect = on_connect
    client.connect(url.hostname, url.port, keepalive=30)
    client.loop_start()
    if not done.wait(LIMIT_SECONDS):
        sys.exit(f"{client_id}: no CONNACK")
    return client


def main():
    version, subscriber_url, publisher_url = sys.argv[1:4]
    ca = sys.argv[4] if len(sys.argv) > 4 else None
    protocol = PROTOCOLS[version]
    name = version.replace(".", "")
    subscriber = connected(f"paho-sub-{name}", protocol, subscriber_url, ca)
    publisher = connected(f"paho-pub-{name}", protocol, publisher_url, ca)
    messages = queue.Queue()
    granted = queue.Queue()
    subscriber.on_message = lambda _client, _userdata, message: messages.put(message)
    subscriber.on_subscribe = lambda _client, _userdata, _mid, reasons, _properties: granted.put(reasons)
    subscriber.subscribe(f"paho/{name}/#", qos=2)
    reasons = granted.get(timeout=LIMIT_SECONDS)
    if reasons[0].value != 2:
        sys.exit(f"granted {reasons}")
    for qos in (0, 1, 2):
        payload = f"paho {version} at QoS {qos}"
        publisher.publish(f"paho/{name}/{qos}", payload, qos=qos).wait_for_publish(LIMIT_SECONDS)
        message = messages.get(timeout=LIMIT_SECONDS)
        print(message.qos, message.payload.decode(), flush=True)
    for client in (publisher, subscriber):
        client.disconnect()
        client.loop_stop()


main()
