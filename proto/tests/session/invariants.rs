//! Random packets, answers, deliveries and times against a model of what must hold whatever happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use rollcall_proto::packet::{Packet, Publish, QoS, Version};
use rollcall_proto::reason::{DisconnectReason, ReasonCode};
use rollcall_proto::session::{Action, PublishToken, SessionConfig};

use crate::rig::*;

const INBOUND: u16 = 3;
const OUTBOUND: u16 = 2;

#[derive(Debug, Clone)]
enum Step {
    Publish { qos: QoS, id: u16, dup: bool },
    PubAck(u16),
    PubRec(u16, bool),
    PubRel(u16),
    PubComp(u16),
    Subscribe(u16),
    Answer(prop::sample::Index, ReasonCode),
    AnswerSubscribe,
    Deliver(QoS),
    Congested(bool),
    Hold(bool),
    Advance(u16),
    Ping,
    Rare(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let qos = prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)];
    let code = prop_oneof![
        6 => Just(ReasonCode::Success),
        1 => Just(ReasonCode::NotAuthorized),
        1 => Just(ReasonCode::QuotaExceeded)
    ];
    prop_oneof![
        6 => (qos.clone(), 1..6_u16, prop::bool::weighted(0.3)).prop_map(|(qos, id, dup)| Step::Publish { qos, id, dup }),
        4 => (1..8_u16).prop_map(Step::PubAck),
        4 => (1..8_u16, prop::bool::weighted(0.2)).prop_map(|(id, bad)| Step::PubRec(id, bad)),
        4 => (1..6_u16).prop_map(Step::PubRel),
        4 => (1..8_u16).prop_map(Step::PubComp),
        1 => (10..13_u16).prop_map(Step::Subscribe),
        8 => (any::<prop::sample::Index>(), code).prop_map(|(at, code)| Step::Answer(at, code)),
        1 => Just(Step::AnswerSubscribe),
        6 => qos.prop_map(Step::Deliver),
        1 => any::<bool>().prop_map(Step::Congested),
        1 => any::<bool>().prop_map(Step::Hold),
        1 => (0..4_000_u16).prop_map(Step::Advance),
        2 => Just(Step::Ping),
        1 => any::<u8>().prop_map(Step::Rare),
    ]
}

struct Model {
    rig: Rig,
    /// Publishes the shell was given and has not answered.
    tokens: Vec<PublishToken>,
    seen: BTreeSet<PublishToken>,
    answered: BTreeSet<PublishToken>,
    /// Acknowledgements owed, in order.
    owed: VecDeque<(u16, QoS, PublishToken)>,
    /// QoS 2 ids between PUBREC and PUBREL.
    received: BTreeSet<u16>,
    /// Ids in flight towards the client, with QoS 2 after its PUBREC marked.
    in_flight: BTreeMap<u16, (QoS, bool)>,
    /// The packet id of the PUBLISH that was fed last.
    current: u16,
    requests: BTreeSet<u16>,
    closed: bool,
}

impl Model {
    fn new(version: Version) -> Self {
        let config = SessionConfig {
            receive_maximum: INBOUND.try_into().unwrap(),
            outbound_window: OUTBOUND.try_into().unwrap(),
            outbound_queue: 4,
            ..config()
        };
        Model {
            rig: Rig::online(version, config),
            tokens: Vec::new(),
            seen: BTreeSet::new(),
            answered: BTreeSet::new(),
            owed: VecDeque::new(),
            received: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            current: 0,
            requests: BTreeSet::new(),
            closed: false,
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Publish { qos, id: number, dup } => {
                self.current = number;
                let Packet::Publish(plain) = publish("t", qos, number) else { unreachable!() };
                self.feed(Packet::Publish(Publish { dup: dup && qos != QoS::AtMostOnce, ..plain }));
            }
            Step::PubAck(id) => {
                self.in_flight.retain(|&other, state| other != id || state.0 == QoS::ExactlyOnce);
                self.feed(Packet::PubAck(ok(id)));
            }
            Step::PubRec(id, bad) => self.pubrec(id, bad),
            Step::PubRel(id) => {
                let expected = self.received.remove(&id);
                let before = self.rig.session.is_closed();
                let actions = self.feed(Packet::PubRel(ok(id)));
                let comp = sent(&actions).into_iter().any(|p| p == Packet::PubComp(ok(id)));
                assert!(before || !expected || comp, "PUBREL is answered");
            }
            Step::PubComp(id) => {
                self.in_flight.retain(|&other, state| other != id || *state != (QoS::ExactlyOnce, true));
                self.feed(Packet::PubComp(ok(id)));
            }
            Step::Subscribe(id) => {
                self.feed(subscribe(id, &["a"]));
            }
            Step::Answer(at, code) => {
                if !self.tokens.is_empty() {
                    let token = self.tokens.swap_remove(at.index(self.tokens.len()));
                    self.answered.insert(token);
                    self.rig.session.published(token, code);
                    self.rig.session.published(token, ReasonCode::Success);
                }
            }
            Step::AnswerSubscribe => {
                if let Some(number) = self.requests.pop_first() {
                    self.rig.session.subscribed(id(number), &[ReasonCode::GrantedQoS1]);
                }
            }
            Step::Deliver(qos) => {
                self.rig.session.deliver(delivery("x", qos), self.rig.now);
            }
            Step::Congested(congested) => self.rig.session.set_congested(congested, self.rig.now),
            Step::Hold(true) => self.rig.session.hold(self.rig.now),
            Step::Hold(false) => self.rig.session.release(self.rig.now),
            Step::Advance(ms) => {
                self.rig.now += u64::from(ms);
                self.rig.session.handle_timeout(self.rig.now);
            }
            Step::Ping => {
                self.feed(Packet::PingReq);
            }
            Step::Rare(0) => self.rig.session.disconnect(DisconnectReason::Kicked, None),
            Step::Rare(1) => self.rig.session.handle_closed(),
            Step::Rare(2) => drop(self.feed(disconnect(ReasonCode::Success))),
            Step::Rare(3) => drop(self.feed(Packet::PingResp)),
            Step::Rare(_) => self.rig.session.trim(),
        }
        self.absorb();
    }

