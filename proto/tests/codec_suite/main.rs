//! The codec, topics and the trie from outside.

#[cfg(test)]
mod differential;
#[cfg(test)]
mod generators;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod robustness;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod trie;
