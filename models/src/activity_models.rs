//! The last request of a session: noted by workers, written and forgotten by a task.

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use crate::activity::Activity;
use crate::clock::UnixTime;
use crate::every_interleaving;
use crate::ids::SessionId;

const ID: SessionId = SessionId::from_bytes([7; 16]);
const IDLE: Duration = Duration::from_secs(3600);

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(1_000_000 + seconds)
}

/// What a flush writes, in the order of `Sessions::flush_activity`.
fn flush(activity: &Activity, stored: &mut UnixTime, now: UnixTime) {
    let unwritten = activity.unwritten();
    for (_, seen) in &unwritten {
        *stored = (*stored).max(*seen);
    }
    activity.written(&unwritten);
    activity.trim(now);
}

#[test]
fn a_request_noted_beside_a_flush_is_written_by_it_or_stays_noted() {
    every_interleaving("touch beside a flush", || {
        let activity = Arc::new(Activity::new(10));
        assert!(activity.note(ID, at(1), at(0)));
        let worker = {
            let activity = activity.clone();
            thread::spawn(move || activity.touch(&ID, at(5), IDLE))
        };
        let mut stored = at(0);
        // So late that whatever is written is forgotten.
        flush(&activity, &mut stored, at(100_000));
        let noted = worker.join().unwrap();
        let known = stored.max(activity.last(&ID).unwrap_or_default());
        assert!(known >= if noted { at(5) } else { at(1) }, "{known}, noted: {noted}");
        flush(&activity, &mut stored, at(100_000));
        assert!(stored >= if noted { at(5) } else { at(1) });
    });
}

#[test]
fn of_two_requests_the_later_counts_whoever_notes_it_first() {
    every_interleaving("two workers", || {
        let activity = Arc::new(Activity::new(10));
        let other = {
            let activity = activity.clone();
            thread::spawn(move || assert!(activity.note(ID, at(9), at(0))))
        };
        assert!(activity.note(ID, at(5), at(0)));
        other.join().unwrap();
        assert_eq!(activity.last(&ID), Some(at(9)));
    });
}

#[test]
fn an_end_beside_a_request_leaves_nothing_that_would_be_written_for_ever() {
    every_interleaving("touch beside an end", || {
        let activity = Arc::new(Activity::new(10));
        assert!(activity.note(ID, at(1), at(1)));
        let worker = {
            let activity = activity.clone();
            thread::spawn(move || activity.touch(&ID, at(5), IDLE))
        };
        activity.forget(&ID);
        worker.join().unwrap();
        assert_eq!(activity.last(&ID), None);
    });
}
