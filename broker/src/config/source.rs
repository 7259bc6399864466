//! Where values come from: a file, the environment, `--set`. Later ones win.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{error::Problem, kind::Raw};

/// Where one value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// The line is counted from 1.
    File {
        path: PathBuf,
        line: usize,
    },
    Env(String),
    Set,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Env(variable) => write!(f, "env {variable}"),
            Origin::Set => f.write_str("--set"),
        }
    }
}

/// What the program was given, before any of it is judged.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// Only those beginning with [`ENV_PREFIX`] count.
    pub env: BTreeMap<String, String>,
    /// `key=value`, the later the stronger.
    pub set: Vec<String>,
}

/// One value as found.
#[derive(Debug)]
pub struct Found {
    pub key: String,
    pub raw: Raw,
    pub origin: Origin,
}

pub const ENV_PREFIX: &str = "ROLLCALL__";

impl Sources {
    /// The file and the `--set`s of a command line, with this process's environment.
    pub fn of_process(file: Option<PathBuf>, set: Vec<String>) -> Self {
        // A variable that is not UTF-8 cannot hold any value of ours, but its name tells that one was meant.
        let env = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .filter(|(name, _)| name.starts_with(ENV_PREFIX))
            .collect();
        Self { file, env, set }
    }

    /// Every value, weakest source first.
    pub fn read(&self, problems: &mut Vec<Problem>) -> Vec<Found> {
        let mut found = Vec::new();
        if let Some(path) = &self.file {
            match std::fs::read_to_string(path) {
                Ok(text) => read_file(path, &text, &mut found, problems),
                Err(cause) => problems.push(Problem::Unreadable { path: path.clone(), cause }),
            }
        }
        for (variable, value) in &self.env {
            if let Some(key) = key_of(variable) {
                found.push(Found { key, raw: Raw::Text(value.clone()), origin: Origin::Env(variable.clone()) });
            }
        }
        for assignment in &self.set {
            match assignment.split_once('=') {
                Some((key, value)) => found.push(Found {
                    key: key.trim().to_owned(),
                    raw: Raw::Text(value.to_owned()),
                    origin: Origin::Set,
                }),
                None => problems.push(Problem::SetWithoutValue(assignment.clone())),
            }
        }
        found
    }
}

/// The key that an environment variable sets.
pub fn key_of(variable: &str) -> Option<String> {
    Some(variable.strip_prefix(ENV_PREFIX)?.to_ascii_lowercase().replace("__", "."))
}

fn read_file(path: &Path, text: &str, found: &mut Vec<Found>, problems: &mut Vec<Problem>) {
    match DeTable::parse(text) {
        Ok(table) => FileWalk { path, text, found }.table("", table.get_ref()),
        Err(cause) => problems.push(Problem::NotToml { path: path.to_owned(), cause: Box::new(cause) }),
    }
}

struct FileWalk<'a> {
    path: &'a Path,
    text: &'a str,
    found: &'a mut Vec<Found>,
}

impl FileWalk<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            if let DeValue::Table(inner) = value.get_ref() {
                self.table(&key, inner);
            } else {
                let line = self.text[..name.span().start].bytes().filter(|b| *b == b'\n').count() + 1;
                let raw = self.raw(value);
                self.found.push(Found { key, raw, origin: Origin::File { path: self.path.to_owned(), line } });
            }
        }
    }

    fn raw(&self, value: &Spanned<DeValue<'_>>) -> Raw {
        match value.get_ref() {
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Boolean(value) => Raw::Bool(*value),
            DeValue::Array(items) => Raw::List(items.iter().map(|item| self.raw(item)).collect()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Raw::Integer(number),
                Err(_) => self.other(value),
            },
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => self.other(value),
        }
    }

    fn other(&self, value: &Spanned<DeValue<'_>>) -> Raw {
        Raw::Other(self.text[value.span()].to_owned())
    }
}
