//! Power cuts under load. A `kill -9` does not show a missing sync, for what was written survives it; here it does not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::disk::Disk;
use crate::support::{Backend, Client, Process, Toml, Workplace, get, refresh};
use crate::{Random, long};

/// Sessions that are refreshed all the time.
const SESSIONS: usize = 8;

pub(crate) fn toml() -> Toml {
    Toml {
        session: "refresh_grace = \"30m\"\n".into(),
        limits: "refreshes_per_session = \"unlimited\"\nrefreshes_per_address = \"unlimited\"\n".into(),
        tls: false,
        ..Toml::default()
    }
}

pub(crate) fn logout(token: &str) -> String {
    format!("POST /auth/logout HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n")
}

/// The successor that a client got, which is acknowledged by that.
pub(crate) fn successor(client: &mut Client, token: &str) -> Option<String> {
    client.try_send(refresh(token)).ok()?;
    let reply = client.try_reply(false).ok()?;
    (reply.status == 200).then(|| reply.json()["refresh_token"].as_str().unwrap().to_owned())
}

/// A session as its client knows it.
struct Line {
    access: String,
    /// Every refresh token it got, the current one last. The second last may be good once more, for a lost reply.
    tokens: Vec<String>,
}

impl Line {
    fn new(process: &Process, user: &str) -> Self {
        let (access, token) = process.sign_in(user);
        Self { access, tokens: vec![token] }
    }
}

/// An end or a sign-in through the admin listener, if that was acknowledged.
fn try_sign_in(admin: &mut Client) -> Option<Line> {
    let body = "{\"user_id\":\"new\"}";
    admin
        .try_send(format!(
            "POST /v1/sessions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer an-admin-token-of-32-characters!\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .ok()?;
    let reply = admin.try_reply(false).ok().filter(|reply| reply.status == 201)?;
    let json = reply.json();
    let text = |name: &str| json[name].as_str().unwrap().to_owned();
    Some(Line { access: text("access_token"), tokens: vec![text("refresh_token")] })
}

/// What was acknowledged in one round beside the rotations.
#[derive(Default)]
struct Acknowledged {
    signed_in: Vec<Line>,
    ended: Vec<Line>,
}

/// Refreshes all lines, signs in and out beside it, and cuts the power when so many answers have come.
fn load(
    process: &mut Process,
    disk: &Disk,
    lines: &mut [Line],
    answers: usize,
    torn: Option<&mut Random>,
) -> Acknowledged {
    let acknowledged = Mutex::new(Acknowledged::default());
    let count = AtomicUsize::new(0);
    let clients: Vec<_> = lines.iter().map(|_| Client::plain(process.address)).collect();
    let (mut client, mut admin) = (Client::plain(process.address), Client::plain(process.admin));
    std::thread::scope(|scope| {
        for (line, mut client) in lines.iter_mut().zip(clients) {
            let count = &count;
            scope.spawn(move || {
                while let Some(next) = successor(&mut client, line.tokens.last().unwrap()) {
                    line.tokens.push(next);
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let (acknowledged, count) = (&acknowledged, &count);
        scope.spawn(move || {
            while let Some(line) = try_sign_in(&mut admin) {
                if count.fetch_add(1, Ordering::SeqCst) % 3 == 0 {
                    acknowledged.lock().unwrap().signed_in.push(line);
                    continue;
                }
                let sent = client.try_send(logout(&line.access)).is_ok();
                if !sent || client.try_reply(false).map_or(0, |reply| reply.status) != 204 {
                    break;
                }
                acknowledged.lock().unwrap().ended.push(line);
            }
        });
        while count.load(Ordering::SeqCst) < answers {
            assert!(process.child.try_wait().unwrap().is_none(), "ended: {}", process.log());
            std::thread::sleep(Duration::from_micros(500));
        }
        // From here on nothing that is answered could have reached the disk: a success would be a lie.
        disk.cut(torn);
        process.child.kill().unwrap();
    });
    process.child.wait().unwrap();
    acknowledged.into_inner().unwrap()
}

#[test]
fn nothing_acknowledged_is_lost_and_no_spent_token_is_revived_by_a_power_cut() {
    let cuts = if long() { 200 } else { 20 };
    let backend = Backend::start();
    let place = Arc::new(Workplace::new());
    let disk = Disk::new(place.root());
    let toml = toml();
    let mut random = Random(14);
    let mut mounted = disk.mount(&place.path("data"));
    let mut process = Process::start(&place, &toml, &backend);
    let mut lines: Vec<_> = (0..SESSIONS).map(|number| Line::new(&process, &format!("user-{number}"))).collect();
    let (mut kept, mut ended): (Vec<Line>, Vec<Line>) = Default::default();
    let (mut rotations, mut wrong) = (0, Vec::new());
    for cut in 0..cuts {
        lines.iter_mut().for_each(|line| drop(line.tokens.drain(..line.tokens.len() - 1)));
        let answers = 30 + usize::try_from(random.below(90)).unwrap();
        // Every other time what was not synced is gone, else some of it.
        let torn = (cut % 2 == 1).then_some(&mut random);
        let done = load(&mut process, &disk, &mut lines, answers, torn);
        rotations += lines.iter().map(|line| line.tokens.len() - 1).sum::<usize>();
        kept.extend(done.signed_in);
        ended.extend(done.ended);
        drop(mounted);
        disk.power_on();
        mounted = disk.mount(&place.path("data"));
        process = Process::start(&place, &toml, &backend);

        let mut client = Client::plain(process.address);
        for (number, line) in lines.iter_mut().enumerate() {
            match successor(&mut client, line.tokens.last().unwrap()) {
                Some(next) => line.tokens.push(next),
                None => wrong.push(format!("cut {cut}: session {number} lost an acknowledged rotation")),
            }
        }
        for line in &mut kept {
            match successor(&mut client, &line.tokens[0]) {
                Some(next) => line.tokens = vec![next],
                None => wrong.push(format!("cut {cut}: a sign-in that was acknowledged is lost")),
            }
        }
        for line in &ended {
            let refusal = client.ask(get("/", Some(&line.access))).refusal();
            if refusal != (401, "signed_out".to_owned()) {
                wrong.push(format!("cut {cut}: an access token of an ended session gets {refusal:?}"));
            }
            if client.ask(refresh(&line.tokens[0])).status != 400 {
                wrong.push(format!("cut {cut}: a refresh token of an ended session is alive"));
            }
        }
        // One spent token of this round: it buys nothing, and costs its session, which is replaced.
        let victim = usize::try_from(random.below(SESSIONS as u64)).unwrap();
        let tokens = &lines[victim].tokens;
        if tokens.len() > 2 {
            let refusal = client.ask(refresh(&tokens[tokens.len() - 3])).refusal();
            if refusal != (400, "refresh_reused".to_owned()) {
                wrong.push(format!("cut {cut}: a spent refresh token gets {refusal:?}"));
            }
            lines[victim] = Line::new(&process, &format!("user-{victim}"));
        }
        // What ends is asked for again after the next cut, and a few of each are enough.
        kept.truncate(20);
        ended.drain(..ended.len().saturating_sub(20));
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    println!("power cuts: {cuts}, rotations acknowledged between them: {rotations}");
    assert!(rotations > cuts * 20, "only {rotations} rotations: nothing was tested");
    drop(process);
    drop(mounted);
}
