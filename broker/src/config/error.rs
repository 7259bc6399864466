//! Why a configuration is refused, in words that name the key and the way out.

use std::{fmt, path::PathBuf};

use super::source::Origin;

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("cannot read the configuration file {path}: {cause}", path = .path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("{path} is not TOML: {cause}", path = .path.display())]
    NotToml { path: PathBuf, cause: Box<toml::de::Error> },
    #[error("--set {0} has no `=`: write --set section.key=value")]
    SetWithoutValue(String),
    #[error("unknown key {key} ({origin}){}{}", suggestion(.nearest), listing(.siblings))]
    UnknownKey { key: String, origin: Origin, nearest: Option<String>, siblings: Vec<String> },
    #[error("{key} ({origin}) is a section, not a key: give one of {}", .children.join(", "))]
    Section { key: String, origin: Origin, children: Vec<String> },
    #[error("listener name `{name}` ({origin}): use 1 to 64 of the characters a-z 0-9 _ -")]
    ListenerName { name: String, origin: Origin },
    #[error("{key} = {value} ({origin}): allowed is {allowed}{}", suggestion(.nearest))]
    Value { key: String, value: String, origin: Origin, allowed: String, nearest: Option<String> },
    #[error("{key} = {value} ({origin}): {rule}")]
    Conflict { key: String, value: String, origin: Origin, rule: String },
    #[error("{key} is not set: {rule}")]
    Missing { key: String, rule: String },
    #[error("the key table and its typed form differ: {0}")]
    Shape(Box<toml::de::Error>),
}

/// Everything that is wrong with a configuration, at once.
#[derive(Debug)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}

fn listing(siblings: &[String]) -> String {
    if siblings.is_empty() { String::new() } else { format!(" Allowed here: {}", siblings.join(", ")) }
}
