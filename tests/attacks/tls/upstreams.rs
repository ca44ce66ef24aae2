//! Servers whose certificates look good at a glance, behind the gateway.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, NameConstraints, SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;

use super::failures;
use crate::support::{Authority, Gateway, Issued, Toml, Workplace, tls_backend};

/// An authority, those that stand between, and what the server has.
struct Chain {
    authority: String,
    server: ServerConfig,
}

fn of(authority: &Authority, issued: &Issued) -> Chain {
    Chain { authority: authority.pem(), server: issued.server() }
}

fn changed(change: fn(&mut CertificateParams)) -> Chain {
    let authority = Authority::new();
    let issued = authority.issue_with("localhost", change);
    of(&authority, &issued)
}

/// `localhost` by an issuer that the authority has made so.
fn between(change: fn(&mut CertificateParams)) -> Chain {
    let authority = Authority::new();
    let middle = authority.issue_with("middle.example", change);
    let mut params = CertificateParams::new(["middle.example".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::from_pem(&middle.key.serialize_pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let issued = Issued { pem: leaf.pem(), certificate: leaf.der().clone(), key };
    let more: Vec<CertificateDer<'static>> = vec![middle.certificate];
    Chain { authority: authority.pem(), server: issued.server_with(more, &issued.key, None) }
}

fn self_signed(ca: bool) -> Chain {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let certificate = params.self_signed(&key).unwrap();
    let issued = Issued { pem: certificate.pem(), certificate: certificate.der().clone(), key };
    of(&Authority::new(), &issued)
}

fn name(params: &mut CertificateParams, name: &str) {
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
}

fn authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

fn ask(chain: &Chain, host: &str, server_name: Option<&str>) -> (u16, String) {
    let (backend, _) = tls_backend(chain.server.clone());
    let place = Workplace::new();
    std::fs::write(place.path("ca.pem"), &chain.authority).unwrap();
    let server_name = server_name.map(|name| format!("server_name = {name:?}\n")).unwrap_or_default();
    let toml = Toml {
        upstream: format!("connect_timeout = \"2s\"\n[upstream.app.tls]\nca = \"ca.pem\"\n{server_name}"),
        ..Toml::default()
    };
    let gateway = Gateway::before(Arc::new(place), &toml, &[format!("https://{host}:{}", backend.address.port())]);
    let reply = gateway.connect().ask("GET /public HTTP/1.1\r\nHost: a\r\n\r\n");
    if reply.status == 200 { (200, String::new()) } else { reply.refusal() }
}

type Case = (&'static str, (Chain, &'static str, Option<&'static str>));

fn refused() -> Vec<Case> {
    let here = |chain| (chain, "localhost", None);
    vec![
        ("signed by itself", here(self_signed(false))),
        ("signed by itself, as an authority", here(self_signed(true))),
        ("not valid yet", here(changed(|params| params.not_before = rcgen::date_time_ymd(2900, 1, 1)))),
        (
            "for clients only",
            here(changed(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            })),
        ),
        (
            "the name as common name only",
            here(changed(|params| {
                params.subject_alt_names.clear();
                params.distinguished_name.push(DnType::CommonName, "localhost");
            })),
        ),
        ("the name with another behind it", here(changed(|params| name(params, "localhost.evil.example")))),
        ("a NUL behind the name", here(changed(|params| name(params, "localhost\0.evil.example")))),
        ("a star alone", here(changed(|params| name(params, "*")))),
        ("a star for two labels", (changed(|params| name(params, "*.example")), "localhost", Some("a.b.example"))),
        (
            "a star for part of a label",
            (changed(|params| name(params, "a*.b.example")), "localhost", Some("ab.b.example")),
        ),
        ("an address written as a name", (changed(|params| name(params, "127.0.0.1")), "127.0.0.1", None)),
        (
            "something critical that nobody knows",
            here(changed(|params| {
                let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
                unknown.set_criticality(true);
                params.custom_extensions = vec![unknown];
            })),
        ),
        ("an authority's certificate as the server's", here(changed(authority))),
        ("issued by one that is no authority", here(between(|_| {}))),
        (
            "issued by one whose time is past",
            here(between(|params| {
                authority(params);
                params.not_before = rcgen::date_time_ymd(2020, 1, 1);
                params.not_after = rcgen::date_time_ymd(2021, 1, 1);
            })),
        ),
        (
            "issued by one for other names",
            here(between(|params| {
                authority(params);
                params.name_constraints = Some(NameConstraints {
                    permitted_subtrees: vec![GeneralSubtree::DnsName("example".into())],
                    excluded_subtrees: Vec::new(),
                });
            })),
        ),
        (
            "issued by one that may not for this name",
            here(between(|params| {
                authority(params);
                params.name_constraints = Some(NameConstraints {
                    permitted_subtrees: Vec::new(),
                    excluded_subtrees: vec![GeneralSubtree::DnsName("localhost".into())],
                });
            })),
        ),
    ]
}

#[test]
fn a_server_with_a_certificate_that_only_looks_good_is_not_asked() {
    let cases = refused();
    let failed = failures("certificates of servers", &cases, |(chain, host, name)| {
        let answer = ask(chain, host, *name);
        if answer == (502, "upstream_unreachable".to_owned()) { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // What is refused above is refused for what its name says.
    for (what, chain, name) in [
        ("unchanged", changed(|_| {}), None),
        ("for servers", changed(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), None),
        ("a star for one label", changed(|params| name(params, "*.b.example")), Some("a.b.example")),
        ("issued by one between", between(authority), None),
    ] {
        assert_eq!(ask(&chain, "localhost", name).0, 200, "{what}");
    }
}