    fn pubrec(&mut self, id: u16, bad: bool) {
        match self.in_flight.get_mut(&id) {
            Some((QoS::ExactlyOnce, false)) if bad => drop(self.in_flight.remove(&id)),
            Some((QoS::ExactlyOnce, released)) => *released = true,
            _ => {}
        }
        let reason = if bad { ReasonCode::UnspecifiedError } else { ReasonCode::Success };
        self.feed(Packet::PubRec(ack(id, reason)));
    }

    fn feed(&mut self, packet: Packet) -> Vec<Action> {
        self.rig.session.handle_packet(packet, self.rig.now);
        self.absorb()
    }

    /// Takes all actions and holds them against the model.
    fn absorb(&mut self) -> Vec<Action> {
        let actions = self.rig.actions();
        for action in &actions {
            assert!(!self.closed, "an action after the end: {action:?}");
            match action {
                Action::Publish { token, message, .. } => self.on_publish(*token, message.qos),
                Action::Send(Packet::PubAck(ack)) => {
                    self.pay(ack.packet_id.get(), QoS::AtLeastOnce);
                }
                Action::Send(Packet::PubRec(ack)) => self.on_pubrec(ack.packet_id.get(), ack.reason.is_error()),
                Action::Deliver(out) => {
                    let qos = out.delivery.qos;
                    assert_eq!(out.packet_id.is_some(), qos != QoS::AtMostOnce);
                    if let Some(id) = out.packet_id {
                        let taken = self.in_flight.insert(id.get(), (qos, false));
                        assert_eq!(taken, None, "a packet id given out twice");
                        assert!(self.in_flight.len() <= usize::from(OUTBOUND), "above the window");
                    }
                    wire(out, self.rig.session.version());
                }
                Action::Subscribe(request) => {
                    assert!(self.requests.insert(request.packet_id.get()), "a request id twice");
                }
                Action::Close(_) => self.closed = true,
                Action::Send(_) | Action::Dropped { .. } => {}
                Action::Claim(_)
                | Action::Unsubscribe(_)
                | Action::Complete(_)
                | Action::Received(_)
                | Action::Settled(_) => panic!("never asked for: {action:?}"),
            }
        }
        assert_eq!(self.closed, self.rig.session.is_closed());
        if !self.closed {
            assert_eq!(self.rig.session.in_flight(), self.in_flight.len());
            assert!(self.rig.session.queued() <= 4);
        }
        actions
    }

    fn on_publish(&mut self, token: Option<PublishToken>, qos: QoS) {
        assert_eq!(token.is_some(), qos != QoS::AtMostOnce);
        let Some(token) = token else { return };
        assert!(self.seen.insert(token), "a token given out twice");
        self.tokens.push(token);
        if self.rig.session.version() == Version::V5 {
            assert!(self.tokens.len() <= usize::from(INBOUND), "above the receive maximum");
        }
        self.owed.push_back((self.current, qos, token));
    }

    /// An acknowledgement went out: it must be the next one owed, and answered by the shell.
    fn pay(&mut self, id: u16, qos: QoS) {
        let Some((owed_id, owed_qos, token)) = self.owed.pop_front() else { panic!("nothing is owed to {id}") };
        assert_eq!((owed_id, owed_qos), (id, qos), "out of order");
        assert!(self.answered.contains(&token), "acknowledged before it was safe");
    }

    fn on_pubrec(&mut self, id: u16, refused: bool) {
        if self.received.contains(&id) {
            assert!(!refused, "a repeated PUBREC repeats the first");
            return;
        }
        self.pay(id, QoS::ExactlyOnce);
        if !refused {
            self.received.insert(id);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_sequences_keep_the_invariants(
        version in prop_oneof![Just(Version::V31), Just(Version::V311), Just(Version::V5)],
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut model = Model::new(version);
        for step in steps {
            model.run(step);
        }
        // Whatever is still owed comes as soon as the shell has answered everything.
        while let Some(token) = model.tokens.pop() {
            model.answered.insert(token);
            model.rig.session.published(token, ReasonCode::Success);
            model.absorb();
        }
        prop_assert!(model.closed || model.owed.is_empty(), "a publish without its answer: {:?}", model.owed);
    }
}
