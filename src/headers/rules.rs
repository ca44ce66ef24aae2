//! What a route removes, sets and adds.

use http::header::HeaderMap;

use crate::config::HeaderRules;

impl HeaderRules {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Removes, then sets, then adds.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            // `remove` takes every value of the name.
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn rules_are_applied_in_their_order() {
        let field = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let rules = HeaderRules {
            remove: vec![HeaderName::from_static("x-a"), HeaderName::from_static("x-b")],
            set: vec![field("x-b", "set"), field("x-c", "set")],
            add: vec![field("x-c", "added"), field("x-d", "added")],
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-a", "2"), ("x-b", "1"), ("x-c", "1"), ("x-c", "2"), ("x-d", "1")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        rules.apply(&mut headers);
        let all = |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert!(all("x-a").is_empty());
        assert_eq!((all("x-b"), all("x-c"), all("x-d")), (vec!["set"], vec!["set", "added"], vec!["1", "added"]));
        assert!(!rules.is_empty() && HeaderRules::default().is_empty());
    }
}
