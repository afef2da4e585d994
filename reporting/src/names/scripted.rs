//! A name server on loopback that knows what a test tells it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{RData, Record, RecordType, rdata::CNAME},
};
use parking_lot::Mutex;
use resolv_conf::Config;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
};

use super::Machine;

/// Ends with its test. Clones share it.
#[derive(Clone)]
pub(crate) struct NameServer {
    port: u16,
    known: Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>>,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let (datagrams, streams) = sockets().await;
        let server = Self {
            port: datagrams.local_addr().unwrap().port(),
            known: Arc::default(),
            asked: Arc::default(),
        };
        let answering = server.clone();
        tokio::spawn(async move {
            let mut datagram = [0; 512];
            loop {
                let (length, client) = datagrams.recv_from(&mut datagram).await.unwrap();
                let mut answer = answering.answer(&datagram[..length]);
                if answer.to_vec().unwrap().len() > 512 {
                    answer = answer.truncate();
                }
                // One for another question comes first, as if it were forged.
                let mut forged = answer.clone();
                forged.metadata.id ^= 1;
                forged.answers.clear();
                for answer in [forged, answer] {
                    let answer = answer.to_vec().unwrap();
                    datagrams.send_to(&answer, client).await.unwrap();
                }
            }
        });
        let answering = server.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = streams.accept().await.unwrap();
                let mut message = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut message).await.unwrap();
                let answer = answering.answer(&message).to_vec().unwrap();
                let length = u16::try_from(answer.len()).unwrap();
                stream.write_u16(length).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        server
    }

    /// From now on `name`, with its last dot, has these addresses and no others.
    pub(crate) fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        let addresses = addresses.collect();
        self.known.lock().insert(name.to_owned(), addresses);
    }

    /// From now on there is no such name.
    pub(crate) fn forget(&self, name: &str) {
        self.known.lock().remove(name);
    }

    /// Returns for which names addresses of IPv4 were asked so far, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock();
        let of_one_family = asked.iter().filter(|(_, family)| *family == RecordType::A);
        of_one_family.map(|(name, _)| name.clone()).collect()
    }

    /// Returns a machine whose only name server this is, with more lines for its files.
    pub(crate) fn machine(&self, resolv_conf: &str, hosts: &str) -> Machine {
        let text = format!("nameserver 127.0.0.1\n{resolv_conf}\n");
        Machine {
            hosts: hosts.to_owned(),
            servers: Ok(Config::parse(text).unwrap()),
            port: self.port,
        }
    }

    fn answer(&self, message: &[u8]) -> Message {
        let mut message = Message::from_vec(message).unwrap();
        let query = message.queries[0].clone();
        let name = query.name().to_string();
        self.asked.lock().push((name.clone(), query.query_type()));
        message.metadata.message_type = MessageType::Response;
        match self.known.lock().get(&name) {
            None if name.starts_with("broken") => {
                message.metadata.response_code = ResponseCode::ServFail;
            }
            None => message.metadata.response_code = ResponseCode::NXDomain,
            Some(addresses) => {
                // All names are aliases, and records of the alias carry the other name.
                let alias = query.name().prepend_label("alias").unwrap();
                let record = |owner, data| Record::from_rdata(owner, 5, data);
                let points = RData::CNAME(CNAME(alias.clone()));
                message.answers.push(record(query.name().clone(), points));
                let data = addresses.iter().map(|address| RData::from(*address));
                let data = data.filter(|data| data.record_type() == query.query_type());
                let records = data.map(|data| record(alias.clone(), data));
                message.answers.extend(records);
            }
        }
        message
    }
}

/// Binds the same port for datagrams and for streams.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = datagrams.local_addr().unwrap();
        if let Ok(streams) = TcpListener::bind(address).await {
            return (datagrams, streams);
        }
    }
}
