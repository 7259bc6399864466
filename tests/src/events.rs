//! What must hold of a stream of lifecycle events, whoever reads it and wherever.

use std::collections::BTreeMap;

use serde_json::Value;

/// A field that every event has as text, or that only some have: then it reads as empty.
pub fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_default()
}

pub fn number(event: &Value, field: &str) -> u64 {
    event[field].as_u64().unwrap_or_else(|| panic!("{field} is no number in {event}"))
}

/// The events of one client id, in order.
pub fn of_client(events: &[Value], client_id: &str) -> Vec<Value> {
    events.iter().filter(|event| text(event, "clientid") == client_id).cloned().collect()
}

/// `client.connected` or `client.disconnected(reason)`: what a test compares sequences of.
pub fn short(event: &Value) -> String {
    match event["reason"].as_str() {
        Some(reason) => format!("{}({reason})", text(event, "event")),
        None => text(event, "event").to_owned(),
    }
}

/// Panics unless every event's `seq` is its predecessor's plus one.
pub fn assert_gap_free(events: &[Value]) {
    for pair in events.windows(2) {
        let (before, after) = (number(&pair[0], "seq"), number(&pair[1], "seq"));
        assert_eq!(after, before + 1, "a gap in seq between {} and {}", pair[0], pair[1]);
    }
}

/// Panics at the first event in which two nodes differ.
pub fn assert_identical(one: &[Value], other: &[Value]) {
    for (a, b) in one.iter().zip(other) {
        assert_eq!(a, b, "two nodes tell different events");
    }
    assert_eq!(one.len(), other.len(), "two nodes tell different numbers of events");
}

/// Panics unless the events of each client id alternate connected, disconnected, connected, …, both of one connection
/// carry one epoch and one node, and epochs rise: by one at a takeover, and after a session was forgotten to any higher
/// one. Events that refuse a connection are left aside.
pub fn assert_alternating(events: &[Value]) {
    let mut histories: BTreeMap<&str, History<'_>> = BTreeMap::new();
    for event in events {
        let history = histories.entry(text(event, "clientid")).or_default();
        match text(event, "event") {
            "client.connected" => history.connect(event),
            "client.disconnected" if !is_refusal(event) => history.disconnect(event),
            _ => {}
        }
    }
}

/// What one client id's events told so far.
#[derive(Debug, Default)]
struct History<'a> {
    /// The epoch and node of the connection that is open.
    open: Option<(u64, &'a str)>,
    last_epoch: u64,
    taken_over: bool,
}

impl<'a> History<'a> {
    fn connect(&mut self, event: &'a Value) {
        let epoch = number(event, "epoch");
        assert!(self.open.is_none(), "connected twice without a disconnected between: {event}");
        assert!(epoch > self.last_epoch, "epochs rise, the last was {}: {event}", self.last_epoch);
        if self.taken_over {
            assert_eq!(epoch, self.last_epoch + 1, "epochs rise by one at a takeover: {event}");
        }
        self.last_epoch = epoch;
        self.open = Some((epoch, text(event, "node")));
    }

    fn disconnect(&mut self, event: &'a Value) {
        let (epoch, node) = self.open.take().unwrap_or_else(|| panic!("disconnected without connected: {event}"));
        assert_eq!(number(event, "epoch"), epoch, "a disconnected has its connected's epoch: {event}");
        let reason = text(event, "reason");
        // Of a node that died a survivor tells.
        if reason != "server_internal_error" {
            assert_eq!(text(event, "node"), node, "a disconnected names its connected's node: {event}");
        }
        self.taken_over = reason == "takeovered";
    }
}

/// The event of a connection that was refused: it never was one, and has no epoch.
fn is_refusal(event: &Value) -> bool {
    number(event, "epoch") == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn connected(seq: u64, epoch: u64) -> Value {
        json!({"event": "client.connected", "clientid": "a", "seq": seq, "epoch": epoch, "node": "n:1"})
    }

    fn disconnected(seq: u64, epoch: u64, node: &str) -> Value {
        json!({"event": "client.disconnected", "clientid": "a", "seq": seq, "epoch": epoch, "node": node,
            "reason": "takeovered"})
    }

    #[test]
    fn an_alternating_stream_passes() {
        assert_alternating(&[connected(1, 7), disconnected(2, 7, "n:1"), connected(3, 8)]);
    }

    #[test]
    #[should_panic(expected = "connected twice")]
    fn two_owners_at_once_are_found() {
        assert_alternating(&[connected(1, 7), connected(2, 8)]);
    }

    #[test]
    #[should_panic(expected = "epochs rise by one at a takeover")]
    fn an_epoch_skipped_by_a_takeover_is_found() {
        assert_alternating(&[connected(1, 7), disconnected(2, 7, "n:1"), connected(3, 9)]);
    }

    #[test]
    #[should_panic(expected = "epochs rise, the last was 7")]
    fn an_epoch_used_twice_is_found() {
        assert_alternating(&[connected(1, 7), disconnected(2, 7, "n:1"), connected(3, 7)]);
    }

    #[test]
    #[should_panic(expected = "names its connected's node")]
    fn a_wrong_node_is_found() {
        assert_alternating(&[connected(1, 7), disconnected(2, 7, "n:2")]);
    }

    #[test]
    #[should_panic(expected = "a gap in seq")]
    fn a_gap_is_found() {
        assert_gap_free(&[connected(1, 7), disconnected(3, 7, "n:1")]);
    }
}
