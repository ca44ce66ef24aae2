//! nginx and Apache with a configuration of their own. Nothing of the services that come with their packages is used.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Server, installed};

/// nginx that serves the files of its directory and whose answer to `/echo?n=NUMBER` is the number and the user. It writes
/// method and number of each request to `access`. `http` are further directives.
pub(crate) fn nginx(http: &'static str) -> Server {
    Server::start(move |address: SocketAddr, dir: &Path| {
        let place = dir.display();
        let text = format!(
            "daemon off; worker_processes 1; pid {place}/pid; error_log stderr; user root;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
               log_format numbers '$request_method n=$arg_n'; access_log {place}/access numbers;\n\
               client_max_body_size 0;\n\
               client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;\n\
               uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;\n\
               {http}\n\
               server {{\n\
                 listen {address} backlog=1024; root {place}; default_type application/octet-stream;\n\
                 location = /echo {{ return 200 \"$arg_n $http_x_user_id\"; }}\n\
               }}\n\
             }}\n"
        );
        std::fs::write(dir.join("nginx.conf"), text).expect("written");
        let mut command = Command::new(installed("nginx"));
        command.arg("-e").arg("stderr").arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf"));
        command
    })
}

/// Apache whose answer to `/echo?n=NUMBER` has a header field `X-Echo` with the number and the user. It writes method and
/// number of each request to `access`.
pub(crate) fn apache(directives: &'static str) -> Server {
    Server::start(move |address: SocketAddr, dir: &Path| {
        let place = dir.display();
        let modules: String = ["mpm_event", "authz_core", "headers", "unixd"].map(load_module).concat();
        let text = format!(
            "{modules}\
             ServerRoot {place}\nServerName localhost\nListen {address}\nPidFile {place}/pid\nErrorLog {place}/errors\n\
             Mutex file:{place} default\nUser nobody\nGroup nogroup\nDocumentRoot {place}/files\n\
             LogFormat \"%m %q\" numbers\nCustomLog {place}/access numbers\n\
             {directives}\n\
             Header always set X-Echo \"expr=%{{QUERY_STRING}} %{{HTTP:X-User-Id}}\"\n"
        );
        std::fs::create_dir_all(dir.join("files")).expect("made");
        std::fs::write(dir.join("files/echo"), "from a file\n").expect("written");
        std::fs::write(dir.join("apache.conf"), text).expect("written");
        // It gives up being root, and is to read the file all the same.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir, mode).expect("ours");
        let mut command = Command::new(installed("apache2"));
        command.arg("-f").arg(dir.join("apache.conf")).arg("-DFOREGROUND");
        command
    })
}

/// A line that loads a module, unless it is built in.
fn load_module(name: &str) -> String {
    let file = format!("/usr/lib/apache2/modules/mod_{name}.so");
    if Path::new(&file).exists() { format!("LoadModule {name}_module {file}\n") } else { String::new() }
}
