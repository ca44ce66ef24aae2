//! Giving back: what the server has forgotten and memory still knows is stored again.
//!
//! A server comes back without its last writes after a crash or a failover, and without any after worse. The gateways
//! that lived through it still refuse what had ended; a gateway that starts later would not, and a row that came back
//! would buy tokens again. Nobody can tell from outside how much is lost, so memory and server are compared.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::draft::Draft;
use super::super::{ListPosition, StoreError, record};
use super::keys::Part;
use super::transaction::{Outcome, Read};
use super::{CALL_CHUNK, Core, end_always};
use crate::causes::chain;
use crate::clock::UnixTime;
use crate::ids::SessionName;
use crate::revocation::Revocation;

/// So long a revocation counts as recent: longer than any failover leaves unreplicated.
const RECENT: Duration = Duration::from_secs(60);
/// How many of those are kept.
const MOST_RECENT: usize = 65_536;
/// Revocations compared in one operation.
const CHUNK: usize = 256;
/// Signals of so long are answered together: a reader of each part gives one.
const GATHER: Duration = Duration::from_millis(100);
/// Before the next try when the last one failed; doubled each time, for a try over millions of entries is not for free.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const MOST_PAUSE: Duration = Duration::from_secs(30);

/// What the server may have lost.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Due {
    /// Nothing.
    #[default]
    Nothing,
    /// What was acknowledged just before it was reached again.
    Recent,
    /// Anything.
    All,
}

/// What is to be given back, and from what.
#[derive(Debug, Default)]
pub(super) struct GiveBack {
    due: Mutex<Due>,
    told: Notify,
    /// Revocations acknowledged lately by this gateway.
    recent: Mutex<VecDeque<(Instant, Revocation)>>,
}

impl GiveBack {
    /// From now on the server is owed this, until it has it.
    pub(super) fn owe(&self, more: Due) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        *due = more.max(*due);
        self.told.notify_one();
    }

    pub(super) fn acknowledged(&self, revoked: &[Revocation]) {
        let now = Instant::now();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.extend(revoked.iter().map(|revocation| (now, revocation.clone())));
        while recent.len() > MOST_RECENT || recent.front().is_some_and(|(at, _)| now.duration_since(*at) > RECENT) {
            recent.pop_front();
        }
    }

    fn take_due(&self) -> Due {
        std::mem::take(&mut *self.due.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn recent(&self) -> HashMap<Part, Vec<Revocation>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut parts = HashMap::new();
        recent.iter().filter(|(at, _)| at.elapsed() <= RECENT).for_each(|(_, it)| add(&mut parts, it.clone()));
        parts
    }
}

fn add(parts: &mut HashMap<Part, Vec<Revocation>>, revocation: Revocation) {
    parts.entry(Part::of_revocation(&revocation)).or_default().push(revocation);
}

/// Gives back what is owed, whenever something is, until it has arrived.
pub(super) async fn run(core: Arc<Core>) {
    let mut pause = RETRY_PAUSE;
    loop {
        core.give_back.told.notified().await;
        tokio::time::sleep(GATHER).await;
        let due = core.give_back.take_due();
        match core.give_back(due).await {
            Ok(()) => pause = RETRY_PAUSE,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot give revocations back to the store, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MOST_PAUSE);
                core.give_back.owe(due);
            }
        }
    }
}

impl Core {
    async fn give_back(self: &Arc<Self>, due: Due) -> Result<(), StoreError> {
        let parts = match due {
            Due::Nothing => return Ok(()),
            Due::Recent => self.give_back.recent(),
            Due::All => {
                let core = self.clone();
                let export = move || {
                    let mut parts = HashMap::new();
                    core.revocations.export(|revocation| add(&mut parts, revocation));
                    parts
                };
                // Of millions of entries that takes a while.
                tokio::task::spawn_blocking(export).await.map_err(|_stopping| StoreError::Closed)?
            }
        };
        let (mut lost, mut failed) = (0_usize, None);
        for (part, revocations) in parts {
            for chunk in revocations.chunks(CHUNK) {
                match self.give_back_chunk(part, chunk).await {
                    Ok(lacking) => lost += lacking,
                    // A damaged record must not keep the others from coming back, and no later try would mend it.
                    Err(error @ StoreError::Corrupt(_)) => {
                        tracing::error!(error = %chain(&error), "some revocations cannot be given back to the store");
                    }
                    Err(error) => failed = Some(error),
                }
                // A store that is away is away for the other chunks, too.
                if matches!(failed, Some(StoreError::Unreachable(_) | StoreError::Timeout)) {
                    break;
                }
            }
        }
        if lost > 0 {
            tracing::warn!(count = lost, "the store had lost revocations, those known here have been given back to it");
        }
        failed.map_or(Ok(()), Err)
    }

