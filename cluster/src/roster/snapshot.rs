//! The roster as bytes: one header, then one record per session and per pending will, each with its length before it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rollcall_proto::schema::roster::{self as wire, Header, Subscription};

use super::will::Wills;
use super::{Owner, Roster, Session};
use crate::pages::PageMap;
use crate::records::{SnapshotError, read_record, write_record};

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
            wills: self.wills.len() as u64,
            will_number: self.will_number(),
            placements: self.placements.clone(),
            replicas: self.replicas,
            removed: self.removed.iter().copied().collect(),
            levels_above_first: self.raised,
        };
        let mut buffer = Vec::new();
        write_record(&header, &mut buffer, out)?;
        for (client_id, session) in self.sessions.iter() {
            write_record(&session.to_wire(client_id), &mut buffer, out)?;
        }
        for will in self.wills.records() {
            write_record(&will, &mut buffer, out)?;
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
        let mut wills = Wills::numbered(header.will_number);
        for _ in 0..header.wills {
            wills.restore(read_record(input)?);
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
            wills,
            placements: header.placements,
            replicas: header.replicas,
            removed: header.removed.into_iter().collect(),
            raised: header.levels_above_first,
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
            durable: self.durable,
            will: self.will.as_deref().cloned(),
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
            durable: record.durable,
            will: record.will.map(Arc::new),
        }
    }
}
