//! MQTT by hand: what a client does, byte by byte and connection by connection.

pub mod link;
pub mod wire;
