//! MQTT 5.0 reason codes [MQTT 5.0 §2.4] and what they become for 3.x clients.

macro_rules! reason_codes {
    ($($name:ident = $value:literal,)*) => {
        /// 0x00 means Success, Normal disconnection or Granted QoS 0, as the packet has it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ReasonCode { $($name = $value,)* }

        impl ReasonCode {
            pub fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($value => Some(ReasonCode::$name),)* _ => None }
            }
        }
    };
}

reason_codes! {
    Success = 0x00,
    GrantedQoS1 = 0x01,
    GrantedQoS2 = 0x02,
    DisconnectWithWill = 0x04,
    NoMatchingSubscribers = 0x10,
    NoSubscriptionExisted = 0x11,
    ContinueAuthentication = 0x18,
    ReAuthenticate = 0x19,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecificError = 0x83,
    UnsupportedProtocolVersion = 0x84,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    Banned = 0x8A,
    ServerShuttingDown = 0x8B,
    BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91,
    PacketIdentifierNotFound = 0x92,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    MessageRateTooHigh = 0x96,
    QuotaExceeded = 0x97,
    AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99,
    RetainNotSupported = 0x9A,
    QoSNotSupported = 0x9B,
    UseAnotherServer = 0x9C,
    ServerMoved = 0x9D,
    SharedSubscriptionsNotSupported = 0x9E,
    ConnectionRateExceeded = 0x9F,
    MaximumConnectTime = 0xA0,
    SubscriptionIdentifiersNotSupported = 0xA1,
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl ReasonCode {
    pub fn byte(self) -> u8 {
        self as u8
    }

    pub fn is_error(self) -> bool {
        self.byte() >= 0x80
    }

    /// The CONNACK return code of 3.1 and 3.1.1 [MQTT 3.1.1 §3.2.2.3]: 0 to 5; what 3.x has no word for is 3, "server
    /// unavailable".
    pub fn v3_return_code(self) -> u8 {
        match self {
            ReasonCode::Success => 0,
            ReasonCode::UnsupportedProtocolVersion => 1,
            ReasonCode::ClientIdentifierNotValid => 2,
            ReasonCode::BadUserNameOrPassword => 4,
            ReasonCode::NotAuthorized | ReasonCode::Banned | ReasonCode::BadAuthenticationMethod => 5,
            ReasonCode::GrantedQoS1
            | ReasonCode::GrantedQoS2
            | ReasonCode::DisconnectWithWill
            | ReasonCode::NoMatchingSubscribers
            | ReasonCode::NoSubscriptionExisted
            | ReasonCode::ContinueAuthentication
            | ReasonCode::ReAuthenticate
            | ReasonCode::UnspecifiedError
            | ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::ServerShuttingDown
            | ReasonCode::KeepAliveTimeout
            | ReasonCode::SessionTakenOver
            | ReasonCode::TopicFilterInvalid
            | ReasonCode::TopicNameInvalid
            | ReasonCode::PacketIdentifierInUse
            | ReasonCode::PacketIdentifierNotFound
            | ReasonCode::ReceiveMaximumExceeded
            | ReasonCode::TopicAliasInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::MessageRateTooHigh
            | ReasonCode::QuotaExceeded
            | ReasonCode::AdministrativeAction
            | ReasonCode::PayloadFormatInvalid
            | ReasonCode::RetainNotSupported
            | ReasonCode::QoSNotSupported
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved
            | ReasonCode::SharedSubscriptionsNotSupported
            | ReasonCode::ConnectionRateExceeded
            | ReasonCode::MaximumConnectTime
            | ReasonCode::SubscriptionIdentifiersNotSupported
            | ReasonCode::WildcardSubscriptionsNotSupported => 3,
        }
    }
}

macro_rules! disconnect_reasons {
    ($($name:ident = $text:literal,)*) => {
        /// Why a connection ended, or was refused, as lifecycle events name it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DisconnectReason { $($name,)* }

        impl DisconnectReason {
            /// Every reason; metrics may use them as a bounded label.
            pub const ALL: &'static [DisconnectReason] = &[$(DisconnectReason::$name,)*];

            /// The word in events. Its spelling is a contract.
            pub fn as_str(self) -> &'static str {
                match self { $(DisconnectReason::$name => $text,)* }
            }

            /// The reverse of [`DisconnectReason::as_str`].
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(DisconnectReason::$name),)* _ => None }
            }
        }
    };
}

disconnect_reasons! {
    Normal = "normal",
    TakenOver = "takeovered",
    Kicked = "kicked",
    KeepAliveTimeout = "keepalive_timeout",
    NotAuthenticated = "not_authenticated",
    AuthenticationExpired = "authentication_expired",
    NotAuthorized = "not_authorized",
    TcpClosed = "tcp_closed",
    PingWithoutConnect = "ping_without_connect",
    TooManyConnections = "too_many_connection",
    GoAway = "go_away",
    ClientIdTooLong = "client_id_too_long",
    ClientIdInvalid = "client_id_invalid",
    ClientIdRequired = "client_id_required",
    BadWillMessage = "bad_will_message",
    ServerInternalError = "server_internal_error",
}

impl DisconnectReason {
    /// What a 5.0 client that is connected is told in a DISCONNECT when the server ends the connection for this
    /// reason.
    pub fn disconnect_code(self) -> ReasonCode {
        match self {
            DisconnectReason::Normal => ReasonCode::Success,
            DisconnectReason::TakenOver => ReasonCode::SessionTakenOver,
            DisconnectReason::Kicked => ReasonCode::AdministrativeAction,
            DisconnectReason::KeepAliveTimeout => ReasonCode::KeepAliveTimeout,
            DisconnectReason::NotAuthenticated
            | DisconnectReason::AuthenticationExpired
            | DisconnectReason::NotAuthorized => ReasonCode::NotAuthorized,
            DisconnectReason::TooManyConnections => ReasonCode::QuotaExceeded,
            DisconnectReason::GoAway => ReasonCode::ServerShuttingDown,
            // Only a CONNECT can be wrong in these ways.
            DisconnectReason::PingWithoutConnect
            | DisconnectReason::ClientIdTooLong
            | DisconnectReason::ClientIdInvalid
            | DisconnectReason::ClientIdRequired
            | DisconnectReason::BadWillMessage => ReasonCode::ProtocolError,
            DisconnectReason::TcpClosed | DisconnectReason::ServerInternalError => ReasonCode::UnspecifiedError,
        }
    }
}
