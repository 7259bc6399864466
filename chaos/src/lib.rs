//! What breaks processes under test from below; what breaks whole clusters is the program of the same name.

pub mod clock;
pub mod disk;
pub mod net;
