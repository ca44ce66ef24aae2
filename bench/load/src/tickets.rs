//! The tickets of one server, given back once each when sessions are to be resumed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Servers send one, two or four after a handshake.
const KEPT: usize = 8;

/// Tickets that were not used yet, and how many have ever come.
#[derive(Debug)]
pub(crate) struct Tickets {
    resume: bool,
    kept: Mutex<VecDeque<Tls13ClientSessionValue>>,
    come: AtomicUsize,
}

impl Tickets {
    /// Without `resume` none is ever given back: each handshake is a full one.
    pub(crate) fn new(resume: bool) -> Self {
        Self { resume, kept: Mutex::new(VecDeque::new()), come: AtomicUsize::new(0) }
    }

    /// How many have come.
    pub(crate) fn come(&self) -> usize {
        self.come.load(Ordering::Relaxed)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    // TLS 1.2 is not offered.
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.come.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if !self.resume {
            return None;
        }
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop_back()
    }
}
