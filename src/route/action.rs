//! What becomes of a request that its route lets through, ready to be done.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Response, StatusCode, Uri};

use bytes::Bytes;

use super::RouteError;
use crate::config::{self, Rewrite};
use crate::path::{self, Spellings};

/// What a route does.
#[derive(Debug)]
pub enum Action {
    /// Sends the request to an upstream.
    Forward(Forward),
    /// Sends the client elsewhere.
    Redirect(Redirect),
    /// Gives this answer.
    Respond(Box<Response<Bytes>>),
}

/// The way to an upstream.
#[derive(Debug)]
pub struct Forward {
    /// Index into the configuration's upstreams.
    pub upstream: usize,
    /// What becomes of the path; `None` leaves it as it is.
    pub rewrite: Option<PathRewrite>,
}

impl Action {
    /// Of a checked route with this `path` that allows the spellings `allow`.
    pub(super) fn new(action: &config::Action, path: &str, allow: Spellings) -> Self {
        match action {
            config::Action::Forward(forward) => Self::Forward(Forward {
                upstream: forward.upstream,
                rewrite: forward.rewrite.as_ref().map(|rewrite| PathRewrite::new(rewrite, path, allow)),
            }),
            config::Action::Redirect(redirect) => Self::Redirect(Redirect {
                target: redirect.target.as_str().into(),
                keeps_path: redirect.keeps_path,
                status: redirect.status,
            }),
            config::Action::Respond(respond) => {
                let mut response = Response::new(respond.body.clone());
                *response.status_mut() = respond.status;
                if let Some(kind) = &respond.content_type {
                    response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
                }
                response.headers_mut().extend(respond.headers.iter().cloned());
                Self::Respond(Box::new(response))
            }
        }
    }

    /// Index of the upstream, if there is one.
    pub fn upstream(&self) -> Option<usize> {
        match self {
            Self::Forward(forward) => Some(forward.upstream),
            Self::Redirect(_) | Self::Respond(_) => None,
        }
    }
}

/// Puts another path in place of the route's own at the front of a request's.
///
/// There is no pattern and no capture in it: what was judged is cut at a boundary of segments and goes on byte for byte,
/// so that there are no two ways to read it.
#[derive(Debug)]
pub struct PathRewrite {
    /// The route's own path without a slash at its end: the root is empty.
    from: Box<str>,
    /// What stands there instead, in the same form.
    to: Box<str>,
    /// For `X-Forwarded-Prefix`, when the route's path is cut off.
    pub stripped: Option<HeaderValue>,
    allow: Spellings,
}

impl PathRewrite {
    fn new(rewrite: &Rewrite, path: &str, allow: Spellings) -> Self {
        let from = path.trim_end_matches('/');
        let (to, stripped) = match rewrite {
            Rewrite::Strip => ("", HeaderValue::from_str(from).ok()),
            Rewrite::To(to) => (to.trim_end_matches('/'), None),
        };
        Self { from: from.into(), to: to.into(), stripped, allow }
    }

    /// Path and query of the request as its upstream gets them.
    ///
    /// # Errors
    /// [`RouteError`] when the new path is not in the one canonical form: it was judged together with what was cut off,
    /// and says something else without it, such as `//host` where `/api//host` was allowed.
    pub fn apply(&self, target: &Uri) -> Result<PathAndQuery, RouteError> {
        let rest = target.path().strip_prefix(&*self.from).ok_or(RouteError::NotFound)?;
        let query = target.query();
        let mut text = String::with_capacity(self.to.len() + 1 + rest.len() + query.map_or(0, |query| query.len() + 1));
        text.push_str(&self.to);
        text.push_str(rest);
        if text.is_empty() {
            text.push('/');
        }
        let judged = path::judge(&text).map_err(RouteError::Path)?;
        // Two slashes in front begin a host, not a path, for whoever reads the target as a reference (RFC 3986 §4.2).
        if !judged.spellings.without(self.allow).is_empty() || text.starts_with("//") {
            return Err(RouteError::AmbiguousPath);
        }
        if let Some(query) = query {
            text.push('?');
            text.push_str(query);
        }
        PathAndQuery::try_from(text).map_err(|_invalid| RouteError::AmbiguousPath)
    }
}

/// Sends the client to another URL, whose host is fixed.
#[derive(Debug)]
pub struct Redirect {
    target: Box<str>,
    keeps_path: bool,
    status: StatusCode,
}

