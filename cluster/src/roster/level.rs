//! The feature level: what the log may hold. It rises when every member's version knows the next one, so that no node ever
//! meets in the log what it cannot apply as the others do.
//!
//! Who changes what `apply` does adds a command or a field, and a level; below that level `apply` answers it as versions do
//! that have never heard of it.

use rollcall_proto::schema::roster::{RaiseLevel, outcome};

use super::{Roster, done, unknown};

/// Of clusters whose log was begun before there were levels: all commands up to `Recovered`.
pub const FIRST: u32 = 1;
/// The highest that this version knows: 2 is [`RaiseLevel`] itself.
pub const LEVEL: u32 = 2;

impl Roster {
    /// What the log may hold.
    pub fn level(&self) -> u32 {
        FIRST + self.raised
    }

    /// One by one. Whoever does not know the new level must not go on; that is up to the shell.
    pub(super) fn raise_level(&mut self, raise: &RaiseLevel) -> outcome::Kind {
        if raise.level != self.level() + 1 {
            return unknown();
        }
        self.raised += 1;
        done()
    }
}
