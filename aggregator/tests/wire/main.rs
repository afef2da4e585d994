//! The aggregator over real sockets: KEDA's side by gRPC, the reporters' side by frames.

#[cfg(test)]
mod bursts;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod identities;
#[cfg(test)]
mod reporters;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod scaler;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tokens;
