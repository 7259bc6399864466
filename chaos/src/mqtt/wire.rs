//! MQTT 3.1.1 and 5.0 on the wire, as much of it as the workloads need. Written for them alone: a library's client keeps
//! its session state to itself, and here that state is what is checked.

/// The session of a 5.0 client never expires.
pub const NEVER: u32 = u32::MAX;
/// Refused, wherever a reason code is [MQTT-4.13]: from here on a code is a failure.
pub const FAILURE: u8 = 0x80;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V311,
    V5,
}

/// What a client asks for when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    pub version: Version,
    pub client_id: String,
    /// Clean Start; in 3.1.1 Clean Session.
    pub clean: bool,
    /// Seconds that the session outlives the connection, if the client speaks 5.0.
    pub expiry: u32,
    pub keep_alive: u16,
    /// How many QoS 1 and 2 messages the broker may have in flight, if the client speaks 5.0.
    pub receive_maximum: u16,
    pub will: Option<Will>,
}

/// At QoS 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    /// Seconds, if the client speaks 5.0.
    pub delay: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnAck {
    pub session_present: bool,
    pub code: u8,
    /// How many QoS 1 and 2 messages the broker takes in flight.
    pub receive_maximum: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    pub qos: u8,
    pub duplicate: bool,
    pub retain: bool,
    pub packet_id: u16,
    pub topic: String,
    pub payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    pub packet_id: u16,
    /// 0 for a 3.1.1 broker, whose acknowledgements cannot refuse.
    pub code: u8,
}

/// What a broker sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    ConnAck(ConnAck),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    SubAck {
        codes: Vec<u8>,
    },
    PingResp,
    /// With the server that the client is to use instead, if it is told one.
    Disconnect {
        code: u8,
        elsewhere: Option<String>,
    },
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP: a packet id and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Ack(u16),
    Received(u16),
    Release(u16),
    Complete(u16),
}

pub fn connect(output: &mut Vec<u8>, connect: &Connect) {
    let mut body = Vec::with_capacity(64);
    let five = connect.version == Version::V5;
    string(&mut body, "MQTT");
    body.push(if five { 5 } else { 4 });
    let will = if connect.will.is_some() { 2 << 3 | 1 << 2 } else { 0 };
    body.push(u8::from(connect.clean) << 1 | will);
    body.extend(connect.keep_alive.to_be_bytes());
    if five {
        body.extend([8, 0x11]);
        body.extend(connect.expiry.to_be_bytes());
        body.push(0x21);
        body.extend(connect.receive_maximum.to_be_bytes());
    }
    string(&mut body, &connect.client_id);
    if let Some(will) = &connect.will {
        if five {
            body.extend([5, 0x18]);
            body.extend(will.delay.to_be_bytes());
        }
        string(&mut body, &will.topic);
        body.extend((will.payload.len() as u16).to_be_bytes());
        body.extend(&will.payload);
    }
    packet(output, 0x10, &body);
}

pub fn publish(output: &mut Vec<u8>, version: Version, message: &Publish) {
    let mut body = Vec::with_capacity(64);
    string(&mut body, &message.topic);
    if message.qos > 0 {
        body.extend(message.packet_id.to_be_bytes());
    }
    no_properties(&mut body, version);
    body.extend(&message.payload);
    packet(output, 0x30 | u8::from(message.duplicate) << 3 | message.qos << 1 | u8::from(message.retain), &body);
}

/// A SUBSCRIBE to one filter. At QoS 2 every message comes at the QoS of its publish.
pub fn subscribe(output: &mut Vec<u8>, version: Version, packet_id: u16, filter: &str, qos: u8) {
    let mut body = Vec::with_capacity(64);
    body.extend(packet_id.to_be_bytes());
    no_properties(&mut body, version);
    string(&mut body, filter);
    body.push(qos);
    packet(output, 0x82, &body);
}

pub fn reply(output: &mut Vec<u8>, reply: Reply) {
    let (first, packet_id) = match reply {
        Reply::Ack(id) => (0x40, id),
        Reply::Received(id) => (0x50, id),
        Reply::Release(id) => (0x62, id),
        Reply::Complete(id) => (0x70, id),
    };
    packet(output, first, &packet_id.to_be_bytes());
}

pub fn ping(output: &mut Vec<u8>) {
    packet(output, 0xC0, &[]);
}

pub fn disconnect(output: &mut Vec<u8>) {
    packet(output, 0xE0, &[]);
}

/// The DISCONNECT of a 5.0 client that wants its will published (code 0x04).
pub fn disconnect_with_will(output: &mut Vec<u8>) {
    packet(output, 0xE0, &[4]);
}

fn packet(output: &mut Vec<u8>, first: u8, body: &[u8]) {
    output.push(first);
    let mut left = body.len();
    loop {
        let more = left > 0x7F;
        output.push((left & 0x7F) as u8 | if more { 0x80 } else { 0 });
        left >>= 7;
        if !more {
            break;
        }
    }
    output.extend(body);
}

fn string(output: &mut Vec<u8>, text: &str) {
    output.extend((text.len() as u16).to_be_bytes());
    output.extend(text.as_bytes());
}

fn no_properties(output: &mut Vec<u8>, version: Version) {
    if version == Version::V5 {
        output.push(0);
    }
}

