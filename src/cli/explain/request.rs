//! The request that is asked about, as the gateway would receive it over HTTP/1.1.

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};

/// A request and how it comes.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) parts: Parts,
    /// Whether over TLS, as the scheme of the URL says; `None` when it has none.
    pub(super) tls: Option<bool>,
}

/// A request's header from the command line's words.
///
/// # Errors
/// What is wrong with them, for people.
pub(super) fn asked(method: Method, url: &str, headers: &[String], token: Option<&str>) -> Result<Asked, String> {
    let expected = "expected one such as https://shop.example.com/orders";
    let url: Uri = url.parse().map_err(|error| format!("{url:?} is not a URL ({error}), {expected}"))?;
    let mut parts = Request::new(()).into_parts().0;
    parts.method = method;
    for text in headers {
        let (name, value) = field(text)?;
        parts.headers.append(name, value);
    }
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        parts
            .headers
            .append(header::AUTHORIZATION, value.map_err(|_invalid| "the token has bytes that no header can have")?);
    }
    match url.authority() {
        _ if parts.headers.contains_key(header::HOST) => {}
        Some(authority) => {
            let host = HeaderValue::from_str(authority.as_str());
            parts.headers.insert(header::HOST, host.map_err(|_invalid| "the host has bytes that no header can have")?);
        }
        None => return Err(format!("{url} has no host: {expected}, or add --header 'Host: shop.example.com'")),
    }
    let tls = match url.scheme_str() {
        Some("https") => Some(true),
        Some("http") => Some(false),
        _ => None,
    };
    // In origin form, as clients send it (RFC 9112 §3.2.1).
    parts.uri = url.into_parts().path_and_query.unwrap_or(PathAndQuery::from_static("/")).into();
    Ok(Asked { parts, tls })
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("--header {text:?} is not a header field, expected one such as 'X-Tenant: blue'");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_invalid| wrong())?;
    let value = HeaderValue::from_str(value.trim_matches([' ', '\t'])).map_err(|_invalid| wrong())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_and_target(url: &str, headers: &[&str]) -> Result<(String, String), String> {
        let headers: Vec<String> = headers.iter().map(|text| (*text).to_owned()).collect();
        let parts = asked(Method::GET, url, &headers, None)?.parts;
        Ok((parts.headers[header::HOST].to_str().unwrap().to_owned(), parts.uri.to_string()))
    }

    #[test]
    fn the_host_is_in_the_url_or_said() {
        let ok = |host: &str, target: &str| Ok((host.to_owned(), target.to_owned()));
        assert_eq!(host_and_target("https://a.example:8443/x/../y?q", &[]), ok("a.example:8443", "/x/../y?q"));
        assert_eq!(host_and_target("https://a.example", &[]), ok("a.example", "/"));
        assert_eq!(host_and_target("/x", &["Host: b.example"]), ok("b.example", "/x"));
        assert_eq!(host_and_target("https://a.example/x", &["host:b.example"]), ok("b.example", "/x"));
        assert!(host_and_target("/x", &[]).unwrap_err().contains("--header 'Host:"));
        assert!(host_and_target("http://a b/", &[]).is_err());
    }

    #[test]
    fn the_scheme_says_whether_it_comes_over_tls() {
        let headers = [String::from("Host: a.example")];
        for (url, tls) in [("https://a.example/", Some(true)), ("HTTP://a.example/", Some(false)), ("/x", None)] {
            assert_eq!(asked(Method::GET, url, &headers, None).unwrap().tls, tls, "{url}");
        }
    }

    #[test]
    fn a_field_has_a_name_and_a_value() {
        for bad in ["X-Tenant", ": blue", "X Tenant: blue", "X-Tenant: bl\nue"] {
            assert!(host_and_target("/x", &["Host: a", bad]).unwrap_err().contains("is not a header field"), "{bad}");
        }
        let twice = asked(Method::GET, "/x", &["Host: a".into(), "Authorization: Bearer a".into()], Some("b")).unwrap();
        assert_eq!(twice.parts.headers.get_all(header::AUTHORIZATION).iter().count(), 2);
    }
}
