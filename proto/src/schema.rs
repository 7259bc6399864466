//! What nodes write to each other and to disk, generated from `schema/*.proto`.

/// Laid out as the packages are, since generated code refers to its neighbours so.
#[allow(clippy::all, clippy::unwrap_used, clippy::too_many_lines, missing_docs)]
mod generated {
    pub mod message {
        pub mod v1 {
            tonic::include_proto!("rollcall.message.v1");
        }
    }
    pub mod roster {
        pub mod v1 {
            tonic::include_proto!("rollcall.roster.v1");
        }
    }
    pub mod shard {
        pub mod v1 {
            tonic::include_proto!("rollcall.shard.v1");
        }
    }
    pub mod node {
        pub mod v1 {
            tonic::include_proto!("rollcall.node.v1");
        }
    }
}

/// Application messages.
pub use generated::message::v1 as message;
/// The services between nodes.
pub use generated::node::v1 as node;
/// The roster's commands, outcomes, events and snapshots.
pub use generated::roster::v1 as roster;
/// The shards' commands, outcomes and snapshots.
pub use generated::shard::v1 as shard;

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
