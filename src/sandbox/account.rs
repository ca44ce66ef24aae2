//! The user that the process becomes: one of `/etc/passwd`, or a number.

use std::fs;
use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread;

/// Why the process does not become another user.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The file of users cannot be read.
    #[error("cannot read {path} to find the user {user:?}")]
    Read {
        /// Which file.
        path: &'static str,
        /// Whom.
        user: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// There is nobody of this name.
    #[error("there is no user {0:?} in /etc/passwd")]
    Unknown(String),
    /// The system says no.
    #[error("cannot become the user {user:?}, which only the superuser can")]
    Refused {
        /// Whom.
        user: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// A user with groups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    name: String,
    uid: u32,
    gid: u32,
    /// Those that `/etc/group` names it in.
    groups: Vec<u32>,
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

impl Account {
    /// The user called `user`, or of that number. Only the files of this machine are asked: other sources of users may
    /// wait for the network, and a gateway must start without.
    ///
    /// # Errors
    /// [`AccountError::Unknown`], [`AccountError::Read`]
    pub fn find(user: &str) -> Result<Self, AccountError> {
        let read =
            |path| fs::read_to_string(path).map_err(|cause| AccountError::Read { path, user: user.to_owned(), cause });
        Self::among(user, &read(PASSWD)?, &read(GROUP)?).ok_or_else(|| AccountError::Unknown(user.to_owned()))
    }

    fn among(user: &str, passwd: &str, group: &str) -> Option<Self> {
        let number = user.parse::<u32>().ok();
        let found = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, uid, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            (name == user || number == Some(uid)).then(|| (name.to_owned(), uid, gid))
        });
        // A number needs no name: containers have none.
        let (name, uid, gid) = found.or_else(|| number.map(|id| (user.to_owned(), id, id)))?;
        let groups = group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let gid = fields.nth(2)?.parse().ok()?;
            fields.next()?.split(',').any(|member| member == name).then_some(gid)
        });
        let groups = groups.collect();
        Some(Self { name, uid, gid, groups })
    }

    /// Whether this process is it already.
    pub fn is_current(&self) -> bool {
        rustix::process::getuid().as_raw() == self.uid
    }

    /// Becomes this user, for good: with its groups and no others. Of the calling thread alone.
    ///
    /// # Errors
    /// [`AccountError::Refused`]
    pub fn become_it(&self) -> Result<(), AccountError> {
        if self.is_current() {
            return Ok(());
        }
        let refused = |cause: rustix::io::Errno| AccountError::Refused { user: self.name.clone(), cause: cause.into() };
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let groups = self.groups.iter().copied().chain([self.gid]).map(Gid::from_raw).collect::<Vec<_>>();
        // Groups first: who is no superuser any more cannot give them up.
        thread::set_thread_groups(&groups).map_err(refused)?;
        thread::set_thread_res_gid(gid, gid, gid).map_err(refused)?;
        thread::set_thread_res_uid(uid, uid, uid).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\nweb:x:33:34:web:/var/www:/usr/sbin/nologin\n";
    const GROUPS: &str = "root:x:0:\nweb:x:34:\ntls:x:40:ann,web\nbroken\nother:x:41:webmaster\n";

    #[test]
    fn a_user_is_found_by_name_or_number_with_all_groups() {
        let web = Account { name: "web".into(), uid: 33, gid: 34, groups: vec![40] };
        assert_eq!(Account::among("web", USERS, GROUPS), Some(web.clone()));
        assert_eq!(Account::among("33", USERS, GROUPS), Some(web));
        let nameless = Account { name: "1001".into(), uid: 1001, gid: 1001, groups: vec![] };
        assert_eq!(Account::among("1001", USERS, GROUPS), Some(nameless));
        for nobody in ["we", "webmaster", "x", "-1", "4294967296"] {
            assert_eq!(Account::among(nobody, USERS, GROUPS), None, "{nobody}");
        }
    }
}
