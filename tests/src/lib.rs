//! The harness of the tests against real clusters: nodes as processes on loopback, an MQTT client that sees every
//! packet, the HTTP API as a program uses it, and the checks that more than one test makes.
//!
//! - [`cluster`], [`node`], [`ports`], [`binary`]: the broker's processes, their faults and their logs
//! - [`client`]: one MQTT connection, packet by packet
//! - [`authority`], [`tunnel`]: certificates of our own, and the way to a listener that speaks TLS
//! - [`http`], [`events`]: what the admin HTTP answers, and what must hold of an event stream
//! - [`clauses`]: the statements of MQTT, and the tests that carry their ids
//! - [`external`]: other people's programs and clients
//! - [`backlog`]: much that waits for sessions that are away
//! - [`bench`]: our broker and others' under measurement
//! - [`latency`], [`footprint`], [`patience`]: figures, and bounded waiting for a condition

pub mod authority;
pub mod backlog;
pub mod bench;
pub mod binary;
pub mod clauses;
pub mod client;
pub mod cluster;
pub mod events;
pub mod external;
pub mod footprint;
pub mod http;
pub mod latency;
pub mod node;
pub mod patience;
pub mod ports;
pub mod tunnel;
