//! What breaks processes under test from below, and what breaks whole clusters: the program of the same name is a command
//! line around this. The checkers and the histories they judge serve simulations too.

pub mod check;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod durable;
pub mod failover;
pub mod gather;
pub mod history;
pub mod load;
pub mod mass;
pub mod mqtt;
pub mod net;
pub mod options;
pub mod rolling;
pub mod run;
pub mod sockets;
