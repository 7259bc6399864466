//! Every way a connection ends.

use bytestring::ByteString;

use super::{Action, Close, CloseStage, Session, Stage};
use crate::codec::DecodeError;
use crate::packet::{ConnAck, Disconnect, Packet, Version};
use crate::properties::{ConnAckProperties, DisconnectProperties};
use crate::reason::{DisconnectReason, ReasonCode};

impl Session {
    /// The stream ended, or broke.
    pub fn handle_closed(&mut self) {
        self.finish(DisconnectReason::TcpClosed, None);
    }

    /// The client has closed the stream in the way that its transport has for that, without a DISCONNECT: its will is
    /// published all the same.
    pub fn handle_goodbye(&mut self) {
        let reason = if self.stage == Stage::Online { DisconnectReason::Normal } else { DisconnectReason::TcpClosed };
        self.finish(reason, None);
    }

    /// What the client sent is no packet. `version` is what the decoder knows: of a CONNECT that is wrong behind its
    /// level it is the only sign.
    pub fn handle_decode_error(&mut self, error: &DecodeError, version: Option<Version>) {
        match self.stage {
            Stage::Closed => {}
            Stage::Online => {
                // Only a CONNECT can ask for a version, and a second one is wrong whatever it asks for.
                let code = match error.reason_code() {
                    ReasonCode::UnsupportedProtocolVersion => ReasonCode::ProtocolError,
                    other => other,
                };
                self.fail(code, "malformed packet");
            }
            Stage::Claiming => self.finish(DisconnectReason::TcpClosed, Some("malformed packet")),
            Stage::AwaitConnect => {
                self.version = version.unwrap_or(Version::V311);
                if let DecodeError::BadWillTopic(connect) = error {
                    self.identify(connect);
                    self.refuse_connect(DisconnectReason::BadWillMessage, ReasonCode::TopicNameInvalid, None);
                } else {
                    self.refuse_connect(DisconnectReason::TcpClosed, error.reason_code(), Some("malformed packet"));
                }
            }
        }
    }

    /// The server ends the connection. A 5.0 client is told why: 0x9C "use another server" where there is a
    /// `server_reference`, else the reason's own code. A client whose claim is open is refused instead.
    pub fn disconnect(&mut self, reason: DisconnectReason, server_reference: Option<ByteString>) {
        let code = if server_reference.is_some() { ReasonCode::UseAnotherServer } else { reason.disconnect_code() };
        match self.stage {
            Stage::Closed => {}
            Stage::AwaitConnect => self.finish(reason, None),
            Stage::Claiming => {
                self.send_refusal(in_connack(code), server_reference);
                self.finish(reason, None);
            }
            Stage::Online => self.end(reason, code, server_reference, None),
        }
    }

    /// The claim is not granted. `code` is for the CONNACK; 3.x clients get what comes nearest. A code that is no
    /// error counts as 0x80.
    pub fn refused(&mut self, reason: DisconnectReason, code: ReasonCode, server_reference: Option<ByteString>) {
        if self.stage == Stage::Claiming {
            let code = if code.is_error() { code } else { ReasonCode::UnspecifiedError };
            self.send_refusal(code, server_reference);
            self.close(reason, None, CloseStage::Refused, None);
        }
    }

    /// DISCONNECT from the client [MQTT 5.0 §3.14].
    pub(super) fn on_disconnect(&mut self, disconnect: Disconnect) {
        let expiry = disconnect.properties.session_expiry;
        if self.asked_expiry == 0 && expiry.is_some_and(|seconds| seconds > 0) {
            return self.fail(ReasonCode::ProtocolError, "DISCONNECT revives a session that ends [MQTT-3.1.2-23]");
        }
        if disconnect.properties.server_reference.is_some() {
            return self.fail(ReasonCode::ProtocolError, "a server reference from a client");
        }
        let expiry = expiry.map(|seconds| seconds.min(self.config.session_expiry_max));
        if disconnect.reason == ReasonCode::Success {
            // [MQTT-3.14.4-3]
            self.will = None;
        }
        let (reason, detail) = if disconnect.reason.is_error() {
            (DisconnectReason::TcpClosed, Some("the client reported an error"))
        } else {
            (DisconnectReason::Normal, None)
        };
        self.close(reason, detail, CloseStage::Online, expiry);
    }

    /// The client broke the protocol.
    pub(super) fn fail(&mut self, code: ReasonCode, detail: &'static str) {
        self.end(DisconnectReason::TcpClosed, code, None, Some(detail));
    }

    /// Ends an online connection; 3.x has no DISCONNECT from the server.
    pub(super) fn end(
        &mut self,
        reason: DisconnectReason,
        code: ReasonCode,
        server_reference: Option<ByteString>,
        detail: Option<&'static str>,
    ) {
        if self.stage != Stage::Online {
            return;
        }
        if self.is_v5() {
            let properties = DisconnectProperties { server_reference, ..DisconnectProperties::default() };
            self.send(Packet::Disconnect(Box::new(Disconnect { reason: code, properties })));
        }
        self.finish(reason, detail);
    }

    /// A CONNECT that does not come as far as a claim.
    pub(super) fn refuse_connect(&mut self, reason: DisconnectReason, code: ReasonCode, detail: Option<&'static str>) {
        if self.is_v5() || v3_is_told(code) {
            self.send_refusal(code, None);
        }
        self.finish(reason, detail);
    }

    fn send_refusal(&mut self, reason: ReasonCode, server_reference: Option<ByteString>) {
        let properties = ConnAckProperties { server_reference, ..ConnAckProperties::default() };
        self.send(Packet::ConnAck(Box::new(ConnAck { session_present: false, reason, properties })));
    }

    /// Closes without a word to the client.
    pub(super) fn finish(&mut self, reason: DisconnectReason, detail: Option<&'static str>) {
        let stage = match self.stage {
            Stage::Closed => return,
            Stage::AwaitConnect => CloseStage::BeforeClaim,
            Stage::Claiming => CloseStage::Claiming,
            Stage::Online => CloseStage::Online,
        };
        self.close(reason, detail, stage, None);
    }

    fn close(
        &mut self,
        reason: DisconnectReason,
        detail: Option<&'static str>,
        stage: CloseStage,
        session_expiry: Option<u32>,
    ) {
        self.stage = Stage::Closed;
        // A will exists from the CONNACK on [MQTT-3.1.2-7].
        let will = self.will.take().filter(|_| stage == CloseStage::Online);
        self.actions.push_back(Action::Close(Box::new(Close { reason, detail, stage, will, session_expiry })));
    }
}

/// What a CONNACK can say of the end of a connection that never was one: not all that a DISCONNECT can, and no success.
fn in_connack(code: ReasonCode) -> ReasonCode {
    let has_no_word = !code.is_error()
        || matches!(
            code,
            ReasonCode::SessionTakenOver
                | ReasonCode::AdministrativeAction
                | ReasonCode::ServerShuttingDown
                | ReasonCode::KeepAliveTimeout
        );
    if has_no_word { ReasonCode::ServerUnavailable } else { code }
}

/// Whether a 3.x CONNACK has a return code that says something; otherwise the stream is just closed
/// [MQTT 3.1.1 §4.8].
fn v3_is_told(code: ReasonCode) -> bool {
    matches!(
        code,
        ReasonCode::UnsupportedProtocolVersion
            | ReasonCode::ClientIdentifierNotValid
            | ReasonCode::BadUserNameOrPassword
            | ReasonCode::NotAuthorized
            | ReasonCode::BadAuthenticationMethod
    )
}
