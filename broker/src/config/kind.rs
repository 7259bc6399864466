//! What a value of a configuration key may be, decided before it reaches a typed field.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use toml::Value;

use super::{
    grace::KeepAliveGrace,
    units::{format_duration, format_size, parse_duration, parse_size},
};

/// A value as it was found: from a file it has a type, from the environment or `--set` it is text.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    Text(String),
    Integer(i64),
    Bool(bool),
    List(Vec<Raw>),
    /// A type that no key takes (a float, a date), as its source text.
    Other(String),
}

/// The type of a key, with its range.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// 1 to 64 of `a-z A-Z 0-9 . _ -`.
    Name,
    Path,
    /// Text that is never printed; empty means not set.
    Secret,
    /// An IP address and a port to listen on.
    Bind,
    /// `host:port`, the host a name or an IP address; empty means not set.
    OptionalAddress,
    /// A list of `host:port`.
    Addresses,
    Bool,
    Integer {
        min: u64,
        max: u64,
    },
    /// A whole number, or `"unlimited"`.
    Limit {
        min: u64,
    },
    /// In milliseconds.
    Duration {
        min: u64,
        max: u64,
    },
    /// In bytes.
    Size {
        min: u64,
        max: u64,
    },
    Choice(&'static [&'static str]),
    /// A file; empty means not set.
    OptionalPath,
    /// Of a URL.
    UrlPath,
    /// A list of IP addresses and networks.
    Networks,
    Grace,
}

/// The value is none of what the key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refused;

impl Kind {
    /// The value in its one canonical form, or `None` when the key is hereby left unset.
    ///
    /// # Errors
    /// When the value is of the wrong type or out of range.
    pub fn check(self, raw: &Raw) -> Result<Option<Value>, Refused> {
        let text = raw.as_text();
        match self {
            Kind::Name => string_if(text, is_name),
            Kind::Path => string_if(text, |t| !t.is_empty() && !t.contains('\0')),
            Kind::Secret => optional(text, |t| t.bytes().all(|b| b.is_ascii_graphic())),
            Kind::Bind => string_if(text, |t| t.parse::<SocketAddr>().is_ok()),
            Kind::OptionalAddress => optional(text, is_address),
            Kind::Addresses => list(raw, is_address).map(Some),
            Kind::Bool => match (raw, text) {
                (Raw::Bool(value), _) => Ok(Some(Value::Boolean(*value))),
                (_, Some("true")) => Ok(Some(Value::Boolean(true))),
                (_, Some("false")) => Ok(Some(Value::Boolean(false))),
                _ => Err(Refused),
            },
            Kind::Integer { min, max } => integer(raw, min, max).map(Some),
            Kind::Limit { .. } if text == Some("unlimited") => Ok(None),
            Kind::Limit { min } => integer(raw, min, i64::MAX.unsigned_abs()).map(Some),
            Kind::Duration { min, max } => string_if(text, |t| {
                parse_duration(t).is_some_and(|d| (u128::from(min)..=u128::from(max)).contains(&d.as_millis()))
            }),
            Kind::Size { min, max } => string_if(text, |t| parse_size(t).is_some_and(|s| (min..=max).contains(&s))),
            Kind::Choice(words) => string_if(text, |t| words.contains(&t)),
            Kind::OptionalPath => optional(text, |t| !t.contains('\0')),
            Kind::UrlPath => string_if(text, |t| t.starts_with('/') && t.bytes().all(is_url_path)),
            Kind::Networks => list(raw, is_network).map(Some),
            Kind::Grace => string_if(text, |t| t.parse::<KeepAliveGrace>().is_ok()),
        }
    }

