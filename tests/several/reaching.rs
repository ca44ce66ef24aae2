//! Ways to reach Redis: TLS, passwords, sentinels.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::support::{
    Client, Disturbance, Gateways, Load, Sentinels, Server, Tls, Toml, admin, get, in_turn, logout, refresh, shared,
};

/// An authority of our own and a certificate of it for the loopback address, in files.
fn authority(dir: &Path) -> Tls {
    let write = |name: &str, text: String| -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // Not the name that certificates have by default: one signed by its namesake passes for self-signed.
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost", "127.0.0.1"].map(str::to_owned)).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Tls {
        ca: write("ca.pem", ca.pem()),
        certificate: write("redis.pem", certificate.pem()),
        key: write("redis-key.pem", key.serialize_pem()),
    }
}

#[test]
fn tls_and_a_password_guard_the_way_to_redis() {
    const PASSWORD: &str = "a-password-nobody-knows";
    let _turn = in_turn();
    let dir = tempfile::tempdir().unwrap();
    let tls = authority(dir.path());
    let redis = Server::guarded(&tls, PASSWORD);
    let password = dir.path().join("redis-password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let store = |scheme: &str, ca: &Path, password: &Path| {
        let address = redis.address;
        let (ca, password) = (ca.display(), password.display());
        shared(&format!("redis = \"{scheme}://{address}\"\nca = \"{ca}\"\npassword = \"file:{password}\""))
    };

    let gateways = Gateways::start(2, &store("rediss", &tls.ca, &password));
    let tokens = gateways.sign_in(0, "ann");
    let reply = gateways.connect(1).ask(refresh(&tokens.refresh));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(gateways.connect(0).ask(logout(&tokens.access)).status, 204);
    gateways.wait_until_fresh();
    std::thread::sleep(super::ends::HEARD);
    assert_eq!(gateways.connect(1).ask(get("/", Some(&tokens.access))).refusal().1, "signed_out");

    let wrong = dir.path().join("wrong-password");
    std::fs::write(&wrong, "another-password\n").unwrap();
    let text = gateways.fails_to_start(&store("rediss", &tls.ca, &wrong), &[]);
    assert!(text.to_lowercase().contains("password"), "{text}");
    assert!(!text.contains("another-password") && text.contains(&redis.address.to_string()), "{text}");

    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let text = gateways.fails_to_start(&store("rediss", &authority(&other).ca, &password), &[]);
    assert!(text.contains("certificate") && text.contains(&redis.address.to_string()), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
}

fn gateways_under(redis: &Sentinels) -> Gateways {
    let seeds: Vec<_> = redis.sentinels.iter().map(|one| format!("\"redis://{}\"", one.address)).collect();
    let toml = shared(&format!(
        "redis = [{}]\ntopology = \"sentinel\"\nsentinel_primary = \"{}\"\nmax_revocation_lag = \"2s\"",
        seeds.join(", "),
        Sentinels::NAME,
    ));
    Gateways::start(3, &Toml { session: "refresh_grace = \"60s\"\n".into(), ..toml })
}

#[test]
fn a_failover_that_sentinels_order_is_followed() {
    let _turn = in_turn();
    let mut redis = Sentinels::start();
    let gateways = gateways_under(&redis);
    let load = Load::start(&gateways);
    std::thread::sleep(Duration::from_secs(2));
    // Replication to the replica is not waited for: what was acknowledged last may be lost with the primary.
    load.disturb(Disturbance::StoreLost);
    redis.fail_over();
    gateways.wait_until_fresh();
    load.calm();
    std::thread::sleep(Duration::from_secs(2));
    load.finish("the primary under sentinels killed");
}

/// Without `replicas`, what was acknowledged last may be on nothing but a primary that is gone.
#[test]
fn ends_that_a_failover_lost_are_put_back() {
    let _turn = in_turn();
    let mut redis = Sentinels::start();
    let mut gateways = gateways_under(&redis);
    let (alone, one, another, kept) = (
        gateways.sign_in(0, "ann"),
        gateways.sign_in(1, "bob"),
        gateways.sign_in(2, "bob"),
        gateways.sign_in(0, "eve"),
    );
    redis.cut_off_replica();
    assert_eq!(gateways.connect(0).ask(logout(&alone.access)).status, 204);
    let ended = Client::plain(gateways.admin(2)).ask(admin::end_user("bob"));
    assert_eq!((ended.status, &ended.json()["ended"]), (200, &2.into()));
    redis.fail_over();
    gateways.wait_until_fresh();

    // The new primary has their rows: nothing but what the gateways have put back speaks against them.
    gateways.kill(1);
    gateways.start_again(1);
    for (tokens, reason) in [(alone, "signed_out"), (one, "security_action"), (another, "security_action")] {
        for gateway in [1, 0, 2] {
            let told = gateways.connect(gateway).ask(get("/strict", Some(&tokens.access))).refusal();
            assert_eq!(told, (401, reason.to_owned()), "gateway {gateway}");
            let told = gateways.connect(gateway).ask(refresh(&tokens.refresh)).refusal();
            assert_eq!(told, (400, reason.to_owned()), "gateway {gateway}");
        }
    }
    assert_eq!(gateways.connect(1).ask(refresh(&kept.refresh)).status, 200);
    for user in ["ann", "bob"] {
        let listed = Client::plain(gateways.admin(1)).ask(admin::list(user, ""));
        assert_eq!(listed.json()["sessions"].as_array().map(Vec::len), Some(0), "{user}: {}", listed.text());
    }
}
