//! Brokers under measurement, ours and others', side by side on this machine: each with its data in a folder of its own,
//! listening on 127.0.0.1, its processes known so that their CPU time can be told from the clients'.

mod broker;
mod figure;
mod mosquitto;
mod nats;
mod rabbitmq;

pub use broker::Broker;
pub use figure::Figure;
