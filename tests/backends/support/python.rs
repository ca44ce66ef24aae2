//! Python servers, from the virtual environment that `scripts/test` makes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Server;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backends/python")
}

/// Python with the packages of `requirements.txt`, where the scripts of these tests are found.
fn python() -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("below the target directory");
    let environment = target.join("python");
    let (program, made_from) = (environment.join("bin/python"), environment.join("requirements.txt"));
    // The copy tells which versions are in there; it is written last.
    let wanted = std::fs::read(scripts().with_file_name("requirements.txt")).expect("read");
    let is_made = program.exists() && std::fs::read(made_from).is_ok_and(|made| made == wanted);
    assert!(is_made, "{} is not as tests/backends/requirements.txt says: run scripts/test once", environment.display());
    let mut command = Command::new(program);
    command.env("PYTHONPATH", scripts()).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
    // Proxies are for clients that leave this machine.
    for name in ["http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(name);
    }
    command
}

/// A script of these tests.
pub(crate) fn python_script(name: &str) -> Command {
    let mut command = python();
    command.arg(scripts().join(name)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// gunicorn with `wsgi.py`.
pub(crate) fn gunicorn(arguments: &'static str) -> Server {
    Server::start(move |address: SocketAddr, dir: &Path| {
        let mut command = python();
        command.args(["-m", "gunicorn", "wsgi:application", "--no-control-socket", "--worker-tmp-dir"]).arg(dir);
        command.arg("--bind").arg(address.to_string()).args(arguments.split_whitespace());
        command
    })
}

/// uvicorn with `asgi.py`.
pub(crate) fn asgi() -> Server {
    Server::start(|address: SocketAddr, _: &Path| {
        let mut command = python();
        command.args(["-m", "uvicorn", "asgi:application", "--lifespan", "off", "--no-access-log"]);
        command.args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
        command
    })
}
