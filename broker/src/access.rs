//! Who may connect.

use crate::config;

/// What a CONNECT shows of who is behind it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    pub username: Option<&'a str>,
    pub password: Option<&'a [u8]>,
}

/// Decides by the configuration. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access {
    anonymous: bool,
}

/// A refusal and its lifecycle reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("not authenticated: anonymous clients are not allowed here (access.anonymous)")]
    NotAuthenticated,
}

impl Access {
    pub fn new(config: &config::Access) -> Self {
        Self { anonymous: config.anonymous }
    }

    /// Without a way to check credentials, what a client shows proves nothing: it is as anonymous with as without.
    ///
    /// # Errors
    /// When the client may not connect.
    pub fn connect(&self, _credentials: Credentials<'_>) -> Result<(), Refusal> {
        if self.anonymous { Ok(()) } else { Err(Refusal::NotAuthenticated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_anonymous_nobody_connects() {
        let shown = Credentials { username: Some("u"), password: Some(b"p") };
        let open = Access::new(&config::Access { anonymous: true });
        let closed = Access::new(&config::Access { anonymous: false });
        assert_eq!(open.connect(Credentials::default()), Ok(()));
        assert_eq!(open.connect(shown), Ok(()));
        assert_eq!(closed.connect(Credentials::default()), Err(Refusal::NotAuthenticated));
        assert_eq!(closed.connect(shown), Err(Refusal::NotAuthenticated));
    }
}