    /// What the key takes, for error messages and the reference.
    pub fn allowed(self) -> String {
        match self {
            Kind::Name => "1 to 64 of the characters a-z A-Z 0-9 . _ -".into(),
            Kind::Path => "a path".into(),
            Kind::Secret => "printable ASCII without spaces; empty: not set".into(),
            Kind::Bind => "an IP address and a port, as 127.0.0.1:1883 or [::]:1883".into(),
            Kind::OptionalAddress => "host:port; empty: not set".into(),
            Kind::Addresses => "a list of host:port (text: separated by commas)".into(),
            Kind::Bool => "true or false".into(),
            Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Limit { min } => format!("a whole number from {min}, or \"unlimited\""),
            Kind::Duration { min, max } => format!(
                "a duration from {} to {} (units: ms, s, m, h, d)",
                format_duration(Duration::from_millis(min)),
                format_duration(Duration::from_millis(max))
            ),
            Kind::Size { min, max } => {
                format!("a size from {} to {} (units: B, KiB, MiB, GiB)", format_size(min), format_size(max))
            }
            Kind::Choice(words) => words.join(" or "),
            Kind::OptionalPath => "a path; empty: not set".into(),
            Kind::UrlPath => "the path of a URL, as /mqtt".into(),
            Kind::Networks => "a list of IP addresses and networks, as 10.0.0.0/8 (text: separated by commas)".into(),
            Kind::Grace => "a factor from 1x to 10x as \"1.5x\", or an addition as \"+5s\"".into(),
        }
    }

    /// One word for the reference table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Name | Kind::Path | Kind::OptionalPath | Kind::UrlPath => "text",
            Kind::Networks => "networks",
            Kind::Secret => "secret",
            Kind::Bind | Kind::OptionalAddress => "address",
            Kind::Addresses => "addresses",
            Kind::Bool => "boolean",
            Kind::Integer { .. } | Kind::Limit { .. } => "number",
            Kind::Duration { .. } => "duration",
            Kind::Size { .. } => "size",
            Kind::Choice(_) => "word",
            Kind::Grace => "grace",
        }
    }

    /// How "not set" is written for this key; `None` for a key that always has a value.
    pub fn unset(self) -> Option<&'static str> {
        match self {
            Kind::Secret | Kind::OptionalAddress | Kind::OptionalPath => Some(""),
            Kind::Limit { .. } => Some("unlimited"),
            Kind::Name
            | Kind::Path
            | Kind::Bind
            | Kind::Addresses
            | Kind::Bool
            | Kind::Integer { .. }
            | Kind::Duration { .. }
            | Kind::Size { .. }
            | Kind::Choice(_)
            | Kind::UrlPath
            | Kind::Networks
            | Kind::Grace => None,
        }
    }
}

impl Raw {
    fn as_text(&self) -> Option<&str> {
        match self {
            Raw::Text(text) => Some(text),
            Raw::Integer(_) | Raw::Bool(_) | Raw::List(_) | Raw::Other(_) => None,
        }
    }
}

impl std::fmt::Display for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Raw::Text(text) => write!(f, "\"{text}\""),
            Raw::Integer(number) => write!(f, "{number}"),
            Raw::Bool(value) => write!(f, "{value}"),
            Raw::List(items) => {
                let items: Vec<_> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Raw::Other(source) => f.write_str(source),
        }
    }
}

fn string_if(text: Option<&str>, allowed: impl Fn(&str) -> bool) -> Result<Option<Value>, Refused> {
    text.filter(|t| allowed(t)).map(|t| Some(Value::String(t.to_owned()))).ok_or(Refused)
}

fn optional(text: Option<&str>, allowed: impl Fn(&str) -> bool) -> Result<Option<Value>, Refused> {
    if text == Some("") { Ok(None) } else { string_if(text, allowed) }
}

fn integer(raw: &Raw, min: u64, max: u64) -> Result<Value, Refused> {
    let number = match raw {
        Raw::Integer(number) => *number,
        Raw::Text(text) => text.parse().map_err(|_| Refused)?,
        Raw::Bool(_) | Raw::List(_) | Raw::Other(_) => return Err(Refused),
    };
    let in_range = u64::try_from(number).is_ok_and(|n| (min..=max).contains(&n));
    if in_range { Ok(Value::Integer(number)) } else { Err(Refused) }
}

