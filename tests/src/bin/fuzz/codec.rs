//! Against the codec: no bytes may panic; bytes one at a time are the same packets; and what is decoded has a form, which
//! decodes to the same.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng as _};
use rollcall_proto::codec::{DecodeError, Decoder, encode, encoded_len};
use rollcall_proto::packet::{Packet, PacketType, Version};

use crate::mutate::{connect, encoded, mutate, packet, version};

const MAX_PACKET: usize = 4_096;
/// A few kilobytes take microseconds; this is a hang.
const SLOW: Duration = Duration::from_secs(2);

type Decoded = (Vec<(Version, Packet)>, Option<DecodeError>);

pub fn run(time: Duration, seed: u64) -> Result<String, String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let started = Instant::now();
    let (mut inputs, mut packets, mut refused) = (0_u64, 0_u64, 0_u64);
    while started.elapsed() < time {
        for _ in 0..1_000 {
            let (known, bytes) = input(&mut rng);
            let began = Instant::now();
            let judged = catch_unwind(AssertUnwindSafe(|| judge(known, &bytes)));
            let found = |what: &str| format!("{what}: version {known:?}, bytes {bytes:02x?}");
            let (decoded, error) = judged.map_err(|_| found("a panic"))?.map_err(|what| found(&what))?;
            if began.elapsed() > SLOW {
                return Err(found("a hang"));
            }
            inputs += 1;
            packets += decoded;
            refused += u64::from(error);
        }
    }
    Ok(format!("{inputs} inputs, {packets} packets in them, {refused} refused"))
}

/// Of a connection whose version is known, or of one that begins.
fn input(rng: &mut SmallRng) -> (Option<Version>, Vec<u8>) {
    let version = version(rng);
    let known = rng.random_bool(0.7).then_some(version);
    let mut bytes = if known.is_none() { encoded(&connect(version, rng), version) } else { Vec::new() };
    for _ in 0..rng.random_range(0..4) {
        bytes.extend(encoded(&packet(version, rng), version));
    }
    mutate(&mut bytes, rng);
    (known, bytes)
}

fn judge(known: Option<Version>, bytes: &[u8]) -> Result<(u64, bool), String> {
    let whole = decode(known, std::iter::once(bytes));
    let cut = decode(known, bytes.chunks(1));
    if whole != cut {
        return Err(format!("byte by byte it is {cut:?} instead of {whole:?}"));
    }
    for (version, packet) in &whole.0 {
        check_round_trip(*version, packet)?;
    }
    Ok((whole.0.len() as u64, whole.1.is_some()))
}

fn decode<'a>(known: Option<Version>, chunks: impl Iterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = match known {
        Some(version) => Decoder::with_version(version, MAX_PACKET),
        None => Decoder::new(MAX_PACKET),
    };
    let (mut buf, mut packets) = (BytesMut::new(), Vec::new());
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(packet)) => packets.push((decoder.version().unwrap_or(Version::V311), packet)),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

fn check_round_trip(version: Version, packet: &Packet) -> Result<(), String> {
    let mut bytes = BytesMut::new();
    encode(packet, version, &mut bytes).map_err(|error| format!("{packet:?} has no form: {error}"))?;
    if encoded_len(packet, version) != Ok(bytes.len()) {
        return Err(format!("{packet:?} is said to be of another length than {}", bytes.len()));
    }
    let mut decoder = match packet.packet_type() {
        PacketType::Connect => Decoder::new(usize::MAX),
        _ => Decoder::with_version(version, usize::MAX),
    };
    let again = decoder.decode(&mut bytes);
    if again.as_ref() == Ok(&Some(packet.clone())) { Ok(()) } else { Err(format!("{packet:?} became {again:?}")) }
}
