//! From values as found to the effective configuration, each value with its origin.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::{
    error::{Problem, Problems},
    kind::{Kind, Raw, Refused},
    rules,
    source::{Found, Origin, Sources},
    table::{KEYS, Key},
    typed::Config,
};

/// One key's value and where it came from.
#[derive(Clone, Debug)]
pub struct Setting {
    pub key: &'static Key,
    /// `None`: not set.
    pub value: Option<Value>,
    pub origin: Origin,
}

/// A configuration that was found right.
#[derive(Clone, Debug)]
pub struct Effective {
    pub config: Config,
    /// By full name, listeners' names filled in.
    pub settings: BTreeMap<String, Setting>,
}

impl Setting {
    /// Whether the value must not be shown.
    pub fn is_secret(&self) -> bool {
        matches!(self.key.kind, Kind::Secret)
    }
}

const LISTENERS: &str = "listeners";
const DEFAULT_LISTENER: &str = "tcp";

impl Effective {
    /// Reads the sources, weakest first, and judges the whole.
    ///
    /// # Errors
    /// With everything that is wrong, each naming its key, its origin and what is allowed.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let found = sources.read(&mut problems);
        let mut settings = defaults(&listener_names(&found));
        for value in found {
            problems.extend(apply(&mut settings, value).err().map(|problem| *problem));
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Self::judged(settings)
    }

    /// # Errors
    /// With what the values contradict each other in.
    pub(super) fn judged(settings: BTreeMap<String, Setting>) -> Result<Self, Problems> {
        let config = typed(&settings).map_err(|cause| Problems(vec![Problem::Shape(Box::new(cause))]))?;
        rules::check(&config, &settings)?;
        Ok(Self { config, settings })
    }

    /// Whether nothing but defaults is in force.
    pub fn is_default(&self) -> bool {
        self.settings.values().all(|setting| setting.origin == Origin::Default)
    }
}

/// The row for a full name; a listener's key is looked up by its pattern.
fn lookup(name: &str) -> Option<&'static Key> {
    let pattern = match listener_key(name) {
        Some((_, rest)) => format!("{LISTENERS}.NAME.{rest}"),
        None => name.to_owned(),
    };
    KEYS.iter().find(|key| key.name == pattern)
}

/// `listeners.tcp.bind` → (`tcp`, `bind`).
fn listener_key(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(LISTENERS)?.strip_prefix('.')?.split_once('.')
}

fn is_listener_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

fn listener_names(found: &[Found]) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = found
        .iter()
        .filter_map(|value| listener_key(&value.key))
        .map(|(name, _)| name.to_owned())
        .filter(|name| is_listener_name(name))
        .collect();
    if names.is_empty() {
        names.insert(DEFAULT_LISTENER.to_owned());
    }
    names
}

/// Every name that may be given, for these listeners.
fn full_names(listeners: &BTreeSet<String>) -> Vec<(String, &'static Key)> {
    KEYS.iter()
        .flat_map(|key| match listener_key(key.name) {
            Some((_, rest)) => listeners.iter().map(|name| (format!("{LISTENERS}.{name}.{rest}"), key)).collect(),
            None => vec![(key.name.to_owned(), key)],
        })
        .collect()
}

fn defaults(listeners: &BTreeSet<String>) -> BTreeMap<String, Setting> {
    full_names(listeners)
        .into_iter()
        .map(|(name, key)| {
            // A default that its own row refuses comes out as a missing field; a test loads them all.
            let value = key.kind.check(&Raw::Text(key.default.to_owned())).ok().flatten();
            (name, Setting { key, value, origin: Origin::Default })
        })
        .collect()
}

fn apply(settings: &mut BTreeMap<String, Setting>, found: Found) -> Result<(), Box<Problem>> {
    let Found { key: name, raw, origin } = found;
    if let Some((listener, _)) = listener_key(&name)
        && !is_listener_name(listener)
    {
        return Err(Box::new(Problem::ListenerName { name: listener.to_owned(), origin }));
    }
    let Some(key) = lookup(&name) else { return Err(Box::new(unknown(settings, name, origin))) };
    let shown = if matches!(key.kind, Kind::Secret) { "…".to_owned() } else { raw.to_string() };
    let allowed = || key.kind.allowed();
    match key.kind.check(&raw) {
        Ok(value) => {
            settings.insert(name, Setting { key, value, origin });
            Ok(())
        }
        Err(Refused) => {
            let nearest = nearest_word(key, &raw);
            Err(Box::new(Problem::Value { key: name, value: shown, origin, allowed: allowed(), nearest }))
        }
    }
}

fn unknown(settings: &BTreeMap<String, Setting>, name: String, origin: Origin) -> Problem {
    let within = |section: &str| -> Vec<String> {
        let prefix = format!("{section}.");
        settings.keys().filter(|key| key.starts_with(&prefix)).cloned().collect()
    };
    let children = within(&name);
    if !children.is_empty() {
        return Problem::Section { key: name, origin, children };
    }
    let leaf = name.rsplit('.').next().unwrap_or_default();
    let same_leaf = || settings.keys().find(|key| key.rsplit('.').next() == Some(leaf)).cloned();
    let nearest = nearest(&name, settings.keys().map(String::as_str)).or_else(same_leaf);
    let section = name.rsplit_once('.').map_or("", |(section, _)| section);
    let siblings = if nearest.is_some() { Vec::new() } else { within(section) };
    Problem::UnknownKey { key: name, origin, nearest, siblings }
}

fn nearest_word(key: &Key, raw: &Raw) -> Option<String> {
    let (Kind::Choice(words), Raw::Text(text)) = (key.kind, raw) else { return None };
    nearest(text, words.iter().copied())
}

fn nearest<'a>(wrong: &str, right: impl Iterator<Item = &'a str>) -> Option<String> {
    const LIKE_ENOUGH: f64 = 0.7;
    right
        .map(|name| (strsim::normalized_damerau_levenshtein(wrong, name), name))
        .filter(|(likeness, _)| *likeness >= LIKE_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

fn typed(settings: &BTreeMap<String, Setting>) -> Result<Config, toml::de::Error> {
    let mut root = Table::new();
    for (name, setting) in settings {
        insert(&mut root, name, setting.value.as_ref());
    }
    Value::Table(root).try_into()
}

/// Makes the sections on the way even where the value is not set.
fn insert(table: &mut Table, path: &str, value: Option<&Value>) {
    if let Some((section, rest)) = path.split_once('.') {
        let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(inner) = inner {
            insert(inner, rest, value);
        }
    } else if let Some(value) = value {
        table.insert(path.to_owned(), value.clone());
    }
}
