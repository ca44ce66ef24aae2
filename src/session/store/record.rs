//! Rows as bytes: a version first, integers big-endian, texts with their length before them.
//!
//! What cannot be read is [`StoreError::Corrupt`], also when only its length is wrong: a row that is half believed
//! would be a counter that is believed.

use std::ops::Bound;

use super::StoreError;
use crate::clock::UnixTime;
use crate::ids::{SessionId, SessionName, UserId};
use crate::revocation::{EndReason, Revocation, UserEnd};
use crate::session::Session;

/// Format of the whole directory, in `meta`. A higher one is refused.
pub(super) const FORMAT: u32 = 1;

const ROW_VERSION: u8 = 1;
/// Where `last_seen` stands in a row: behind the version. [`with_last_seen`] changes it in place.
const LAST_SEEN_AT: usize = 1;

const HAS_LABEL: u8 = 1;
const HAS_CLAIMS: u8 = 2;

/// Kinds of records in `revocations`, the first byte of their key.
const KIND_OWN: u8 = 1;
const KIND_OTHER: u8 = 2;
const KIND_USER: u8 = 3;
/// Why a session ended that a user's end took along. Not needed to refuse tokens, so it is not loaded at start.
const KIND_ENDED: u8 = 4;

/// A row of `sessions`, without the id, which is its key.
///
/// Neither the refresh token nor its MAC is in it, so that a leaked row yields no token.
pub(super) fn encode_session(session: &Session) -> Result<Vec<u8>, StoreError> {
    let Session { id: _, user, created_at, label, claims, counter, rotated_at, refresh_key, .. } = session;
    let mut row = Vec::with_capacity(128);
    row.push(ROW_VERSION);
    row.extend(session.last_seen.as_millis().to_be_bytes());
    row.extend(counter.to_be_bytes());
    row.extend(refresh_key.to_be_bytes());
    for time in [*created_at, *rotated_at, session.access_issued_at, session.access_expires_at] {
        row.extend(time.as_millis().to_be_bytes());
    }
    let flags = if label.is_some() { HAS_LABEL } else { 0 } | if claims.is_some() { HAS_CLAIMS } else { 0 };
    row.push(flags);
    put_short(&mut row, user.as_str())?;
    if let Some(label) = label {
        put_short(&mut row, label)?;
    }
    if let Some(claims) = claims {
        serde_json::to_writer(&mut row, claims).map_err(damaged("claims that cannot be written"))?;
    }
    Ok(row)
}

/// The reverse of [`encode_session`].
pub(super) fn decode_session(id: SessionId, row: &[u8]) -> Result<Session, StoreError> {
    let mut row = Reader(row);
    if row.byte()? != ROW_VERSION {
        return Err(StoreError::Corrupt("session row of an unknown version"));
    }
    let last_seen = row.time()?;
    let counter = row.u64()?;
    let refresh_key = row.u32()?;
    let (created_at, rotated_at, access_issued_at, access_expires_at) =
        (row.time()?, row.time()?, row.time()?, row.time()?);
    let flags = row.byte()?;
    if flags & !(HAS_LABEL | HAS_CLAIMS) != 0 {
        return Err(StoreError::Corrupt("session row with unknown flags"));
    }
    let user = row.user()?;
    let label = if flags & HAS_LABEL == 0 { None } else { Some(row.short()?.into()) };
    let claims = if flags & HAS_CLAIMS == 0 {
        row.end()?;
        None
    } else {
        Some(serde_json::from_slice(row.0).map_err(damaged("claims of a session row"))?)
    };
    Ok(Session {
        id,
        user,
        created_at,
        label,
        claims,
        counter,
        rotated_at,
        refresh_key,
        last_seen,
        access_issued_at,
        access_expires_at,
    })
}

/// The row with a later `last_seen`, or `None` when it has that or a later one. The rest is not looked at.
pub(super) fn with_last_seen(row: &[u8], seen: UnixTime) -> Result<Option<Vec<u8>>, StoreError> {
    let mut reader = Reader(row);
    if reader.byte()? != ROW_VERSION {
        return Err(StoreError::Corrupt("session row of an unknown version"));
    }
    if reader.time()? >= seen {
        return Ok(None);
    }
    let mut row = row.to_vec();
    row[LAST_SEEN_AT..LAST_SEEN_AT + 8].copy_from_slice(&seen.as_millis().to_be_bytes());
    Ok(Some(row))
}

