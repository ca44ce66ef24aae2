//! Idleness: requests are noted in memory, written to the store now and then, and sessions without any are ended.

use std::time::Duration;

use tokio::task::JoinSet;

use super::store::{Change, Decide, Updated};
use super::{Session, Sessions, StoreError, Touch, rules};
use crate::clock::UnixTime;
use crate::ids::SessionId;
use crate::revocation::EndReason;

/// How often [`Sessions::sweep`] should run.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// Rows that a sweep reads at once: about a millisecond.
const SWEEP_CHUNK: usize = 512;
/// Requests written to the store in one operation.
const FLUSH_CHUNK: usize = 512;

impl Sessions {
    /// How long a session may be without a request; `None`: any time.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.policy.idle_timeout
    }

    /// A request within this time of the last one that was [`touch`](Self::touch)ed need not be.
    pub fn touch_resolution(&self) -> Duration {
        self.policy.touch_resolution()
    }

    /// How often [`flush_activity`](Self::flush_activity) should run.
    pub fn flush_interval(&self) -> Duration {
        self.policy.flush_interval()
    }

    /// Whether nobody's requests can be missing from the store: while it was away, other gateways could not write theirs.
    pub(super) fn settled(&self) -> bool {
        self.store.freshness().is_none_or(|fresh| fresh.steady_for() >= self.policy.most_unwritten())
    }

    /// Notes a request of an own session that is not revoked. Never waits.
    pub fn touch(&self, id: SessionId, now: UnixTime) -> Touch {
        match self.policy.idle_timeout {
            Some(idle) if !self.activity.touch(&id, now, idle) => Touch::AskStore,
            _ => Touch::Active,
        }
    }

    /// Asks the store about a session that memory does not vouch for: [`touch`](Self::touch) does not know it, or its
    /// end [may have been forgotten](crate::revocation::Revocations::may_have_forgotten). Ends it when it has had its time.
    ///
    /// `Ok(None)`: it is active, and the request is noted. `Ok(Some(reason))`: it has ended, now or before.
    ///
    /// # Errors
    /// The store could not be asked: the request cannot be answered.
    pub async fn confirm_active(&self, id: SessionId, now: UnixTime) -> Result<Option<EndReason>, StoreError> {
        let mut row = self.store.find(id).await?;
        if let Some(row) = &row
            && self.timed_out(row, now) == Some(EndReason::SessionIdle)
            && !self.settled()
        {
            return Err(StoreError::Unsettled);
        }
        if row.as_ref().is_none_or(|row| self.timed_out(row, now).is_some()) {
            // Decided again where nothing comes between: a request on another worker may just have been noted.
            let Updated { before, change, ended } = self.store.update(id, self.end_when_timed_out(now)).await?;
            if let Change::End(reason) = change {
                self.activity.forget(&id);
                self.ended.add(reason, 1);
                return Ok(Some(reason));
            }
            if before.is_none() {
                return Ok(Some(ended.unwrap_or(EndReason::Ended)));
            }
            row = before;
        }
        if self.policy.idle_timeout.is_none() {
            return Ok(None);
        }
        let stored = row.map(|row| row.last_seen).unwrap_or_default();
        if !self.activity.note(id, now, stored) {
            self.store.touch(vec![(id, now)]).await?;
        }
        Ok(None)
    }

    /// Whether sessions end by time alone.
    pub fn end_by_time(&self) -> bool {
        self.policy.idle_timeout.is_some() || self.policy.max_lifetime.is_some()
    }

    /// Ends a session that has had its time, idle or too old, without a request of it: `Ok(None)`. Otherwise the earliest
    /// moment when it may have had it.
    ///
    /// # Errors
    /// The store could not be asked, or cannot tell yet.
    pub async fn end_when_due(&self, id: SessionId, now: UnixTime) -> Result<Option<UnixTime>, StoreError> {
        let Some(row) = self.store.find(id).await? else { return Ok(None) };
        if let Some(due) = self.timed_out(&row, now) {
            if due == EndReason::SessionIdle && !self.settled() {
                return Err(StoreError::Unsettled);
            }
            let Updated { change, .. } = self.store.update(id, self.end_when_timed_out(now)).await?;
            if let Change::End(reason) = change {
                self.activity.forget(&id);
                self.ended.add(reason, 1);
                return Ok(None);
            }
        }
        let seen = rules::last_seen(&row, self.activity.last(&id), &self.policy);
        Ok(Some(rules::due_at(&row, seen, &self.policy)))
    }

    /// While a shared store is away: whether nothing in memory speaks against the session. The request is noted then.
    ///
    /// That a session is idle shows only in the store, when another gateway had its last request. A route that serves
    /// while revocations are stale serves while idleness is unknown, too, or an outage of the store would be one of
    /// everything.
    pub fn assume_active(&self, id: SessionId, now: UnixTime) -> bool {
        // Noted and yet not vouched for: memory itself believes it idle.
        self.store.freshness().is_some()
            && self.activity.last(&id).is_none()
            && self.activity.note(id, now, UnixTime::default())
    }

    fn timed_out(&self, row: &Session, now: UnixTime) -> Option<EndReason> {
        rules::timed_out(row, rules::last_seen(row, self.activity.last(&row.id), &self.policy), now, &self.policy)
    }

    fn end_when_timed_out(&self, now: UnixTime) -> Decide {
        let (policy, activity) = (self.policy.clone(), self.activity.clone());
        Box::new(move |row, _| {
            let reason = row.and_then(|row| {
                rules::timed_out(row, rules::last_seen(row, activity.last(&row.id), &policy), now, &policy)
            });
            reason.map_or(Change::Keep, Change::End)
        })
    }

    /// Writes the requests noted since the last flush to the store, and forgets sessions without any for long. Returns
    /// how many sessions were written.
    ///
    /// # Errors
    /// The store could not be asked: what was not written stays noted for the next flush.
    pub async fn flush_activity(&self, now: UnixTime) -> Result<usize, StoreError> {
        let unwritten = self.activity.unwritten();
        for chunk in unwritten.chunks(FLUSH_CHUNK) {
            self.store.touch(chunk.to_vec()).await?;
            self.activity.written(chunk);
        }
        self.activity.trim(now);
        Ok(unwritten.len())
    }

    /// Ends the sessions that have had their time, idle or too old. Returns how many.
    ///
    /// # Errors
    /// The store could not be asked; what was ended until then stays ended.
    pub async fn sweep(&self, now: UnixTime) -> Result<usize, StoreError> {
        if self.policy.idle_timeout.is_none() && self.policy.max_lifetime.is_none() {
            return Ok(0);
        }
        // One gateway for all, and only when it can know who is idle.
        if !self.settled() || !self.store.leads_sweep(SWEEP_INTERVAL).await? {
            return Ok(0);
        }
        let mut total = 0;
        let mut after = None;
        loop {
            let page = self.store.scan(after, SWEEP_CHUNK).await?;
            // Together, so that they share their fsyncs.
            let mut ending = JoinSet::new();
            for row in page.sessions.iter().filter(|row| self.timed_out(row, now).is_some()) {
                let (store, id, decide) = (self.store.clone(), row.id, self.end_when_timed_out(now));
                ending.spawn(async move { (id, store.update(id, decide).await) });
            }
            for (id, updated) in ending.join_all().await {
                if let Change::End(reason) = updated?.change {
                    self.activity.forget(&id);
                    self.ended.add(reason, 1);
                    total += 1;
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(total);
            }
            // A large store must not keep the control runtime to itself.
            tokio::task::yield_now().await;
        }
    }
}
