//! A gateway as people have them in front of a Service: nginx, which keeps its connections to it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
};

use anyhow::Context;
use stillwake_e2e::wait;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// A running nginx. Ends when it drops.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    nginx: Child,
    _folder: TempDir,
}

impl Gateway {
    /// Starts one in front of a Service's address. It runs in the network of this thread.
    pub(crate) async fn start(service: SocketAddr) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let root = folder.path().display();
        let configuration = format!(
            "pid {root}/nginx.pid;
            worker_processes 1;
            events {{ worker_connections 1024; }}
            http {{
                access_log off;
                client_body_temp_path {root}/body;
                proxy_temp_path {root}/proxy;
                fastcgi_temp_path {root}/fastcgi;
                uwsgi_temp_path {root}/uwsgi;
                scgi_temp_path {root}/scgi;
                upstream service {{ server {service}; keepalive 16; }}
                server {{
                    listen 127.0.0.1:{port};
                    location / {{
                        proxy_pass http://service;
                        proxy_http_version 1.1;
                        proxy_set_header Connection '';
                        proxy_read_timeout 120s;
                    }}
                }}
            }}"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, configuration)?;
        let nginx = Command::new("nginx")
            // Debian has it where only root looks.
            .env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/bin:/sbin")
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr", "-g", "daemon off; master_process off;"])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start nginx, which tests/setup.sh installs")?;
        let gateway = Self {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            nginx,
            _folder: folder,
        };
        wait::until("nginx to listen", wait::PATIENCE, || {
            TcpStream::connect(gateway.address)
        })
        .await?;
        Ok(gateway)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It is this process's child: no other can have got its number.
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}