/// `last_seen` and `created_at` of a row. The rest is not looked at.
pub(super) fn times_of(row: &[u8]) -> Result<(UnixTime, UnixTime), StoreError> {
    let mut row = Reader(row);
    if row.byte()? != ROW_VERSION {
        return Err(StoreError::Corrupt("session row of an unknown version"));
    }
    let last_seen = row.time()?;
    // The counter and the key, which stand between.
    let (_, _) = (row.u64()?, row.u32()?);
    Ok((last_seen, row.time()?))
}

/// What all keys of a user in `by_user` start with. The length first, so that no user's keys lie among another's.
pub(super) fn user_prefix(user: &UserId) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + user.as_str().len() + 24);
    // An id has at most 255 bytes.
    key.push(user.as_str().len() as u8);
    key.extend(user.as_str().as_bytes());
    key
}

/// The key in `by_user`: sorts by age within a user.
pub(super) fn user_key(user: &UserId, created_at: UnixTime, id: SessionId) -> Vec<u8> {
    let mut key = user_prefix(user);
    key.extend(created_at.as_millis().to_be_bytes());
    key.extend(id.as_bytes());
    key
}

/// The session that a key in `by_user` ends with.
pub(super) fn session_of_user_key(key: &[u8]) -> Result<SessionId, StoreError> {
    let (_, id) = key.split_last_chunk::<16>().ok_or(StoreError::Corrupt("key of a user's session"))?;
    Ok(SessionId::from_bytes(*id))
}

/// The id that a key of `sessions` is.
pub(super) fn session_of_key(key: &[u8]) -> Result<SessionId, StoreError> {
    Ok(SessionId::from_bytes(key.try_into().map_err(damaged("key of a session"))?))
}

/// The key of a session's revocation.
pub(super) fn session_end_key(session: &SessionName) -> Vec<u8> {
    match session {
        SessionName::Own(id) => [&[KIND_OWN], &id.as_bytes()[..]].concat(),
        SessionName::Other(text) => [&[KIND_OTHER], text.as_bytes()].concat(),
    }
}

/// Whether the record under this key of `revocations` refuses tokens: it is not just a note of why a session ended.
pub(super) fn is_revocation(key: &[u8]) -> bool {
    key.first().is_some_and(|kind| *kind != KIND_ENDED)
}

/// The key of the note why a session ended that a user's end took along.
pub(super) fn ended_key(id: SessionId) -> Vec<u8> {
    [&[KIND_ENDED], &id.as_bytes()[..]].concat()
}

/// The key of a user's revocation.
pub(super) fn user_end_key(user: &UserId) -> Vec<u8> {
    [&[KIND_USER], user.as_str().as_bytes()].concat()
}

/// The record of an ended session.
pub(super) fn encode_end(reason: EndReason, expires_at: UnixTime) -> Vec<u8> {
    let mut record = expires_at.as_millis().to_be_bytes().to_vec();
    record.push(reason.code());
    record
}

/// The reverse of [`encode_end`].
pub(super) fn decode_end(record: &[u8]) -> Result<(EndReason, UnixTime), StoreError> {
    let mut record = Reader(record);
    let (expires_at, reason) = (record.time()?, record.reason()?);
    record.end()?;
    Ok((reason, expires_at))
}

/// The record of a user's end. Expiry and reason stand as in [`encode_end`].
pub(super) fn encode_user_end(end: &UserEnd) -> Result<Vec<u8>, StoreError> {
    let mut record = encode_end(end.reason, end.expires_at);
    record.extend(end.issued_until.to_be_bytes());
    record.push(u8::from(end.all_until.is_some()));
    record.extend(end.all_until.unwrap_or_default().to_be_bytes());
    put_short(&mut record, &end.except.as_ref().map(ToString::to_string).unwrap_or_default())?;
    Ok(record)
}

/// The reverse of [`encode_user_end`].
pub(super) fn decode_user_end(record: &[u8]) -> Result<UserEnd, StoreError> {
    let mut record = Reader(record);
    let (expires_at, reason) = (record.time()?, record.reason()?);
    let issued_until = record.u64()?;
    let all_until = match (record.byte()?, record.u64()?) {
        (0, _) => None,
        (1, until) => Some(until),
        _ => return Err(StoreError::Corrupt("revocation of a user")),
    };
    let except = match record.short()? {
        "" => None,
        text => Some(SessionName::parse(text).map_err(damaged("session in the revocation of a user"))?),
    };
    record.end()?;
    Ok(UserEnd { all_until, issued_until, except, reason, expires_at })
}

/// When any record of `revocations` may go.
pub(super) fn expiry_of(record: &[u8]) -> Result<UnixTime, StoreError> {
    Reader(record).time()
}

