//! The session machine from outside, one module per operation.

#[cfg(test)]
mod connect;
#[cfg(test)]
mod deliver;
#[cfg(test)]
mod end;
#[cfg(test)]
mod inbox;
#[cfg(test)]
mod invariants;
#[cfg(test)]
mod packet_size;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod request;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod timers;
