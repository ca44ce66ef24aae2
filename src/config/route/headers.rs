//! `route.request_headers` and `route.response_headers`: fields that a route removes, sets and adds.

use http::{HeaderName, HeaderValue};

use crate::config::reader::{Table, Value};
use crate::config::shape::Shape;
use crate::config::{Auth, names};

/// What a route does to a header, in this order: `remove`, `set`, `add`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderRules {
    /// `remove`: all fields of these names go.
    pub remove: Vec<HeaderName>,
    /// `set`: one field of the name in place of all there are.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// `add`: one field more, whatever is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// How a name is read, or what is wrong with it.
type ReadName<'r> = &'r dyn Fn(&str) -> Result<HeaderName, String>;

/// Reads `request_headers`. The names in `auth` are the gateway's to write or to remove.
pub(super) fn request(table: &Table<'_>, shape: &'static Shape, auth: &Auth) -> HeaderRules {
    rules(&table.inner("request_headers", shape), &|text| {
        let name = names::forwarded_header(text)?;
        // The identity is written last, and nobody but the gateway writes one: not even who configures it, or a route
        // could hand out an identity that no token has.
        if name == auth.user_header || name == auth.session_header {
            return Err(String::from("is an identity header, which the gateway alone writes"));
        }
        if auth.strip_headers.contains(&name) {
            return Err(String::from("is one of auth.strip_headers, which never reach an upstream"));
        }
        Ok(name)
    })
}

/// Reads `response_headers`.
pub(super) fn response(table: &Table<'_>, shape: &'static Shape) -> HeaderRules {
    rules(&table.inner("response_headers", shape), &names::answered_header)
}

fn rules(table: &Table<'_>, read: ReadName<'_>) -> HeaderRules {
    let all = |key| table.get(key).map(|value: Value<'_>| fields(&value, read)).unwrap_or_default();
    HeaderRules {
        remove: table
            .get("remove")
            .map(|value| {
                value.each(value.some_items("names of headers"), |item| item.parsed("the name of a header", read))
            })
            .unwrap_or_default(),
        set: all("set"),
        add: all("add"),
    }
}

/// The fields of a table whose keys are names.
pub(super) fn fields(
    table: &Value<'_>,
    read: impl Fn(&str) -> Result<HeaderName, String>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = Vec::<(HeaderName, HeaderValue)>::new();
    for (name, value) in table.members("fields such as { \"X-Tenant\" = \"blue\" }") {
        let name = read(name).map_err(|why| value.report(why)).ok();
        let text = value_of(&value);
        if let (Some(name), Some(text)) = (name, text) {
            if fields.iter().any(|(known, _)| *known == name) {
                value.report("is listed twice");
            }
            fields.push((name, text));
        }
    }
    fields
}

/// The value of a field.
pub(super) fn value_of(value: &Value<'_>) -> Option<HeaderValue> {
    let text = value.text("the value of a header")?;
    // A field's value is trimmed on its way: what stands here is what arrives.
    let sound = !text.starts_with([' ', '\t']) && !text.ends_with([' ', '\t']);
    let read = HeaderValue::from_str(text).ok().filter(|_| sound);
    if read.is_none() {
        value.report("has control characters, letters that are not ASCII, or space at its ends");
    }
    read
}
