//! A server that tells who it is and what its client dialled, and then gives back what it gets.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::SockRef;

use crate::namespace::Namespace;

/// How long anything may take that takes no time.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Listens for IPv4 and IPv6 until it is dropped.
pub(crate) struct Server {
    listener: TcpListener,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(namespace: &Namespace, name: &'static str, port: u16) -> Self {
        let listener = namespace
            .run(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))
            .unwrap();
        let accepted = listener.try_clone().unwrap();
        let accepting = thread::spawn(move || {
            while let Ok((stream, _)) = accepted.accept() {
                thread::spawn(move || serve(name, &stream));
            }
        });
        Self {
            listener,
            accepting: Some(accepting),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Wakes the thread, which waits for connections.
        let _ = SockRef::from(&self.listener).shutdown(std::net::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn serve(name: &str, stream: &TcpStream) -> io::Result<()> {
    let dialled = dialled(stream)?;
    let mut writer = stream;
    writeln!(writer, "{name} {dialled}")?;
    io::copy(&mut &*stream, &mut &*stream).map(drop)
}

/// Returns the address that the client dialled.
fn dialled(stream: &TcpStream) -> io::Result<SocketAddr> {
    let address = stream.local_addr()?;
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let socket = SockRef::from(stream);
    let original = match address.ip() {
        IpAddr::V4(_) => socket.original_dst_v4(),
        IpAddr::V6(_) => socket.original_dst_v6(),
    };
    // Where nothing redirects there need not be one.
    Ok(original
        .ok()
        .and_then(|original| original.as_socket())
        .unwrap_or(address))
}

/// A connection to a [`Server`].
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
    /// Who answered, and what he was dialled at.
    pub(crate) greeting: String,
}

impl Client {
    pub(crate) fn connect(namespace: &Namespace, address: SocketAddr) -> io::Result<Self> {
        let stream = namespace.run(move || TcpStream::connect_timeout(&address, LIMIT))?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut reader = BufReader::new(stream);
        let greeting = line(&mut reader)?;
        Ok(Self { reader, greeting })
    }

    /// Sends something and returns what comes back.
    pub(crate) fn echo(&mut self, text: &str) -> io::Result<String> {
        writeln!(self.reader.get_mut(), "{text}")?;
        line(&mut self.reader)
    }
}

fn line(reader: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
