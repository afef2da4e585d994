//! What the sidecar counts, protocol by protocol: at each moment of a conversation as many requests are in flight as the
//! client has under way, and none at its end. HTTP/1.1's conversations are in `local_http`.

#![expect(clippy::unwrap_used, reason = "helpers of a suite are tests as well")]

mod calls;
mod connections;
mod http2;
mod sockets;
