//! What a standard demands, and what once broke in others, each by its name: some of the cases once more.

use super::case::Case;
use super::cases;
use super::front::Front;
use super::judge_all;

/// The cases whose names begin so; each beginning must have some.
fn hold(beginnings: &[&str]) {
    let all = cases::all();
    let chosen: Vec<Case> = beginnings
        .iter()
        .flat_map(|beginning| {
            let some: Vec<Case> = all.iter().filter(|case| case.name.starts_with(beginning)).cloned().collect();
            assert!(!some.is_empty(), "no case {beginning}");
            some
        })
        .collect();
    let front = Front::start(false);
    judge_all("by name", &chosen, |case| case.run(&front));
}

macro_rules! demanded {
    ($($(#[$doc:meta])* $name:ident: $($beginning:literal),+;)*) => {
        $($(#[$doc])* #[test] fn $name() { hold(&[$($beginning),+]); })*
    };
}

demanded! {
    /// RFC 9112 §2.2
    a_bare_cr_ends_no_line:
        "line: ends with CR", "field: ends with CR", "chunks: size that ends with CR", "length: bare CR";
    /// RFC 9112 §2.2 lets a recipient take it, and who comes next may not.
    a_bare_lf_ends_no_line:
        "line: ends with LF", "field: ends with LF", "chunks: size that ends with LF",
        "line: the empty line ends with LF";
    /// RFC 9112 §2.2
    one_empty_line_before_a_request_is_passed_over_and_not_two:
        "line: one empty line", "line: two empty lines", "between: one", "between: two";
    /// RFC 9112 §3.2
    a_missing_repeated_or_invalid_host_is_400: "host: ", "field: Host twice";
    /// RFC 9112 §3.2.2
    an_absolute_target_is_taken_and_must_not_contradict_the_host: "target: absolute form";
    /// RFC 9112 §5.1
    white_space_before_a_colon_is_400:
        "field: space before the colon", "field: tab before the colon", "host: a space before it",
        "length: space before the colon";
    /// RFC 9112 §5.2
    a_folded_field_is_400: "field: folded", "length: folded", "coding: folded", "host: folded";
    /// RFC 9112 §6.1
    a_coding_of_http10_is_faulty: "coding: of HTTP/1.0";
    /// RFC 9112 §6.1
    an_unknown_coding_is_501: "coding: gzip below", "coding: unknown below", "coding: identity below";
    /// RFC 9112 §6.3
    a_length_beside_a_coding_is_400_and_the_end:
        "coding: beside a length", "coding: before a length", "desynchronisation: ";
    /// RFC 9112 §6.3
    a_coding_that_does_not_end_with_chunked_is_400_and_the_end: "coding: not last", "coding: gzip", "coding: identity";
    /// RFC 9112 §6.3
    an_invalid_length_is_400_and_the_end:
        "length: plus", "length: minus", "length: list", "length: empty", "length: twice";
    /// RFC 9112 §7.1.2, RFC 9110 §6.5.1
    a_trailer_says_nothing_of_framing: "chunks: trailer of";
    /// RFC 9112 §8
    a_request_without_its_end_is_none: "cut: ";
    /// RFC 9110 §5.5
    a_control_byte_in_a_field_is_400: "field: control byte";
    /// RFC 9110 §7.6.1
    what_connection_names_goes_and_never_the_gateways_own: "hop: Connection";
    /// RFC 9110 §10.1.1
    an_expectation_is_answered_here: "hop: Expect";

    /// CVE-2023-25725 (HAProxy): a field without a name made those behind it vanish.
    a_field_without_a_name_is_400: "field: no name";
    /// CVE-2021-40346 (HAProxy): a length that wraps.
    a_length_that_wraps_is_refused: "length: wraps", "length: 2^64", "chunks: size that wraps";
    /// CVE-2023-40225 (HAProxy): an empty length was passed on.
    an_empty_length_is_400: "length: empty", "length: white space only";
    /// CVE-2023-45539 (HAProxy), CVE-2026-41059 (oauth2-proxy), CVE-2021-39156 (Istio): `#` in a target.
    a_fragment_is_400: "target: fragment", "target: empty fragment";
    /// CVE-2013-4547 (nginx): a space in a target.
    a_space_in_a_target_is_400: "target: space";
    /// CVE-2026-2835 (Pingora): HTTP/1.0 with a coding, and several codings.
    codings_of_http10_and_several_codings_are_refused:
        "coding: of HTTP/1.0", "coding: twice", "coding: after", "coding: then";
    /// CVE-2026-2833 (Pingora), CVE-2025-64763 (Envoy): bytes behind an `Upgrade` that nobody has agreed to yet.
    what_follows_an_upgrade_that_is_declined_is_a_request: "hop: Upgrade: websocket";
    /// CVE-2026-88008 (Traefik): `Upgrade: h2c` was passed on, and a tunnel past the gateway with it.
    an_upgrade_to_http_is_not_passed_on: "hop: Upgrade: h2c", "hop: Upgrade: HTTP/2.0", "hop: Upgrade: TLS";
    /// CVE-2025-4366 (Pingora): the body of a request that was answered early became the next request.
    the_body_of_a_refused_request_is_no_request: "body: refused";
    /// CVE-2024-28869 (Traefik): a length without a body held its connection for ever.
    a_length_without_a_body_holds_nothing: "cut: before the body";
    /// CVE-2024-32638 (APISIX forward-auth): a body that looks like a request.
    a_body_that_looks_like_a_request_is_a_body: "body: a request within";
    /// RUSTSEC-2020-0008 (hyper): the body of a GET.
    the_body_of_a_get_is_a_body: "length: GET", "coding: of GET", "body: a request within a GET";
    /// RUSTSEC-2021-0020 (hyper): several codings.
    codings_in_several_fields_are_refused: "coding: twice", "coding: after", "coding: then";
    /// RUSTSEC-2021-0078 (hyper): `+` in a length.
    a_sign_in_a_length_is_400: "length: plus", "length: minus";
    /// RUSTSEC-2021-0079 (hyper): a chunk size that wraps.
    a_chunk_size_that_wraps_is_400: "chunks: size that wraps", "chunks: size of 2^6";
    /// hyper#4123: a length stayed beside a coding.
    no_length_leaves_beside_a_coding: "coding: beside a length", "hop: Connection: transfer-encoding", "chunks: one";
}