fn list(raw: &Raw, is_allowed: impl Fn(&str) -> bool) -> Result<Value, Refused> {
    let items: Vec<&str> = match raw {
        Raw::Text(text) if text.starts_with('[') && text.ends_with(']') => {
            // Written as in the file. Quotes are no part of any item, so there is nothing more to parse.
            let inner = text.trim_start_matches('[').trim_end_matches(']');
            inner.split(',').map(|item| item.trim().trim_matches('"')).filter(|item| !item.is_empty()).collect()
        }
        Raw::Text(text) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect(),
        Raw::List(items) => items.iter().map(|i| i.as_text().ok_or(Refused)).collect::<Result<_, _>>()?,
        Raw::Integer(_) | Raw::Bool(_) | Raw::Other(_) => return Err(Refused),
    };
    if !items.iter().all(|item| is_allowed(item)) {
        return Err(Refused);
    }
    Ok(Value::Array(items.into_iter().map(|item| Value::String(item.to_owned())).collect()))
}

pub(super) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_network(text: &str) -> bool {
    text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok()
}

fn is_url_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte)
}

fn is_address(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_is_name =
        (1..=253).contains(&host.len()) && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    host_is_name && port.parse::<u16>().is_ok_and(|p| p > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Raw {
        Raw::Text(value.into())
    }

    #[test]
    fn addresses_come_as_a_list_or_as_text_with_commas_or_as_a_list_in_text() {
        let from_text = Kind::Addresses.check(&text("a.example:7400, 127.0.0.1:7401,[::1]:7402"));
        let from_list =
            Kind::Addresses.check(&Raw::List(vec![text("a.example:7400"), text("127.0.0.1:7401"), text("[::1]:7402")]));
        assert_eq!(from_text, from_list);
        assert!(from_text.is_ok());
        let in_text = Kind::Addresses.check(&text(r#"["a.example:7400", "127.0.0.1:7401","[::1]:7402"]"#));
        assert_eq!(from_text, in_text);
        assert_eq!(Kind::Addresses.check(&text("")), Ok(Some(Value::Array(vec![]))));
        for wrong in ["a", "a:", ":7400", "a:0", "a:99999", "a b:1"] {
            assert_eq!(Kind::Addresses.check(&text(wrong)), Err(Refused), "{wrong}");
        }
    }

    #[test]
    fn networks_are_addresses_alone_or_with_a_length() {
        assert!(Kind::Networks.check(&text("10.0.0.0/8, 192.0.2.1,2001:db8::/32")).is_ok());
        assert!(Kind::Networks.check(&text("")).is_ok());
        for wrong in ["10.0.0.0/33", "example.org", "10.0.0.0/8;"] {
            assert_eq!(Kind::Networks.check(&text(wrong)), Err(Refused), "{wrong}");
        }
    }

    #[test]
    fn ranges_include_both_ends() {
        let kind = Kind::Integer { min: 1, max: 10 };
        for (value, ok) in [(0, false), (1, true), (10, true), (11, false), (-1, false)] {
            assert_eq!(kind.check(&Raw::Integer(value)).is_ok(), ok, "{value}");
            assert_eq!(kind.check(&text(&value.to_string())).is_ok(), ok, "{value}");
        }
        let kind = Kind::Duration { min: 100, max: 2_000 };
        for (value, ok) in [("99ms", false), ("100ms", true), ("2s", true), ("2001ms", false), ("2", false)] {
            assert_eq!(kind.check(&text(value)).is_ok(), ok, "{value}");
        }
    }

    #[test]
    fn unlimited_leaves_a_limit_unset() {
        assert_eq!(Kind::Limit { min: 0 }.check(&text("unlimited")), Ok(None));
        assert_eq!(Kind::Limit { min: 0 }.check(&Raw::Integer(0)), Ok(Some(Value::Integer(0))));
        assert_eq!(Kind::Limit { min: 0 }.check(&text("none")), Err(Refused));
    }
}
