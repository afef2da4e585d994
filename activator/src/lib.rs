//! activator
