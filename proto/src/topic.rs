//! Topic names and topic filters [MQTT 5.0 §4.7, §4.8.2].

/// Bytes of the longest topic name or filter, given by its two-byte length on the wire.
pub const MAX_TOPIC_LEN: usize = 65_535;

/// What a shared subscription's filter begins with, as SUBSCRIBE carries it.
pub const SHARE_PREFIX: &str = "$share/";

/// Why a string is no topic name or no topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// [MQTT-4.7.3-1]
    #[error("a topic has at least one character")]
    Empty,
    /// [MQTT-4.7.3-3]
    #[error("a topic has at most {MAX_TOPIC_LEN} bytes")]
    TooLong,
    /// [MQTT-4.7.3-2]
    #[error("a topic cannot contain U+0000")]
    Nul,
    /// [MQTT-3.3.2-2]
    #[error("a topic that is published to cannot contain + or #")]
    WildcardInName,
    /// [MQTT-4.7.1-1]
    #[error("# stands alone in the last level of a filter")]
    MisplacedHash,
    /// [MQTT-4.7.1-2]
    #[error("+ stands alone in its level of a filter")]
    MisplacedPlus,
    /// [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    #[error("a shared subscription is $share/GROUP/FILTER, the group without wildcards and neither part empty")]
    MalformedShare,
}

/// A topic filter as SUBSCRIBE carries it, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Filter<'a> {
    /// The share name of a shared subscription.
    pub group: Option<&'a str>,
    /// What topics are matched against.
    pub filter: &'a str,
}

impl<'a> Filter<'a> {
    /// Whether it may match more than one topic.
    pub fn has_wildcard(&self) -> bool {
        self.filter.contains(['+', '#'])
    }

    /// # Errors
    /// [`TopicError`] if `filter` is not valid; in a SUBACK 0x8F, 0x80 before 5.0.
    pub fn parse(filter: &'a str) -> Result<Self, TopicError> {
        check_length(filter)?;
        let Some(shared) = filter.strip_prefix(SHARE_PREFIX) else {
            validate_levels(filter)?;
            return Ok(Filter { group: None, filter });
        };
        let (group, rest) = shared.split_once('/').ok_or(TopicError::MalformedShare)?;
        if group.is_empty() || group.contains(['+', '#']) || rest.is_empty() {
            return Err(TopicError::MalformedShare);
        }
        if group.contains('\0') {
            return Err(TopicError::Nul);
        }
        validate_levels(rest)?;
        Ok(Filter { group: Some(group), filter: rest })
    }
}

/// Whether `name` can be published to.
///
/// # Errors
/// [`TopicError`] if it is empty or too long or has a wildcard or U+0000.
pub fn validate_name(name: &str) -> Result<(), TopicError> {
    check_length(name)?;
    validate_characters(name)
}

/// The part of [`validate_name`] that a topic left empty for its alias has to satisfy too.
///
/// # Errors
/// [`TopicError::Nul`] or [`TopicError::WildcardInName`].
pub fn validate_characters(name: &str) -> Result<(), TopicError> {
    if !has_nul_or_wildcard(name.as_bytes()) {
        return Ok(());
    }
    if name.contains('\0') { Err(TopicError::Nul) } else { Err(TopicError::WildcardInName) }
}

/// Looks at eight bytes at a time: every PUBLISH passes through here.
#[inline]
fn has_nul_or_wildcard(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.iter().any(|byte| matches!(byte, 0 | b'+' | b'#'));
    };
    let (chunks, _) = bytes.as_chunks::<8>();
    chunks.iter().fold(word_has_nul_or_wildcard(*last), |found, chunk| found | word_has_nul_or_wildcard(*chunk))
}

#[inline]
fn word_has_nul_or_wildcard(chunk: [u8; 8]) -> bool {
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // `+` and `#` differ in this bit alone.
    const DIFFERENCE: u64 = u64::from_ne_bytes([b'+' ^ b'#'; 8]);
    const PLUS: u64 = u64::from_ne_bytes([b'+'; 8]);
    let word = u64::from_ne_bytes(chunk);
    let wildcards = (word | DIFFERENCE) ^ PLUS;
    // Not zero exactly if some byte is zero.
    let zero_byte = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    (zero_byte(word) | zero_byte(wildcards)) != 0
}

/// Whether `filter` is a valid filter, shared or not.
///
/// # Errors
/// Those of [`Filter::parse`].
pub fn validate_filter(filter: &str) -> Result<(), TopicError> {
    Filter::parse(filter).map(|_| ())
}

fn check_length(topic: &str) -> Result<(), TopicError> {
    match topic.len() {
        0 => Err(TopicError::Empty),
        1..=MAX_TOPIC_LEN => Ok(()),
        _ => Err(TopicError::TooLong),
    }
}

fn validate_levels(filter: &str) -> Result<(), TopicError> {
    if filter.contains('\0') {
        return Err(TopicError::Nul);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(TopicError::MisplacedHash);
        }
        if level.contains('+') && level != "+" {
            return Err(TopicError::MisplacedPlus);
        }
    }
    Ok(())
}