impl Redirect {
    /// The answer to a request for `target`, whose path was judged; `None` when its query has bytes that have no place in
    /// a URL.
    pub fn answer(&self, target: &Uri) -> Option<Response<Bytes>> {
        let location = if self.keeps_path {
            // The path starts with a slash, so that nothing of the request can become a part of the host.
            let target = target.path_and_query().map_or("/", PathAndQuery::as_str);
            let visible = target.bytes().all(|byte| byte.is_ascii_graphic());
            let whole = [&self.target, target].concat();
            HeaderValue::from_str(&whole).ok().filter(|_| visible && target.starts_with('/'))
        } else {
            HeaderValue::from_str(&self.target).ok()
        };
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = self.status;
        *response.headers_mut() = HeaderMap::from_iter([(header::LOCATION, location?)]);
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(rewrite: &Rewrite, path: &str, allow: Spellings, target: &str) -> Result<String, RouteError> {
        let rewrite = PathRewrite::new(rewrite, path, allow);
        rewrite.apply(&target.parse().unwrap()).map(|target| target.to_string())
    }

    #[test]
    fn the_routes_path_is_replaced_and_the_rest_goes_byte_for_byte() {
        let to = Rewrite::To("/v2/api".to_owned());
        for (target, stripped, replaced) in [
            ("/api", "/", "/v2/api"),
            ("/api/", "/", "/v2/api/"),
            ("/api/x", "/x", "/v2/api/x"),
            ("/api/api/x?y=/api//..", "/api/x?y=/api//..", "/v2/api/api/x?y=/api//.."),
            ("/api?q", "/?q", "/v2/api?q"),
            ("/api/caf%C3%A9/a%20b;v=1", "/caf%C3%A9/a%20b;v=1", "/v2/api/caf%C3%A9/a%20b;v=1"),
            ("http://a.example/api/x?q", "/x?q", "/v2/api/x?q"),
        ] {
            assert_eq!(rewritten(&Rewrite::Strip, "/api", Spellings::default(), target).as_deref(), Ok(stripped));
            assert_eq!(rewritten(&to, "/api", Spellings::default(), target).as_deref(), Ok(replaced));
        }
        assert_eq!(rewritten(&to, "/", Spellings::default(), "/x").as_deref(), Ok("/v2/api/x"));
        assert_eq!(rewritten(&Rewrite::To("/".to_owned()), "/a", Spellings::default(), "/a").as_deref(), Ok("/"));
    }

    #[test]
    fn what_was_judged_cannot_become_something_else() {
        let all = Spellings::NAMES.iter().filter_map(|name| Spellings::named(name));
        let all = all.fold(Spellings::default(), Spellings::with);
        for target in ["/api//evil.example/x", "/api//"] {
            let outcome = rewritten(&Rewrite::Strip, "/api", all, target);
            assert_eq!(outcome, Err(RouteError::AmbiguousPath), "{target}");
        }
        // What a route does not allow is refused also behind its prefix.
        assert!(rewritten(&Rewrite::Strip, "/api", Spellings::default(), "/api/a%2fb").is_err());
        assert!(rewritten(&Rewrite::Strip, "/api", Spellings::default(), "/api/../x").is_err());
    }

    #[test]
    fn a_redirect_never_leaves_its_host() {
        let redirect =
            |target: &str, keeps_path| Redirect { target: target.into(), keeps_path, status: StatusCode::FOUND };
        let location = |redirect: &Redirect, target: &str| {
            let answer = redirect.answer(&target.parse().unwrap());
            answer.map(|answer| answer.headers()["location"].to_str().unwrap().to_owned())
        };
        let keeping = redirect("https://new.example", true);
        for (target, expected) in [
            ("/", "https://new.example/"),
            ("/a/b?c=https://evil.example", "https://new.example/a/b?c=https://evil.example"),
            ("//evil.example", "https://new.example//evil.example"),
            ("http://old.example/a", "https://new.example/a"),
        ] {
            assert_eq!(location(&keeping, target).as_deref(), Some(expected));
        }
        assert_eq!(location(&keeping, "/a?caf\u{e9}"), None);
        assert_eq!(
            location(&redirect("https://new.example/x?y", false), "/a?b").as_deref(),
            Some("https://new.example/x?y")
        );
    }

    proptest::proptest! {
        /// What is forwarded is canonical, and is what was asked for but for the prefix.
        #[test]
        fn a_rewritten_path_is_canonical(rest in "(/[a-zA-Z0-9%2fFeE.;~-]{0,6}){0,4}", to in "(/[a-z]{1,3}){0,2}") {
            let rewrite = if to.is_empty() { Rewrite::Strip } else { Rewrite::To(to.clone()) };
            if let Ok(new) = rewritten(&rewrite, "/api", Spellings::default(), &format!("/api{rest}")) {
                let judged = path::judge(&new).unwrap();
                proptest::prop_assert!(judged.spellings.is_empty());
                let whole = [to, rest].concat();
                proptest::prop_assert_eq!(new, if whole.is_empty() { "/".to_owned() } else { whole });
            }
        }
    }
}
