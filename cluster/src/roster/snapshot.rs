//! The roster as bytes: one header, then one record per session, each with its length before it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use prost::Message;
use rollcall_proto::schema::roster::{self as wire, Header, Subscription};

use super::pages::PageMap;
use super::{Owner, Roster, Session};

/// No record is larger: a session of the most subscriptions that fit stays far below.
const MAX_RECORD: usize = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the roster snapshot cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the roster snapshot has a record that does not decode ({0}): it was written by another version")]
    Decode(#[from] prost::DecodeError),
    #[error("the roster snapshot has a record of {0} bytes, more than any may have: it is damaged")]
    TooLarge(usize),
}

impl Roster {
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let header = Header {
            cluster_id: self.cluster_id,
            limits: Some(self.limits),
            time: self.time,
            seq: self.seq,
            forgotten_epoch: self.forgotten_epoch,
            connections: self.connections,
            nodes: self.nodes.values().cloned().collect(),
            orphans: self.orphans.values().copied().collect(),
            sessions: self.sessions.len() as u64,
            ..Header::default()
        };
        let mut buffer = Vec::new();
        write_record(&header, &mut buffer, out)?;
        for (client_id, session) in self.sessions.iter() {
            write_record(&session.to_wire(client_id), &mut buffer, out)?;
        }
        Ok(())
    }

    pub fn read_from(input: &mut impl Read) -> Result<Roster, SnapshotError> {
        let header: Header = read_record(input)?;
        let mut sessions = PageMap::default();
        for _ in 0..header.sessions {
            let record: wire::Session = read_record(input)?;
            let client_id = record.client_id.clone();
            sessions.insert(&client_id, Session::from_wire(record));
        }
        Ok(Roster {
            cluster_id: header.cluster_id,
            limits: header.limits.unwrap_or_default(),
            time: header.time,
            seq: header.seq,
            forgotten_epoch: header.forgotten_epoch,
            connections: header.connections,
            nodes: header.nodes.into_iter().map(|node| (node.id, node)).collect(),
            orphans: header.orphans.into_iter().map(|orphans| ((orphans.node, orphans.epoch), orphans)).collect(),
            sessions,
        })
    }
}

impl Session {
    fn to_wire(&self, client_id: &str) -> wire::Session {
        wire::Session {
            client_id: client_id.into(),
            epoch: self.epoch,
            incarnation: self.incarnation,
            owner: self.owner.map(|owner| wire::Owner {
                node: owner.node,
                node_epoch: owner.node_epoch,
                connection: owner.connection,
            }),
            connected_at: self.connected_at,
            disconnected_at: self.disconnected_at,
            session_expiry: self.session_expiry,
            protocol_level: self.protocol_level.into(),
            clean_start: self.clean_start,
            keep_alive: self.keep_alive.into(),
            username: self.username.as_deref().map(str::to_owned),
            peername: self.peername.to_string(),
            sockname: self.sockname.to_string(),
            subscriptions: self
                .subscriptions
                .iter()
                .map(|(filter, options)| Subscription { filter: filter.to_string(), options: Some(*options) })
                .collect(),
            ..wire::Session::default()
        }
    }

    fn from_wire(record: wire::Session) -> Session {
        let subscriptions: BTreeMap<Arc<str>, _> = record
            .subscriptions
            .into_iter()
            .map(|subscription| (subscription.filter.into(), subscription.options.unwrap_or_default()))
            .collect();
        Session {
            epoch: record.epoch,
            incarnation: record.incarnation,
            owner: record.owner.map(|owner| Owner {
                node: owner.node,
                node_epoch: owner.node_epoch,
                connection: owner.connection,
            }),
            connected_at: record.connected_at,
            disconnected_at: record.disconnected_at,
            session_expiry: record.session_expiry,
            protocol_level: record.protocol_level as u8,
            clean_start: record.clean_start,
            keep_alive: record.keep_alive as u16,
            username: record.username.map(Into::into),
            peername: record.peername.into(),
            sockname: record.sockname.into(),
            subscriptions,
        }
    }
}

fn write_record(record: &impl Message, buffer: &mut Vec<u8>, out: &mut impl Write) -> io::Result<()> {
    buffer.clear();
    record.encode(buffer).map_err(io::Error::other)?;
    out.write_all(&(buffer.len() as u32).to_le_bytes())?;
    out.write_all(buffer)
}

fn read_record<M: Message + Default>(input: &mut impl Read) -> Result<M, SnapshotError> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_RECORD {
        return Err(SnapshotError::TooLarge(length));
    }
    let mut record = vec![0; length];
    input.read_exact(&mut record)?;
    Ok(M::decode(record.as_slice())?)
}
