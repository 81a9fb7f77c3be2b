//! `If-Match` and `If-None-Match` (RFC 9110 section 13.1): lists, weak tags and `*`.

use axum::http::{HeaderMap, HeaderName};

/// The entity tags that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntityTags {
    /// `*`: whatever it is.
    Any,
    /// These, without quotes. A weak one names no exact bytes.
    List(Vec<EntityTag>),
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag {
    /// It began with `W/`.
    pub weak: bool,
    /// What stands between the quotes.
    pub tag: String,
}

impl EntityTags {
    /// Those of a header, on however many lines it stands; `None` if it is not there. Tags without quotes are
    /// taken too: some clients take them off.
    pub fn of(headers: &HeaderMap, name: HeaderName) -> Option<EntityTags> {
        let mut list = None;
        for value in headers.get_all(name) {
            let tags = list.get_or_insert_with(Vec::new);
            let mut rest = value.to_str().unwrap_or_default();
            loop {
                rest = rest.trim_start_matches([' ', '\t', ',']);
                if rest.is_empty() {
                    break;
                }
                let unmarked = rest.strip_prefix("W/").or_else(|| rest.strip_prefix("w/"));
                let (weak, bare) = (unmarked.is_some(), unmarked.unwrap_or(rest));
                let (tag, after) = match bare.strip_prefix('"') {
                    Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                    None => bare.split_at(bare.find(',').unwrap_or(bare.len())),
                };
                rest = after;
                if !weak && !bare.starts_with('"') && tag.trim() == "*" {
                    return Some(EntityTags::Any);
                }
                tags.push(EntityTag { weak, tag: tag.trim().to_owned() });
            }
        }
        list.map(EntityTags::List)
    }

    /// Whether the very same octets are meant: strong comparison, for `If-Match` and `If-Range`.
    pub fn name_exactly(&self, tag: &str) -> bool {
        self.any(|one| !one.weak && one.tag == tag)
    }

    /// Whether the same thing is meant: weak comparison, for `If-None-Match`.
    pub fn name(&self, tag: &str) -> bool {
        self.any(|one| one.tag == tag)
    }

    fn any(&self, is: impl Fn(&EntityTag) -> bool) -> bool {
        match self {
            EntityTags::Any => true,
            EntityTags::List(tags) => tags.iter().any(is),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header::IF_MATCH;

    use super::*;

    fn tags(values: &[&str]) -> Option<EntityTags> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_MATCH, value.parse().expect("a header"));
        }
        EntityTags::of(&headers, IF_MATCH)
    }

    #[test]
    fn a_tag_is_found_wherever_it_stands_in_a_list() {
        assert_eq!(tags(&[]), None);
        for values in [
            &["\"a\""] as &[&str],
            &["\"x\", \"a\""],
            &["\"a\",\"x\""],
            &[" \"x\" ,\t\"a\" , "],
            &["\"x\"", "\"a\""],
            &[", ,\"a\""],
            &["\"x, y\", \"a\""],
            &["W/\"a\", \"a\""],
            &["a"],
            &["x, a"],
            &["*"],
            &["\"x\", *"],
        ] {
            let tags = tags(values).expect("is there");
            assert!(tags.name_exactly("a") && tags.name("a"), "{values:?}");
        }
    }

    #[test]
    fn weak_tags_name_the_thing_and_not_its_octets() {
        for value in ["W/\"a\"", "\"x\", W/\"a\"", "w/\"a\""] {
            let tags = tags(&[value]).expect("is there");
            assert!(!tags.name_exactly("a") && tags.name("a"), "{value}");
        }
    }

    #[test]
    fn nothing_else_is_named() {
        for value in ["", "\"\"", "\"b\"", "\"aa\"", "\"a", "\"x, a\"", "\"*\"", "W/\"*\"", "A"] {
            let tags = tags(&[value]).expect("is there");
            assert!(!tags.name("a") || value == "\"a", "{value}");
            assert_ne!(tags, EntityTags::Any, "{value}");
        }
    }
}
