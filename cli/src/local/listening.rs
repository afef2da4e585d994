//! Where the processes of a group listen, for the hint that a command listens elsewhere than it was told.
//!
//! Read from `/proc` and best effort: what cannot be read is left out.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The state `TCP_LISTEN` of `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Returns the TCP addresses that the processes of `group` listen on.
pub fn addresses(group: u32) -> BTreeSet<SocketAddr> {
    let sockets: HashSet<String> = processes(group).flat_map(|id| sockets(&id)).collect();
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let tables: Vec<_> = tables.into_iter().flat_map(fs::read_to_string).collect();
    let lines = tables.iter().flat_map(|table| table.lines());
    lines
        .filter_map(listener)
        .filter(|(_, inode)| sockets.contains(&format!("socket:[{inode}]")))
        .map(|(address, _)| address)
        .collect()
}

fn processes(group: u32) -> impl Iterator<Item = String> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = all.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(move |id| {
        let line = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // `pid (name) state parent group …`, where the name may hold anything.
        let after_name = line.rsplit(") ").next().unwrap_or_default();
        after_name.split(' ').nth(2) == Some(&group.to_string())
    })
}

/// The process's open sockets, as `socket:[inode]`.
fn sockets(id: &str) -> Vec<String> {
    let open = fs::read_dir(format!("/proc/{id}/fd"));
    let open = open.into_iter().flatten().flatten();
    open.filter_map(|entry| {
        fs::read_link(entry.path())
            .ok()?
            .into_os_string()
            .into_string()
            .ok()
    })
    .filter(|target| target.starts_with("socket:"))
    .collect()
}

/// Address and inode of a listening socket's line.
fn listener(line: &str) -> Option<(SocketAddr, &str)> {
    let mut columns = line.split_whitespace().skip(1);
    let local = columns.next()?;
    let state = columns.nth(1)?;
    let inode = columns.nth(5)?;
    (state == LISTEN).then_some((address(local)?, inode))
}

/// Reads `0100007F:1F90`: the port is a number, the IP address 32-bit words in the machine's byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok();
    let ip: IpAddr = if ip.len() == 8 {
        Ipv4Addr::from(word(0)?.to_ne_bytes()).into()
    } else {
        let mut octets = [0; 16];
        for (index, octets) in octets.chunks_exact_mut(4).enumerate() {
            octets.copy_from_slice(&word(index * 8)?.to_ne_bytes());
        }
        Ipv6Addr::from(octets).into()
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_our_own_group_are_found_and_others_are_not() {
        let four = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let six = std::net::TcpListener::bind("[::1]:0").ok();
        let group = rustix::process::getpgrp().as_raw_nonzero().get();
        let found = addresses(group.unsigned_abs());
        assert!(found.contains(&four.local_addr().unwrap()), "{found:?}");
        if let Some(six) = six {
            assert!(found.contains(&six.local_addr().unwrap()), "{found:?}");
        }
        assert!(addresses(u32::MAX).is_empty());
    }
}