    /// Returns how many the server lacked.
    async fn give_back_chunk(&self, part: Part, revocations: &[Revocation]) -> Result<usize, StoreError> {
        let hints = hints(revocations);
        let lacks = |draft: &mut Draft<'_>| {
            // What no token needs was purged rather than lost. As there, both clocks must say so.
            let now = draft.clock().unwrap_or_default().min(UnixTime::now());
            let mut lacking = Vec::new();
            for revocation in revocations {
                if draft.lacks(revocation)? && revocation.expires_at() >= now {
                    lacking.push(revocation.clone());
                }
            }
            Ok(lacking)
        };
        let lacking: Vec<Revocation> = match self.transactions.run(part, hints.clone(), lacks, |_| {}).await? {
            Outcome::Done(lacking) => lacking,
            Outcome::Elsewhere(_) => return Err(StoreError::Corrupt("pointer among revocations")),
        };
        if lacking.is_empty() {
            return Ok(0);
        }
        // The rows first: once the user's end is stored, a later try would take it that they went with it.
        for revocation in &lacking {
            self.end_revived(revocation).await?;
        }
        self.restore(part, &lacking).await?;
        Ok(lacking.len())
    }

    /// Stores them, and ends the rows of their sessions that came back: when the revocation is no longer needed they
    /// would buy tokens again.
    async fn restore(&self, part: Part, lacking: &[Revocation]) -> Result<(), StoreError> {
        let own = |revocation: &Revocation| match revocation {
            Revocation::Session { session: SessionName::Own(id), reason, .. } => Some((*id, *reason)),
            _ => None,
        };
        let mut hints = hints(lacking);
        hints.extend(lacking.iter().filter_map(own).map(|(id, _)| Read::Row(id)));
        let restore = |draft: &mut Draft<'_>| {
            for revocation in lacking {
                if let Some((id, reason)) = own(revocation) {
                    draft.update(id, &end_always(reason))?;
                }
                draft.revoke(revocation.clone())?;
            }
            Ok(())
        };
        match self.transactions.run(part, hints, restore, |revoked| self.insert(revoked)).await? {
            Outcome::Done(()) => Ok(()),
            // One of them was made by another store and its row is in another part.
            Outcome::Elsewhere(_) => {
                for (id, reason) in lacking.iter().filter_map(own) {
                    self.update(id, &end_always(reason)).await?;
                }
                self.revoke(lacking, part).await
            }
        }
    }

    /// Ends the rows that came back of a user whose end the server has forgotten.
    async fn end_revived(&self, revocation: &Revocation) -> Result<(), StoreError> {
        let Revocation::User { user, reason, .. } = revocation else { return Ok(()) };
        let mut after = None;
        loop {
            let rows = self.list(user, after, CALL_CHUNK).await?;
            for row in &rows {
                if self.revocations.check(&row.id.into(), user, row.access_issued_at).is_some() {
                    self.update(row.id, &end_always(*reason)).await?;
                }
            }
            match rows.last() {
                Some(last) if rows.len() == CALL_CHUNK => after = Some(ListPosition::of(last)),
                _ => return Ok(()),
            }
        }
    }
}

/// What an operation on these revocations reads.
pub(super) fn hints(revocations: &[Revocation]) -> Vec<Read> {
    let mut hints: Vec<Read> = Vec::with_capacity(revocations.len());
    for revocation in revocations {
        let hint = Read::Revocation(match revocation {
            Revocation::Session { session, .. } => record::session_end_key(session),
            Revocation::User { user, .. } => record::user_end_key(user),
        });
        // A user's end may be two orders, one behind the other.
        if hints.last() != Some(&hint) {
            hints.push(hint);
        }
    }
    hints
}
