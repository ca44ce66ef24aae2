//! Moving between the embedded store and Redis: nobody is signed out, and nobody who was is let in again.

use std::sync::Arc;

use crate::support::{
    Backend, Client, Gateways, Keep, Process, Server, Toml, Workplace, admin, command, get, in_turn, logout, refresh,
    shared,
};

fn copy(from: &str, to: &str) -> (i32, String) {
    let ended = command(&["store", "copy", "--from", from, "--to", to], &[]);
    (ended.code, ended.out + &ended.err)
}

#[test]
fn sessions_and_ends_move_to_redis_and_back() {
    let _turn = in_turn();
    let redis = Server::start(Keep::EverySecond);
    let url = format!("redis://{}", redis.address);

    let (place, backend) = (Arc::new(Workplace::new()), Backend::start());
    let embedded = Toml { tls: false, ..Toml::default() };
    let one = Process::start(&place, &embedded, &backend);
    let [kept, gone, banned] = ["ann", "eve", "zoe"].map(|user| one.sign_in(user));
    let (_, first_refresh) = kept.clone();
    let json = Client::plain(one.address).ask(refresh(&first_refresh)).json();
    let current = json["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(Client::plain(one.address).ask(logout(&gone.0)).status, 204);
    let data = place.path("data").display().to_string();
    let (code, text) = copy(&data, &url);
    assert!(code == 1 && text.contains("used by another process"), "{text}");
    assert!(one.stop().success());

    let (code, text) = copy(&data, &url);
    assert!(code == 0 && text.contains("copied 2 sessions and 1 revocations"), "{text}");
    let several = Gateways::start_with_keys(2, &shared(&format!("redis = \"{url}\"")), &place.path("data/keys"));
    for gateway in 0..2 {
        assert_eq!(several.connect(gateway).ask(get("/", Some(&kept.0))).status, 200);
        let refused = several.connect(gateway).ask(get("/", Some(&gone.0))).refusal();
        assert_eq!(refused, (401, "signed_out".to_owned()));
    }
    // The token just spent there buys the same successor here; and the line goes on.
    let again = several.connect(0).ask(refresh(&first_refresh)).json();
    assert_eq!(again["refresh_token"].as_str(), Some(&*current));
    let next = several.connect(1).ask(refresh(&current)).json();
    let next = next["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(Client::plain(several.admin(0)).ask(admin::end_user("zoe")).status, 200);
    let (code, text) = copy(&url, &place.path("back").display().to_string());
    assert!(code == 1 && text.contains("a gateway runs on"), "{text}");
    drop(several);
    // Its beats fade away.
    std::thread::sleep(std::time::Duration::from_millis(1200));

    // A second copy would bring back who was banned since.
    let (code, text) = copy(&data, &url);
    assert!(code == 1 && text.contains("has sessions already"), "{text}");
    let back = place.path("back").display().to_string();
    let (code, text) = copy(&url, &back);
    assert!(code == 0, "{text}");
    std::fs::rename(place.path("data/keys"), place.path("back/keys")).unwrap();
    std::fs::remove_dir_all(place.path("data")).unwrap();
    std::fs::rename(place.path("back"), place.path("data")).unwrap();
    let one = Process::start(&place, &embedded, &backend);
    assert_eq!(Client::plain(one.address).ask(refresh(&next)).status, 200);
    for ended in [&gone, &banned] {
        assert_eq!(Client::plain(one.address).ask(get("/", Some(&ended.0))).status, 401);
        assert_eq!(Client::plain(one.address).ask(refresh(&ended.1)).status, 400);
    }
}
