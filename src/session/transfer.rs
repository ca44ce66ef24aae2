//! Moving: all sessions and revocations of one store into another.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::Session;
use super::store::{Change, SessionStore, StoreError};
use crate::clock::UnixTime;

/// Rows that are read at once, and operations of the target under way at once.
const CHUNK: usize = 512;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Copied {
    /// Sessions that the target did not have.
    pub sessions: usize,
    /// Sessions that it had, from an earlier copy; brought up to date where the source was further.
    pub known: usize,
    /// Revocations, whether it had them or not.
    pub revocations: usize,
}

/// Whether the store has no session.
///
/// # Errors
/// It could not be asked.
pub async fn is_empty(store: &dyn SessionStore) -> Result<bool, StoreError> {
    let mut after = None;
    loop {
        let page = store.scan(after, 1).await?;
        if !page.sessions.is_empty() {
            return Ok(false);
        }
        after = page.next;
        if after.is_none() {
            return Ok(true);
        }
    }
}

/// Copies everything; may be repeated after a copy that broke off, as long as nobody has used the target: a session that
/// has ended there since would be there again. Nobody may change either store meanwhile.
///
/// Revocations first: a session is never in the target without the ends that its user's tokens have met.
///
/// # Errors
/// Of either store; what was copied until then is in the target.
pub async fn copy(from: &dyn SessionStore, to: &Arc<dyn SessionStore>) -> Result<Copied, StoreError> {
    let mut copied = Copied::default();
    let mut revocations = Vec::with_capacity(from.revocations().len());
    from.revocations().export(|revocation| revocations.push(revocation));
    for chunk in revocations.chunks(CHUNK) {
        let mut writing = JoinSet::new();
        for revocation in chunk {
            let (to, revocation) = (to.clone(), revocation.clone());
            writing.spawn(async move { to.revoke(revocation).await });
        }
        writing.join_all().await.into_iter().collect::<Result<(), _>>()?;
        copied.revocations += chunk.len();
    }
    let mut after = None;
    loop {
        let page = from.scan(after, CHUNK).await?;
        let mut writing = JoinSet::new();
        for session in page.sessions {
            let to = to.clone();
            writing.spawn(async move { put(&*to, session).await });
        }
        for new in writing.join_all().await {
            if new? {
                copied.sessions += 1;
            } else {
                copied.known += 1;
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(copied);
        }
    }
}

/// `true`: the target did not have it.
async fn put(to: &dyn SessionStore, session: Session) -> Result<bool, StoreError> {
    let id = session.id;
    let Some(there) = to.find(id).await? else {
        return to.create(session, None).await.map(|_| true);
    };
    if (&there.user, there.created_at) != (&session.user, session.created_at) {
        return Err(StoreError::Corrupt("another session with the same id"));
    }
    // The counter of a session never goes back, or its last refresh token would buy a second successor.
    let further = move |row: Option<&Session>, _: Option<UnixTime>| match row {
        Some(row) if (session.counter, session.access_expires_at) > (row.counter, row.access_expires_at) => {
            Change::Put(Session { last_seen: session.last_seen.max(row.last_seen), ..session.clone() })
        }
        _ => Change::Keep,
    };
    to.update(id, Box::new(further)).await.map(|_| false)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::ids::SessionName;
    use crate::revocation::{EndReason, Revocation, Revocations};
    use crate::session::EmbeddedStore;
    use crate::session::store::conformance::{at, id, session};

    fn store(dir: &TempDir) -> Arc<dyn SessionStore> {
        Arc::new(EmbeddedStore::open(dir.path(), Arc::new(Revocations::new())).unwrap())
    }

    #[tokio::test]
    async fn everything_is_copied_and_a_second_copy_never_sets_a_counter_back() {
        let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let [from, to] = [store(&dirs[0]), store(&dirs[1])];
        for byte in 0..20 {
            from.create(session(byte, "ann", byte.into()), None).await.unwrap();
        }
        let theirs = SessionName::parse("theirs").unwrap();
        let revoked = Revocation::Session { session: theirs.clone(), reason: EndReason::SignedOut, expires_at: at(9) };
        from.revoke(revoked).await.unwrap();
        let copied = copy(&*from, &to).await.unwrap();
        assert_eq!(copied, Copied { sessions: 20, known: 0, revocations: 1 });
        assert_eq!(to.revocations().session_reason(&theirs), Some(EndReason::SignedOut));
        for byte in 0..20 {
            assert_eq!(to.find(id(byte)).await.unwrap(), Some(session(byte, "ann", byte.into())));
        }

        let rotate =
            |row: Option<&Session>, _: Option<UnixTime>| Change::Put(Session { counter: 7, ..row.unwrap().clone() });
        to.update(id(1), Box::new(rotate)).await.unwrap();
        from.update(id(2), Box::new(rotate)).await.unwrap();
        let copied = copy(&*from, &to).await.unwrap();
        assert_eq!(copied, Copied { sessions: 0, known: 20, revocations: 1 });
        for byte in [1, 2] {
            assert_eq!(to.find(id(byte)).await.unwrap().unwrap().counter, 7, "{byte}");
        }
    }
}