/// Whether a message published to `topic` (a valid name) is for `filter` (valid, its share group taken off).
///
/// A wildcard in the first level matches no topic that begins with `$` [MQTT-4.7.2-1].
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic_levels = topic.split('/');
    for level in filter.split('/') {
        if level == "#" {
            // Also of the level before it: `a/#` matches `a` [MQTT 5.0 §4.7.1.2].
            return true;
        }
        match topic_levels.next() {
            Some(topic_level) if level == "+" || level == topic_level => {}
            Some(_) | None => return false,
        }
    }
    topic_levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_matches_as_the_specification_says() {
        let cases = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/#", "sports", false),
            ("#", "a/b/c", true),
            ("#", "/", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("+/#", "a", true),
            ("a/+/#", "a", false),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
            ("a", "A", false),
            ("", "", true),
        ];
        for (filter, topic, expected) in cases {
            assert_eq!(matches(filter, topic), expected, "{filter} on {topic}");
        }
    }

    /// [MQTT-4.7.2-1]
    #[test]
    fn a_leading_wildcard_never_matches_a_dollar_topic() {
        assert!(!matches("#", "$SYS/uptime"));
        assert!(!matches("+/uptime", "$SYS/uptime"));
        assert!(!matches("+", "$SYS"));
        assert!(matches("$SYS/#", "$SYS/uptime"));
        assert!(matches("$SYS/#", "$SYS"));
        assert!(matches("$SYS/+", "$SYS/uptime"));
        assert!(matches("a/#", "a/$SYS"), "only the first level is special");
    }

    #[test]
    fn a_wildcard_shares_its_level_with_nothing() {
        for valid in ["#", "+", "a/#", "+/a", "a/+/b", "/", "//", "+/#", "+/+", "$SYS/#", "$share", "$sharez/a"] {
            assert_eq!(validate_filter(valid), Ok(()), "{valid}");
        }
        for (invalid, error) in [
            ("", TopicError::Empty),
            ("a#", TopicError::MisplacedHash),
            ("#/a", TopicError::MisplacedHash),
            ("a/#/b", TopicError::MisplacedHash),
            ("##", TopicError::MisplacedHash),
            ("#/", TopicError::MisplacedHash),
            ("a+", TopicError::MisplacedPlus),
            ("a/+b/c", TopicError::MisplacedPlus),
            ("++", TopicError::MisplacedPlus),
            ("+#", TopicError::MisplacedHash),
            ("a\0", TopicError::Nul),
        ] {
            assert_eq!(validate_filter(invalid), Err(error), "{invalid}");
        }
    }

    /// [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    #[test]
    fn a_shared_filter_is_taken_apart() {
        assert_eq!(Filter::parse("$share/g/a/+"), Ok(Filter { group: Some("g"), filter: "a/+" }));
        assert_eq!(Filter::parse("$share/g//"), Ok(Filter { group: Some("g"), filter: "/" }));
        assert_eq!(Filter::parse("$SHARE/g/a"), Ok(Filter { group: None, filter: "$SHARE/g/a" }));
        for malformed in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g#/a"] {
            assert_eq!(Filter::parse(malformed), Err(TopicError::MalformedShare), "{malformed}");
        }
        assert_eq!(Filter::parse("$share/g/a#"), Err(TopicError::MisplacedHash));
        assert_eq!(Filter::parse("$share/g\0/a"), Err(TopicError::Nul));
    }

    #[test]
    fn a_forbidden_character_is_found_wherever_it_is() {
        for len in 1..40 {
            for at in 0..len {
                for byte in 0..=0x7F_u8 {
                    let mut name = vec![b'x'; len];
                    name[at] = byte;
                    let name = String::from_utf8(name).unwrap();
                    let expected = match byte {
                        0 => Err(TopicError::Nul),
                        b'+' | b'#' => Err(TopicError::WildcardInName),
                        _ => Ok(()),
                    };
                    assert_eq!(validate_name(&name), expected, "{name:?}");
                }
            }
        }
        assert_eq!(validate_name("żółć ᚠᛇᚻ 日本語 \u{FFFF} \u{10FFFF} £«"), Ok(()));
    }

    #[test]
    fn a_name_has_no_wildcards_no_nul_and_a_length() {
        assert_eq!(validate_name("a/b $ é"), Ok(()));
        assert_eq!(validate_name(&"x".repeat(MAX_TOPIC_LEN)), Ok(()));
        assert_eq!(validate_name(&"x".repeat(MAX_TOPIC_LEN + 1)), Err(TopicError::TooLong));
        assert_eq!(validate_name(""), Err(TopicError::Empty));
        assert_eq!(validate_name("a/+"), Err(TopicError::WildcardInName));
        assert_eq!(validate_name("a#b"), Err(TopicError::WildcardInName));
        assert_eq!(validate_name("a\0+"), Err(TopicError::Nul));
    }
}
