use crate::packet::{Connect, PacketType, Version};
use crate::reason::ReasonCode;

/// Why bytes are no packet. Each ends the connection; [`DecodeError::reason_code`] is what a 5.0 peer is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Sizes in bytes, fixed header included.
    #[error(
        "the packet has {size} bytes, {limit} are allowed: send smaller packets or raise the listener's max_packet"
    )]
    PacketTooLarge { size: usize, limit: usize },
    #[error("the first packet is {0}: a connection begins with CONNECT")]
    ExpectedConnect(PacketType),
    #[error("packet type 0 is reserved: this is not MQTT, or the stream has lost its place")]
    ReservedPacketType,
    #[error("AUTH exists in MQTT 5.0 only")]
    AuthBeforeV5,
    #[error("{packet_type} has the reserved header bits {flags:#06b}")]
    ReservedHeaderFlags { packet_type: PacketType, flags: u8 },
    #[error("a length is written in more than four bytes")]
    VarintTooLong,
    #[error("a length is written in more bytes than it needs, which MQTT 5.0 forbids")]
    VarintNotMinimal,
    #[error("a field reaches over the end of its packet or of its properties")]
    UnexpectedEnd,
    #[error("bytes follow the last field of the packet")]
    TrailingBytes,
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    #[error("a string contains U+0000")]
    NulInString,
    #[error("the protocol name is neither MQTT nor MQIsdp")]
    UnsupportedProtocolName,
    #[error("protocol level {0} is not spoken here: use MQTT 3.1 (3), 3.1.1 (4) or 5.0 (5)")]
    UnsupportedProtocolLevel(u8),
    #[error("the reserved bit of the CONNECT flags is set")]
    ReservedConnectFlag,
    #[error("the will flags of CONNECT contradict each other")]
    InvalidWillFlags,
    #[error("CONNECT has a password and no user name, which MQTT 5.0 alone allows")]
    PasswordWithoutUsername,
    /// The CONNECT is whole and well-formed otherwise, so that its refusal can name the client.
    #[error("the will topic is empty or has a wildcard")]
    BadWillTopic(Box<Connect>),
    #[error("QoS 3 does not exist")]
    InvalidQoS,
    #[error("a QoS 0 PUBLISH is marked as a duplicate")]
    DupOnQoS0,
    #[error("packet identifier 0 is not allowed")]
    PacketIdZero,
    #[error("the topic of a PUBLISH is empty or has a wildcard")]
    TopicNameInvalid,
    #[error("a PUBLISH has neither a topic nor a topic alias")]
    EmptyTopicWithoutAlias,
    #[error("topic alias 0 is not allowed")]
    TopicAliasZero,
    #[error("property {id:#04x} has no place in {packet}")]
    PropertyNotAllowed { id: u32, packet: &'static str },
    #[error("property {0:#04x} appears twice")]
    DuplicateProperty(u8),
    #[error("property {0:#04x} has a value out of its range")]
    PropertyValue(u8),
    #[error("reason code {code:#04x} is not one of {packet_type}")]
    ReasonNotAllowed { packet_type: PacketType, code: u8 },
    #[error("the CONNACK flags are neither 0 nor session present, or a refusal has session present")]
    InvalidConnAckFlags,
    #[error("{0} lists nothing: at least one entry is needed")]
    EmptyList(PacketType),
    #[error("a subscription has reserved option bits set")]
    ReservedSubscribeOptions,
    #[error("retain handling 3 does not exist")]
    InvalidRetainHandling,
    #[error("a shared subscription cannot be no-local")]
    NoLocalOnShared,
    #[error("there is authentication data, or an AUTH, without an authentication method")]
    AuthenticationMethodMissing,
}

impl DecodeError {
    /// The code for a 5.0 CONNACK or DISCONNECT [MQTT 5.0 §4.13]. For a 3.x CONNACK its
    /// [`ReasonCode::v3_return_code`] fits for the protocol level alone; otherwise a 3.x connection is just closed.
    pub fn reason_code(&self) -> ReasonCode {
        match self {
            DecodeError::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            DecodeError::UnsupportedProtocolName | DecodeError::UnsupportedProtocolLevel(_) => {
                ReasonCode::UnsupportedProtocolVersion
            }
            DecodeError::BadWillTopic(_) | DecodeError::TopicNameInvalid => ReasonCode::TopicNameInvalid,
            DecodeError::TopicAliasZero => ReasonCode::TopicAliasInvalid,
            DecodeError::ExpectedConnect(_)
            | DecodeError::PacketIdZero
            | DecodeError::EmptyTopicWithoutAlias
            | DecodeError::DuplicateProperty(_)
            | DecodeError::PropertyValue(_)
            | DecodeError::ReasonNotAllowed { .. }
            | DecodeError::EmptyList(_)
            | DecodeError::InvalidRetainHandling
            | DecodeError::NoLocalOnShared
            | DecodeError::AuthenticationMethodMissing => ReasonCode::ProtocolError,
            DecodeError::ReservedPacketType
            | DecodeError::AuthBeforeV5
            | DecodeError::ReservedHeaderFlags { .. }
            | DecodeError::VarintTooLong
            | DecodeError::VarintNotMinimal
            | DecodeError::UnexpectedEnd
            | DecodeError::TrailingBytes
            | DecodeError::InvalidUtf8
            | DecodeError::NulInString
            | DecodeError::ReservedConnectFlag
            | DecodeError::InvalidWillFlags
            | DecodeError::PasswordWithoutUsername
            | DecodeError::InvalidQoS
            | DecodeError::DupOnQoS0
            | DecodeError::PropertyNotAllowed { .. }
            | DecodeError::InvalidConnAckFlags
            | DecodeError::ReservedSubscribeOptions => ReasonCode::MalformedPacket,
        }
    }
}

/// Why a packet has no bytes in a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("{packet_type} as it is has no form in MQTT {}: close the connection instead", version.name())]
    NotInVersion { packet_type: PacketType, version: Version },
    /// In bytes, fixed header not included.
    #[error("{0} bytes do not fit into one packet: at most 268435455 do")]
    PacketTooLarge(usize),
    #[error("{0} bytes do not fit into one field: at most 65535 do")]
    FieldTooLong(usize),
    #[error("a string contains U+0000")]
    NulInString,
    #[error("a packet identifier belongs to a PUBLISH with QoS 1 or 2, and to no other")]
    PacketIdAndQoS,
    #[error("a QoS 0 PUBLISH cannot be a duplicate")]
    DupOnQoS0,
    #[error("a topic or will topic has a wildcard or is empty")]
    TopicNameInvalid,
    #[error("a PUBLISH without a topic needs a topic alias, and MQTT 5.0")]
    EmptyTopicWithoutAlias,
    #[error("property {0:#04x} has a value out of its range")]
    PropertyValue(u8),
    #[error("reason code {reason:?} is not one of {packet_type}")]
    ReasonNotAllowed { packet_type: PacketType, reason: ReasonCode },
    #[error("a CONNACK that refuses cannot have session present")]
    SessionPresentInRefusal,
    #[error("in MQTT 3.1.1 a password needs a user name")]
    PasswordWithoutUsername,
    #[error("{0} lists nothing: at least one entry is needed")]
    EmptyList(PacketType),
    #[error("a shared subscription cannot be no-local")]
    NoLocalOnShared,
    #[error("there is authentication data, or an AUTH, without an authentication method")]
    AuthenticationMethodMissing,
}
