//! Puts a question to the name servers that there are, over UDP, and over TCP where the answer is too long for that.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use resolv_conf::{Config, ScopedIp};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::message::{Answer, Question};

/// A datagram of DNS has no more unless it was asked for (RFC 1035, section 4.2.1).
const DATAGRAM: usize = 512;

/// Asks one server after the other, all of them as often as the configuration says, until one of them answers.
///
/// # Errors
///
/// Says what came of the last attempt.
pub(super) async fn ask(
    config: &Config,
    port: u16,
    question: &Question,
) -> io::Result<Vec<IpAddr>> {
    let limit = Duration::from_secs(config.timeout.into());
    let mut failure = io::ErrorKind::NotFound.into();
    for _ in 0..config.attempts.max(1) {
        for server in config.get_nameservers_or_local() {
            let server = SocketAddr::new(address(&server), port);
            let asked = timeout(limit, ask_one(server, question)).await;
            match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(addresses) => return Ok(addresses),
                Err(error) => failure = io::Error::new(error.kind(), format!("{server}: {error}")),
            }
        }
    }
    Err(failure)
}

fn address(server: &ScopedIp) -> IpAddr {
    match server {
        ScopedIp::V4(address) => (*address).into(),
        ScopedIp::V6(address, _) => (*address).into(),
    }
}

async fn ask_one(server: SocketAddr, question: &Question) -> io::Result<Vec<IpAddr>> {
    let mut answer = by_datagram(server, question).await?;
    if answer == Answer::Truncated {
        answer = by_stream(server, question).await?;
    }
    match answer {
        Answer::Addresses(addresses) => Ok(addresses),
        Answer::Truncated => Err(io::Error::other("the answer is cut off")),
        Answer::Failed(2) => Err(io::Error::other("the server failed (SERVFAIL)")),
        Answer::Failed(code) => Err(io::Error::other(format!(
            "the server refuses (code {code})"
        ))),
    }
}

async fn by_datagram(server: SocketAddr, question: &Question) -> io::Result<Answer> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    // A socket for each question: a port that nobody can foretell, and no answer that belongs to another.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question.message()).await?;
    let mut datagram = [0; DATAGRAM];
    loop {
        let length = socket.recv(&mut datagram).await?;
        if let Some(answer) = question.read(&datagram[..length]) {
            return Ok(answer);
        }
    }
}

async fn by_stream(server: SocketAddr, question: &Question) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let message = question.message();
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes(), message].concat())
        .await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    let answer = question.read(&answer);
    answer.ok_or_else(|| io::Error::other("the answer makes no sense"))
}
