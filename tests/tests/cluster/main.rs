//! What a cluster of real processes on this machine promises, one file per promise or part.

mod bad_input;
mod catching_up;
mod endings;
mod http;
mod limit;
mod mqtt;
mod node_death;
mod one_owner;
mod openapi;
mod power_cycle;
mod refused_starts;
mod same_log;
mod stopped_nodes;
mod suback;
mod tour;
