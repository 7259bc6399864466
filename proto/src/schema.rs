//! What nodes write to each other and to disk, generated from `schema/*.proto`.

/// The roster's commands, outcomes, events and snapshots.
#[allow(clippy::all, clippy::unwrap_used, clippy::too_many_lines, missing_docs)]
pub mod roster {
    tonic::include_proto!("rollcall.roster.v1");
}

/// The services between nodes.
#[allow(clippy::all, clippy::unwrap_used, clippy::too_many_lines, missing_docs)]
pub mod node {
    tonic::include_proto!("rollcall.node.v1");
}

use crate::reason::DisconnectReason;

macro_rules! same_reasons {
    ($($reason:ident = $logged:ident,)*) => {
        impl From<roster::Reason> for DisconnectReason {
            /// What no version of this program logs counts as an internal error.
            fn from(reason: roster::Reason) -> Self {
                match reason {
                    $(roster::Reason::$logged => DisconnectReason::$reason,)*
                    roster::Reason::Unspecified => DisconnectReason::ServerInternalError,
                }
            }
        }

        impl From<DisconnectReason> for roster::Reason {
            fn from(reason: DisconnectReason) -> Self {
                match reason { $(DisconnectReason::$reason => roster::Reason::$logged,)* }
            }
        }
    };
}

same_reasons! {
    Normal = Normal,
    TakenOver = Takeovered,
    Kicked = Kicked,
    KeepAliveTimeout = KeepaliveTimeout,
    NotAuthenticated = NotAuthenticated,
    AuthenticationExpired = AuthenticationExpired,
    NotAuthorized = NotAuthorized,
    TcpClosed = TcpClosed,
    PingWithoutConnect = PingWithoutConnect,
    TooManyConnections = TooManyConnection,
    GoAway = GoAway,
    ClientIdTooLong = ClientIdTooLong,
    ClientIdInvalid = ClientIdInvalid,
    ClientIdRequired = ClientIdRequired,
    BadWillMessage = BadWillMessage,
    ServerInternalError = ServerInternalError,
}
