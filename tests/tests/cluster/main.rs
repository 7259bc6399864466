//! What a cluster of real processes on this machine promises, one file per promise or part.

mod backlog;
mod bad_input;
mod catching_up;
mod disk_trouble;
mod endings;
mod events_kept;
mod http;
mod inboxes;
mod joining;
mod limit;
mod mqtt;
mod node_death;
mod one_owner;
mod openapi;
mod power_cut;
mod power_cycle;
mod refused_starts;
mod retained;
mod rolling_restart;
mod same_log;
mod shared;
mod spilling;
mod stopped_nodes;
mod suback;
mod tour;
mod wills;
