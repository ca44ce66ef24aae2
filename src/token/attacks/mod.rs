//! What is tried with tokens: standards item by item, and what broke in others. Each case has a name and is judged as a
//! request is, with a bearer header, the cache and all, [cold and cached](gate::judge).
//!
//! `form` the three parts; `text` the JSON in them; `header` its members; `signature`; `claims`; `issuers` who may sign
//! for whom; `keys` documents of keys; `remembered` the cache; `wycheproof` signatures and `jose` tokens that others
//! collected.

mod claims;
mod form;
mod gate;
mod header;
mod issuers;
mod jose;
mod keys;
mod remembered;
mod signature;
mod text;
mod wycheproof;

use self::gate::judge;

#[test]
fn malformed_tokens_are_refused() {
    judge("form", form::cases());
}

#[test]
fn header_and_claims_that_two_readers_could_read_differently_are_refused() {
    judge("text", text::cases());
}

#[test]
fn headers_that_ask_for_another_rule_are_refused() {
    judge("header", header::cases());
}

#[test]
fn signatures_that_are_not_the_keys_are_refused() {
    judge("signature", signature::cases());
}

#[test]
fn claims_are_taken_literally_and_within_their_bounds() {
    judge("claims", claims::cases());
}

#[test]
fn an_issuer_speaks_for_itself_alone() {
    judge("issuers", issuers::cases());
}

#[test]
fn there_are_at_least_280_cases_and_each_has_a_name_of_its_own() {
    let areas = [form::cases(), text::cases(), header::cases(), signature::cases(), claims::cases(), issuers::cases()];
    let mut names: Vec<String> = areas.into_iter().flatten().map(|case| case.name).collect();
    let count = names.len();
    println!("tokens: {count} cases");
    assert!(count >= 280, "{count}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "two cases have one name");
}
