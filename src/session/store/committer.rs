//! The one thread that writes: it takes what is waiting, applies it to a draft, commits once, and only then answers.
//!
//! One fsync for up to [`MAX_BATCH`] operations is worth more than ten times the throughput of one for each, and the
//! wait gets shorter too. It also makes every operation atomic without locks: there is no other writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::draft::Draft;
use super::ledger::{Ledger, SEQUENCE_KEY};
use super::recent::Recent;
use super::tables::Tables;
use crate::revocation::Revocations;

/// Operations that may wait. More are refused at once: at 50 000 operations a second these are 160 ms of work.
const MAX_WAITING: usize = 8192;
/// Weight of a batch: its operations, and the sessions of a touch.
pub(super) const MAX_BATCH: usize = 512;
/// An operation that waited so long is not begun any more: who asked has other things to do by now.
const QUEUE_DEADLINE: Duration = Duration::from_secs(5);
/// Nobody waits longer than this, however slow the disk.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// One operation with its answer.
trait Job: Send {
    fn apply(&mut self, draft: &mut Draft<'_>);
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Operation<T, F> {
    run: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Operation<T, F>
where
    T: Send,
    F: FnOnce(&mut Draft<'_>) -> Result<T, StoreError> + Send,
{
    fn apply(&mut self, draft: &mut Draft<'_>) {
        self.result = self.run.take().map(|run| draft.attempt(run));
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { result, reply, .. } = *self;
        // Without a result it was never begun: it waited too long.
        let result = outcome.and_then(|()| result.unwrap_or(Err(StoreError::Timeout)));
        // Who asked may have gone away; the change is made all the same.
        drop(reply.send(result));
    }
}

struct Waiting {
    job: Box<dyn Job>,
    weight: usize,
    since: Instant,
}

enum Message {
    Work(Waiting),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const FAILED: u8 = 2;

/// Whether the store may still be asked, seen by writers and readers.
#[derive(Debug, Default)]
pub(super) struct Health {
    state: AtomicU8,
    #[cfg(test)]
    fault: AtomicU8,
}

impl Health {
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.state.load(Ordering::Acquire) {
            OPEN => Ok(()),
            CLOSED => Err(StoreError::Closed),
            _ => Err(StoreError::Failed),
        }
    }

    fn fail(&self) {
        self.state.store(FAILED, Ordering::Release);
    }

    fn close(&self) {
        // A failed store stays failed.
        let _ = self.state.compare_exchange(OPEN, CLOSED, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// A fault to be met by the next commit.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Fault {
    /// The disk refuses before anything is written.
    NothingWritten = 1,
    /// Everything is written, but the disk says it is not.
    AllWritten = 2,
}

/// The handle of the thread. Dropping it lets the thread finish what waits, and waits for that.
pub(super) struct Committer {
    queue: Option<mpsc::Sender<Message>>,
    health: Arc<Health>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(super) fn start(
        database: Database,
        tables: Tables,
        revocations: Arc<Revocations>,
        (meta, ledger): (Keyspace, Ledger),
    ) -> Result<Self, std::io::Error> {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let health = Arc::new(Health::default());
        let rows = Recent::new(tables);
        let writer = Writer { database, rows, revocations, meta, ledger, health: health.clone() };
        let thread = std::thread::Builder::new().name("session-store".into()).spawn(move || writer.run(waiting))?;
        Ok(Self { queue: Some(queue), health, thread: Some(thread) })
    }

    pub(super) fn health(&self) -> Result<(), StoreError> {
        self.health.check()
    }

    #[cfg(test)]
    pub(super) fn inject(&self, fault: Fault) {
        self.health.fault.store(fault as u8, Ordering::Release);
    }

    fn queue(&self) -> Result<&mpsc::Sender<Message>, StoreError> {
        self.health.check()?;
        self.queue.as_ref().ok_or(StoreError::Closed)
    }

    /// Has `run` applied, committed and published.
    pub(super) async fn submit<T: Send + 'static>(
        &self,
        weight: usize,
        run: impl FnOnce(&mut Draft<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Operation { run: Some(run), result: None, reply });
        let work = Message::Work(Waiting { job, weight, since: Instant::now() });
        match self.queue()?.try_send(work) {
            Ok(()) => self.wait(answer).await,
            Err(mpsc::error::TrySendError::Full(_)) => Err(StoreError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(self.gone()),
        }
    }

    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue()?;
        self.health.close();
        if queue.send(Message::Close(reply)).await.is_err() {
            return Err(self.gone());
        }
        self.wait(answer).await
    }

    async fn wait<T>(&self, answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
        match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.gone()),
            Err(_) => Err(StoreError::Timeout),
        }
    }

    /// What to say when the thread does not answer any more.
    fn gone(&self) -> StoreError {
        self.health.check().err().unwrap_or(StoreError::Closed)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.health.close();
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // It panicked: that was said when it happened.
            drop(thread.join());
        }
    }
}

struct Writer {
    database: Database,
    rows: Recent,
    revocations: Arc<Revocations>,
    /// Where the number of each batch goes, in the batch.
    meta: Keyspace,
    ledger: Ledger,
    health: Arc<Health>,
}

/// Fails the store when its thread unwinds: how far the batch at work came, nobody knows.
struct FailOnPanic<'a>(&'a Health);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail();
            tracing::error!("the session store's thread panicked, nothing more is read or written until a restart");
        }
    }
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = Vec::new();
            let mut weight = 0;
            let mut closing = None;
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Work(work) => {
                        weight += work.weight;
                        batch.push(work);
                    }
                    Message::Close(reply) => {
                        closing = Some(reply);
                        break;
                    }
                }
                next = if weight < MAX_BATCH { queue.try_recv().ok() } else { None };
            }
            self.commit(batch);
            if let Some(reply) = closing {
                drop(reply.send(self.sync()));
                // What still waits came after the close: its answers are dropped and read as closed.
                return;
            }
        }
        // Everything acknowledged is on disk already; this is for the journal's last bytes that were not.
        drop(self.sync());
    }

    fn commit(&mut self, mut batch: Vec<Waiting>) {
        // Goes before the batch does, so that whoever waits for it finds the store failed.
        let health = self.health.clone();
        let _guard = FailOnPanic(&health);
        let outcome = self.apply(&mut batch);
        for Waiting { job, .. } in batch {
            job.answer(outcome.clone());
        }
    }

    /// Everything in the batch is durable and published when this returns `Ok`.
    fn apply(&mut self, batch: &mut [Waiting]) -> Result<(), StoreError> {
        if matches!(self.health.check(), Err(StoreError::Failed)) {
            return Err(StoreError::Failed);
        }
        let mut draft = Draft::new(&self.rows);
        for waiting in batch {
            if waiting.since.elapsed() < QUEUE_DEADLINE {
                waiting.job.apply(&mut draft);
            }
        }
        if draft.is_empty() {
            // Verdicts on rows that are all on disk already.
            return Ok(());
        }
        let (written, revoked) = draft.finish();
        let mut writes = self.rows.batch(&self.database, &written);
        writes.insert(&self.meta, SEQUENCE_KEY, self.ledger.next().to_be_bytes());
        self.write(writes).map_err(|error| self.failed(&error))?;
        // After the fsync, so that no number is told that is not on disk, and before the answers.
        self.ledger.acknowledge().map_err(|error| self.failed(&error.into()))?;
        self.rows.remember(written);
        // In memory after the disk and before the answer: whoever is told of an end can rely on it everywhere.
        revoked.iter().for_each(|revocation| self.revocations.insert(revocation));
        Ok(())
    }

    fn write(&self, writes: OwnedWriteBatch) -> Result<(), fjall::Error> {
        #[cfg(test)]
        let fault = self.health.fault.swap(0, Ordering::AcqRel);
        #[cfg(test)]
        if fault == Fault::NothingWritten as u8 {
            return Err(fjall::Error::Poisoned);
        }
        // The rows of the batch and its end marker are one record with one checksum: after a crash all of it is there
        // or nothing. fdatasync covers the file's length too, where that is needed to read the data back.
        writes.durability(Some(PersistMode::SyncData)).commit()?;
        #[cfg(test)]
        if fault == Fault::AllWritten as u8 {
            return Err(fjall::Error::Poisoned);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        if matches!(self.health.check(), Err(StoreError::Failed)) {
            return Err(StoreError::Failed);
        }
        self.database.persist(PersistMode::SyncAll).map_err(|error| self.failed(&error))
    }

    /// After a failed write or fsync the kernel may have dropped the dirty pages and will report the next fsync as
    /// good. So it is never tried again: from now on the store answers nothing, until a restart reads what is there.
    fn failed(&self, error: &fjall::Error) -> StoreError {
        self.health.fail();
        tracing::error!(
            error = %error,
            "a write to the session store failed, nothing more is read or written until a restart"
        );
        StoreError::Failed
    }
}