/// The first packet in what has come, and how many bytes it takes; `None` while it is not complete.
///
/// # Errors
/// What is wrong with it. A broker must not send such bytes, so this is a finding.
pub fn take(version: Version, input: &[u8]) -> Result<Option<(Packet, usize)>, String> {
    let Some((&first, after)) = input.split_first() else { return Ok(None) };
    let Some((length, used)) = variable(after)? else { return Ok(None) };
    let Some(body) = after.get(used..used + length) else { return Ok(None) };
    let packet =
        parse(version, first, &mut Reader(body)).map_err(|wrong| format!("{wrong} in {first:02x} {body:02x?}"))?;
    Ok(Some((packet, 1 + used + length)))
}

/// A variable byte integer and its length.
fn variable(input: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut value = 0;
    for (place, byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((value, place + 1)));
        }
    }
    if input.len() < 4 { Ok(None) } else { Err("a variable byte integer of more than four bytes".into()) }
}

fn parse(version: Version, first: u8, body: &mut Reader<'_>) -> Result<Packet, String> {
    match first {
        0x20 => conn_ack(version, body).map(Packet::ConnAck),
        0x30..=0x3F => publication(version, first, body).map(Packet::Publish),
        0x40 => ack(version, body).map(Packet::PubAck),
        0x50 => ack(version, body).map(Packet::PubRec),
        0x62 => ack(version, body).map(Packet::PubRel),
        0x70 => ack(version, body).map(Packet::PubComp),
        0x90 => {
            body.u16()?;
            if version == Version::V5 {
                body.properties()?;
            }
            Ok(Packet::SubAck { codes: body.0.to_vec() })
        }
        0xD0 => Ok(Packet::PingResp),
        0xE0 if version == Version::V5 => disconnected(body),
        _ => Err("a packet that a broker does not send".into()),
    }
}

fn conn_ack(version: Version, body: &mut Reader<'_>) -> Result<ConnAck, String> {
    let session_present = body.u8()? & 1 == 1;
    let code = body.u8()?;
    let mut told = ConnAck { session_present, code, receive_maximum: u16::MAX };
    if version == Version::V5 {
        let mut properties = Reader(body.properties()?);
        while !properties.0.is_empty() {
            match properties.u8()? {
                0x21 => told.receive_maximum = properties.u16()?,
                0x24 | 0x25 | 0x28 | 0x29 | 0x2A => drop(properties.u8()?),
                0x13 | 0x22 => drop(properties.u16()?),
                0x11 | 0x27 => drop(properties.bytes(4)?),
                0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => drop(properties.prefixed()?),
                0x26 => {
                    properties.prefixed()?;
                    properties.prefixed()?;
                }
                other => return Err(format!("property {other:#04x}, which a CONNACK does not have,")),
            }
        }
    }
    Ok(told)
}

fn disconnected(body: &mut Reader<'_>) -> Result<Packet, String> {
    let code = body.code()?;
    let mut elsewhere = None;
    // The length may be left out where there are no properties [MQTT-3.14.2.2.1].
    let mut properties = Reader(if body.0.is_empty() { &[] } else { body.properties()? });
    while !properties.0.is_empty() {
        match properties.u8()? {
            0x1C => elsewhere = Some(String::from_utf8_lossy(properties.prefixed()?).into_owned()),
            0x1F => drop(properties.prefixed()?),
            0x26 => {
                properties.prefixed()?;
                properties.prefixed()?;
            }
            other => return Err(format!("property {other:#04x}, which a broker's DISCONNECT does not have,")),
        }
    }
    Ok(Packet::Disconnect { code, elsewhere })
}

fn publication(version: Version, first: u8, body: &mut Reader<'_>) -> Result<Publish, String> {
    let qos = first >> 1 & 3;
    let topic = std::str::from_utf8(body.prefixed()?).map_err(|error| error.to_string())?.to_owned();
    let packet_id = match qos {
        0 => 0,
        1 | 2 => body.u16()?,
        _ => return Err("QoS 3".into()),
    };
    if qos > 0 && packet_id == 0 {
        return Err("packet id 0".into());
    }
    if version == Version::V5 {
        body.properties()?;
    }
    let (duplicate, retain) = (first & 8 != 0, first & 1 != 0);
    Ok(Publish { qos, duplicate, retain, packet_id, topic, payload: body.0.to_vec() })
}

fn ack(version: Version, body: &mut Reader<'_>) -> Result<Ack, String> {
    let packet_id = body.u16()?;
    let code = if version == Version::V5 { body.code()? } else { 0 };
    Ok(Ack { packet_id, code })
}

/// What is left of a packet's body.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, left) = self.0.split_at_checked(count).ok_or("an end too early")?;
        self.0 = left;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.bytes(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, String> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn prefixed(&mut self) -> Result<&'a [u8], String> {
        let length = self.u16()?;
        self.bytes(length.into())
    }

    fn properties(&mut self) -> Result<&'a [u8], String> {
        let (length, used) = variable(self.0)?.ok_or("an end too early")?;
        self.bytes(used)?;
        self.bytes(length)
    }

    /// A reason code, which may be left out when it is success.
    fn code(&mut self) -> Result<u8, String> {
        if self.0.is_empty() { Ok(0) } else { self.u8() }
    }
}

#[cfg(test)]
mod tests;
