//! The name that a TLS client asks for (SNI), for people who read logs. Nothing is decided by it: the port that a connection
//! came to says for which workload it is.

use rustls::server::Acceptor;

/// Most bytes that are looked at. Greetings with keys that withstand quantum computers take less than half of them.
pub(crate) const GREETING: usize = 4 * 1024;

/// Returns the name in a client's greeting (RFC 6066 §3), or nothing if it is not whole, has none, or is not TLS.
pub(crate) fn in_greeting(mut bytes: &[u8]) -> Option<String> {
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut bytes).ok()?;
    let greeted = acceptor.accept().ok()??;
    greeted.client_hello().server_name().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn greeting(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = name.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut greeting = Vec::new();
        client.write_tls(&mut greeting).unwrap();
        greeting
    }

    #[test]
    fn a_greeting_says_the_name() {
        let greeting = greeting("cart.example.com");
        assert!(greeting.len() <= GREETING);
        assert_eq!(in_greeting(&greeting).as_deref(), Some("cart.example.com"));
    }

    #[test]
    fn what_is_no_whole_greeting_with_a_name_says_none() {
        let whole = greeting("cart.example.com");
        // Addresses are never sent as names.
        let nameless = greeting("192.0.2.1");
        for bytes in [
            &whole[..whole.len() - 1],
            &nameless,
            b"",
            b"*1\r\n$4\r\nPING\r\n",
        ] {
            assert_eq!(in_greeting(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
