//! The aggregator over real sockets: KEDA's side by gRPC, the reporters' side by frames.

#[cfg(test)]
mod harness;
#[cfg(test)]
mod reporters;
#[cfg(test)]
mod scaler;