/// Parts of the keys of `revocations` that together are all of them, of about the same size where there are many: own
/// sessions by the first byte of their random ids.
pub(super) fn revocation_parts() -> Vec<(Bound<Vec<u8>>, Bound<Vec<u8>>)> {
    let starts = (0..=u8::MAX).map(|byte| vec![KIND_OWN, byte]);
    let from = std::iter::once(Bound::Unbounded).chain(starts.clone().map(Bound::Included));
    let until = starts.map(Bound::Excluded).chain([Bound::Unbounded]);
    from.zip(until).collect()
}

/// Calls `each` with what the record means for [`Revocations`](crate::revocation::Revocations).
pub(super) fn decode_revocation(
    key: &[u8],
    record: &[u8],
    mut each: impl FnMut(&Revocation),
) -> Result<(), StoreError> {
    let (kind, name) = key.split_first().ok_or(StoreError::Corrupt("key of a revocation"))?;
    let session = match *kind {
        KIND_ENDED => return Ok(()),
        KIND_OWN => session_of_key(name)?.into(),
        KIND_OTHER => SessionName::parse(text(name)?).map_err(damaged("session of a revocation"))?,
        KIND_USER => {
            let user = UserId::parse(text(name)?).map_err(damaged("user of a revocation"))?;
            decode_user_end(record)?.orders(&user).for_each(|order| each(&order));
            return Ok(());
        }
        _ => return Err(StoreError::Corrupt("revocation of an unknown kind")),
    };
    let (reason, expires_at) = decode_end(record)?;
    each(&Revocation::Session { session, reason, expires_at });
    Ok(())
}

/// The key in `expiry`: sorts by the time a record of `revocations` may go, and ends with that record's key.
pub(super) fn expiry_key(expires_at: UnixTime, key: &[u8]) -> Vec<u8> {
    [&expires_at.as_millis().to_be_bytes()[..], key].concat()
}

/// The reverse of [`expiry_key`].
pub(super) fn split_expiry_key(key: &[u8]) -> Result<(UnixTime, &[u8]), StoreError> {
    let (time, key) = key.split_first_chunk::<8>().ok_or(StoreError::Corrupt("key of an expiry"))?;
    Ok((UnixTime::from_millis(u64::from_be_bytes(*time)), key))
}

fn put_short(row: &mut Vec<u8>, text: &str) -> Result<(), StoreError> {
    // Sign-in lets through labels of 128 bytes and ids of 255.
    row.push(u8::try_from(text.len()).map_err(damaged("text too long for a row"))?);
    row.extend(text.as_bytes());
    Ok(())
}

fn damaged<E>(what: &'static str) -> impl FnOnce(E) -> StoreError {
    move |_| StoreError::Corrupt(what)
}

fn text(bytes: &[u8]) -> Result<&str, StoreError> {
    std::str::from_utf8(bytes).map_err(damaged("text that is no UTF-8"))
}

/// Takes from the front, never past the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(StoreError::Corrupt("record cut short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, StoreError> {
        Ok(u8::from_be_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, StoreError> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, StoreError> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    fn time(&mut self) -> Result<UnixTime, StoreError> {
        Ok(UnixTime::from_millis(self.u64()?))
    }

    fn reason(&mut self) -> Result<EndReason, StoreError> {
        EndReason::from_code(self.byte()?).ok_or(StoreError::Corrupt("unknown reason"))
    }

    fn short(&mut self) -> Result<&'a str, StoreError> {
        let length = usize::from(self.byte()?);
        let (taken, rest) = self.0.split_at_checked(length).ok_or(StoreError::Corrupt("record cut short"))?;
        self.0 = rest;
        text(taken)
    }

    fn user(&mut self) -> Result<UserId, StoreError> {
        UserId::parse(self.short()?).map_err(damaged("user of a session row"))
    }

    fn end(&self) -> Result<(), StoreError> {
        if self.0.is_empty() { Ok(()) } else { Err(StoreError::Corrupt("bytes behind a record")) }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeBounds as _;

    use super::*;

    #[test]
    fn every_key_of_a_revocation_is_in_one_part() {
        let own = |byte| session_end_key(&SessionId::from_bytes([byte; 16]).into());
        let keys = (0..=u8::MAX).flat_map(|byte| [vec![byte], own(byte), vec![KIND_OWN, byte]]);
        for key in keys.chain([vec![], vec![KIND_OTHER, 0], vec![u8::MAX; 20]]) {
            let parts = revocation_parts().into_iter().filter(|part| part.contains(&key)).count();
            assert_eq!(parts, 1, "{key:?}");
        }
    }
}
