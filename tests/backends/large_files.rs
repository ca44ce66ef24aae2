//! Large files in both directions: nothing of them is lost or changed, and the gateway never holds more than a little.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use aws_lc_rs::digest::{Context, SHA256};

use crate::support::{Front, Toml, alone, curl, gunicorn, hashed, hexadecimal, is_long, nginx, stdout_of};

const MIB: u64 = 1 << 20;

/// How much more memory than before a request may take, in MiB: whatever the size of the file.
const MORE_MEMORY: u64 = 64;

/// A file whose every mebibyte is another, removed at the end.
struct File {
    dir: tempfile::TempDir,
    digest: String,
    length: u64,
}

impl File {
    fn of(mebibytes: u64) -> Self {
        // Beside the build, which is a disk; temporary directories are memory on some machines.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut block = vec![0; usize::try_from(MIB).unwrap()];
        aws_lc_rs::rand::fill(&mut block).unwrap();
        let mut context = Context::new(&SHA256);
        let mut file = std::fs::File::create(dir.path().join("large")).unwrap();
        for number in 0..mebibytes {
            block[..8].copy_from_slice(&number.to_be_bytes());
            context.update(&block);
            file.write_all(&block).unwrap();
        }
        Self { dir, digest: hexadecimal(context), length: mebibytes * MIB }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("large")
    }
}

/// How a transfer goes: the gateway with or without TLS, and the version that curl is to speak.
type Way = (bool, &'static str);

const PLAIN: Way = (false, "--http1.1");
const ENCRYPTED: Way = (true, "--http1.1");
const HTTP2: Way = (true, "--http2");

/// All ways with a file each: a gibibyte, but less where this build is slow, unless the long tests were asked for.
fn ways() -> [(Way, Rc<File>); 3] {
    let gibibyte = Rc::new(File::of(1024));
    let other = if is_long() { gibibyte.clone() } else { Rc::new(File::of(256)) };
    [(PLAIN, gibibyte), (ENCRYPTED, other.clone()), (HTTP2, other)]
}

/// Runs `transfer`, and holds the memory it takes against what the gateway had when idle.
fn measured(front: &Front, what: &str, length: u64, transfer: impl FnOnce()) {
    // The first request makes what is made once.
    stdout_of(curl(front, &["-o", "/dev/null", &front.url("/public/worker")]));
    let idle = front.memory();
    front.forget_peak();
    let start = Instant::now();
    transfer();
    let (took, peak) = (start.elapsed().as_secs_f64(), front.peak_memory());
    let mebibytes = length / MIB;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let speed = mebibytes as f64 / took;
    println!("{what}: {mebibytes} MiB in {took:.1} s ({speed:.0} MiB/s); memory {idle} MiB idle, {peak} MiB at most");
    assert!(peak < idle + MORE_MEMORY, "{what}: {idle} MiB idle, then {peak} MiB");
}

fn front((tls, _): Way, server: std::net::SocketAddr) -> Front {
    Front::with(&Toml { tls, ..Toml::default() }, &[server])
}

#[test]
fn a_gibibyte_passes_whole_in_both_directions_in_little_memory() {
    let _turn = alone();
    let app = gunicorn("--workers 1 --worker-class gthread --threads 4 --keep-alive 75");
    for (way, file) in ways() {
        let server = nginx("");
        std::os::unix::fs::symlink(file.path(), server.path("large")).unwrap();
        let down = front(way, server.address);
        measured(&down, &format!("download, TLS {}, {}", way.0, way.1), file.length, || {
            let got = hashed(curl(&down, &[way.1, &down.url("/large")]));
            assert_eq!(got, (file.digest.clone(), file.length), "{way:?}");
        });
        let up = front(way, app.address);
        measured(&up, &format!("upload, TLS {}, {}", way.0, way.1), file.length, || {
            upload(&up, way, &file, &file.path());
        });
        if way == PLAIN {
            // Without a length: curl does not know how much comes from its standard input.
            measured(&up, "upload, chunked", file.length, || upload(&up, way, &file, Path::new("-")));
        }
    }
}

fn upload(front: &Front, (_, version): Way, file: &File, from: &Path) {
    let url = front.url("/upload");
    let mut curl = curl(front, &[version, "-T", from.to_str().unwrap(), &url]);
    if from == Path::new("-") {
        curl.stdin(std::fs::File::open(file.path()).unwrap());
    }
    assert_eq!(stdout_of(curl), format!("{} {}", file.digest, file.length), "{version} {}", from.display());
}

#[test]
fn a_client_that_reads_slowly_does_not_make_the_gateway_read_ahead() {
    let _turn = alone();
    let (file, server) = (File::of(128), nginx(""));
    std::os::unix::fs::symlink(file.path(), server.path("large")).unwrap();
    for way in [PLAIN, HTTP2] {
        let front = front(way, server.address);
        measured(&front, &format!("read slowly, {}", way.1), 8 * MIB, || {
            let url = front.url("/large");
            let slowly = ["--limit-rate", "4M", "--max-time", "2", "-o", "/dev/null", way.1, &url];
            // 28: it stops when its time is over.
            assert_eq!(curl(&front, &slowly).status().unwrap().code(), Some(28));
        });
    }
}
