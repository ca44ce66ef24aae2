//! A disk whose power can be cut: a file system in the memory of the test that keeps what was synced apart from what was
//! only written, and loses the latter on demand.
//!
//! Stricter than usual disks: a name is durable when its directory was synced, and not before. A write that was not
//! synced may also be there in part, sector by sector, in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::Random;

const PAGE: u64 = 4096;
const SECTOR: usize = 512;
/// The kernel asks each time: what it remembers would survive the cut.
const TTL: Duration = Duration::ZERO;

type Page = Box<[u8; PAGE as usize]>;

#[derive(Clone, Debug, Default)]
struct Content {
    size: u64,
    pages: BTreeMap<u64, Page>,
    names: BTreeMap<OsString, u64>,
}

impl Content {
    fn page(&self, number: u64) -> Page {
        self.pages.get(&number).cloned().unwrap_or_else(|| Box::new([0; PAGE as usize]))
    }

    fn resize(&mut self, size: u64) {
        if size < self.size {
            self.pages.retain(|number, _| number * PAGE < size);
            if let Some(page) = self.pages.get_mut(&(size / PAGE)) {
                page[(size % PAGE) as usize..].fill(0);
            }
        }
        self.size = size;
    }

    fn write(&mut self, mut offset: u64, mut data: &[u8], dirty: &mut BTreeSet<u64>) {
        self.size = self.size.max(offset + data.len() as u64);
        while !data.is_empty() {
            let (number, start) = (offset / PAGE, (offset % PAGE) as usize);
            let length = data.len().min(PAGE as usize - start);
            let mut page = self.page(number);
            page[start..start + length].copy_from_slice(&data[..length]);
            self.pages.insert(number, page);
            dirty.insert(number);
            (offset, data) = (offset + length as u64, &data[length..]);
        }
    }

    fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        let end = (offset + length).min(self.size);
        let mut data = Vec::new();
        let mut at = offset;
        while at < end {
            let (number, start) = (at / PAGE, at % PAGE);
            let length = (PAGE - start).min(end - at);
            data.extend_from_slice(&self.page(number)[start as usize..(start + length) as usize]);
            at += length;
        }
        data
    }
}

#[derive(Debug)]
struct Node {
    kind: FileType,
    mode: u16,
    written: Content,
    synced: Content,
    dirty: BTreeSet<u64>,
}

impl Node {
    fn new(kind: FileType, mode: u32) -> Self {
        let (written, synced) = Default::default();
        Self { kind, mode: (mode & 0o777) as u16, written, synced, dirty: BTreeSet::new() }
    }

    fn sync(&mut self) {
        let size = self.written.size;
        self.synced.resize(size);
        for number in std::mem::take(&mut self.dirty) {
            match self.written.pages.get(&number) {
                Some(page) => self.synced.pages.insert(number, page.clone()),
                None => self.synced.pages.remove(&number),
            };
        }
        self.synced.names.clone_from(&self.written.names);
    }

    /// The power is gone: what is on the disk now.
    fn cut(&mut self, torn: Option<&mut Random>) {
        if let Some(random) = torn {
            if random.below(2) == 0 {
                self.synced.names.clone_from(&self.written.names);
            }
            if random.below(2) == 0 {
                self.synced.resize(self.written.size);
            }
            for number in std::mem::take(&mut self.dirty) {
                let (from, mut to) = (self.written.page(number), self.synced.page(number));
                for (from, to) in from.chunks(SECTOR).zip(to.chunks_mut(SECTOR)) {
                    if random.below(2) == 0 {
                        to.copy_from_slice(from);
                    }
                }
                self.synced.pages.insert(number, to);
            }
            let size = self.synced.size;
            // Sectors behind the end are on the disk, but in no file.
            self.synced.size = u64::MAX;
            self.synced.resize(size);
        }
        self.dirty.clear();
        self.written = self.synced.clone();
    }
}

/// What the disk refuses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Refusals {
    /// Writes, new files and longer files.
    pub(crate) writes: Option<Errno>,
    /// So many syncs fail; what they were to sync is lost at the next cut although the next sync succeeds, as with Linux.
    pub(crate) syncs: usize,
}

#[derive(Debug)]
struct State {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    powered: bool,
    refusals: Refusals,
    owner: (u32, u32),
}

impl State {
    fn node(&mut self, inode: INodeNo) -> Result<&mut Node, Errno> {
        if !self.powered {
            return Err(Errno::EIO);
        }
        self.nodes.get_mut(&inode.0).ok_or(Errno::ENOENT)
    }

    fn find(&mut self, parent: INodeNo, name: &OsStr) -> Result<INodeNo, Errno> {
        self.node(parent)?.written.names.get(name).map(|inode| INodeNo(*inode)).ok_or(Errno::ENOENT)
    }

    fn attributes(&mut self, inode: INodeNo) -> Result<FileAttr, Errno> {
        let (uid, gid) = self.owner;
        let node = self.node(inode)?;
        let now = UNIX_EPOCH;
        Ok(FileAttr {
            ino: inode,
            size: node.written.size,
            blocks: node.written.pages.len() as u64 * 8,
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind: node.kind,
            perm: node.mode,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            blksize: PAGE as u32,
            flags: 0,
        })
    }

    fn writable(&self) -> Result<(), Errno> {
        self.refusals.writes.map_or(Ok(()), Err)
    }

    fn make(&mut self, parent: INodeNo, name: &OsStr, kind: FileType, mode: u32) -> Result<FileAttr, Errno> {
        self.writable()?;
        let inode = self.next;
        self.node(parent)?.written.names.insert(name.to_owned(), inode);
        self.next += 1;
        self.nodes.insert(inode, Node::new(kind, mode));
        self.attributes(INodeNo(inode))
    }

    fn remove(&mut self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        // The node stays: whoever has it open goes on, and a cut may bring the name back.
        self.node(parent)?.written.names.remove(name).map(drop).ok_or(Errno::ENOENT)
    }

    fn sync(&mut self, inode: INodeNo) -> Result<(), Errno> {
        let fails = self.refusals.syncs > 0;
        self.refusals.syncs = self.refusals.syncs.saturating_sub(1);
        let node = self.node(inode)?;
        if fails {
            node.dirty.clear();
            return Err(Errno::EIO);
        }
        node.sync();
        Ok(())
    }
}

/// The disk. Its clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// An empty disk, whose files belong to the owner of `like`.
    pub(crate) fn new(like: &Path) -> Self {
        let metadata = like.metadata().unwrap();
        let mut root = Node::new(FileType::Directory, 0o700);
        root.sync();
        Self(Arc::new(Mutex::new(State {
            nodes: BTreeMap::from([(INodeNo::ROOT.0, root)]),
            next: 2,
            powered: true,
            refusals: Refusals::default(),
            owner: (metadata.uid(), metadata.gid()),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mounts it on `directory`, which is made.
    pub(crate) fn mount(&self, directory: &Path) -> Mounted {
        std::fs::create_dir_all(directory).unwrap();
        let session = fuser::spawn_mount(self.clone(), directory, &fuser::Config::default()).unwrap_or_else(|error| {
            panic!("cannot mount a file system of this test, which needs /dev/fuse and fusermount3: {error}")
        });
        Mounted { session: Some(session), directory: directory.to_owned() }
    }

    /// Cuts the power: nothing that is written or synced from now on arrives, and of what was written and not synced
    /// nothing is left, or with `torn` some of its sectors. [`Self::power_on`] is for when nothing has it mounted.
    pub(crate) fn cut(&self, mut torn: Option<&mut Random>) {
        let mut state = self.state();
        state.powered = false;
        state.nodes.values_mut().for_each(|node| node.cut(torn.as_deref_mut()));
    }

    pub(crate) fn power_on(&self) {
        self.state().powered = true;
    }

    pub(crate) fn refuse(&self, refusals: Refusals) {
        self.state().refusals = refusals;
    }
}

/// A mounted disk, until dropped.
pub(crate) struct Mounted {
    session: Option<BackgroundSession>,
    directory: PathBuf,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            println!("cannot unmount {}: {error}", self.directory.display());
        }
    }
}

impl Filesystem for Disk {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        match state.find(parent, name).and_then(|inode| state.attributes(inode)) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.state().attributes(inode) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        let mut set = || {
            state.writable()?;
            let node = state.node(inode)?;
            if let Some(size) = size {
                let kept = node.written.pages.range(size / PAGE..).map(|(number, _)| *number).collect::<Vec<_>>();
                node.dirty.extend(kept);
                node.written.resize(size);
            }
            if let Some(mode) = mode {
                node.mode = (mode & 0o777) as u16;
            }
            state.attributes(inode)
        };
        match set() {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        match self.state().make(parent, name, FileType::Directory, mode & !umask) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        match self.state().make(parent, name, FileType::RegularFile, mode & !umask) {
            Ok(attributes) => reply.created(&TTL, &attributes, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.state().remove(parent, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.state().remove(parent, name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state();
        let mut rename = || {
            state.writable()?;
            let inode = state.find(parent, name)?;
            state.remove(parent, name)?;
            state.node(new_parent)?.written.names.insert(new_name.to_owned(), inode.0);
            Ok(())
        };
        answer(rename(), reply);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.state().node(inode) {
            Ok(node) => reply.data(&node.written.read(offset, size.into())),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state();
        match state.writable().and_then(|()| state.node(inode)) {
            Ok(node) => {
                node.written.write(offset, data, &mut node.dirty);
                reply.written(data.len() as u32);
            }
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.state().sync(inode), reply);
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.state().sync(inode), reply);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut state = self.state();
        let names = match state.node(inode) {
            Ok(node) => node.written.names.clone(),
            Err(error) => return reply.error(error),
        };
        let own = [(OsString::from("."), inode.0), (OsString::from(".."), inode.0)];
        for (place, (name, inode)) in own.into_iter().chain(names).enumerate().skip(offset as usize) {
            let kind = state.nodes.get(&inode).map_or(FileType::RegularFile, |node| node.kind);
            if reply.add(INodeNo(inode), place as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

fn answer(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

#[test]
fn the_disk_loses_what_was_not_synced_and_keeps_what_was() {
    use std::fs::{self, File};
    use std::io::Write as _;

    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path());
    let at = dir.path().join("disk");
    let mounted = disk.mount(&at);
    let mut file = File::create(at.join("synced")).unwrap();
    file.write_all(b"synced").unwrap();
    file.sync_all().unwrap();
    fs::create_dir(at.join("inner")).unwrap();
    File::open(&at).unwrap().sync_all().unwrap();
    file.write_all(b" and not").unwrap();
    fs::write(at.join("inner/name"), "x").unwrap();
    fs::rename(at.join("synced"), at.join("renamed")).unwrap();
    assert_eq!(fs::read(at.join("renamed")).unwrap(), b"synced and not");
    disk.cut(None);
    assert!(file.sync_all().is_err());
    drop((file, mounted));
    disk.power_on();
    let mounted = disk.mount(&at);
    assert_eq!(fs::read(at.join("synced")).unwrap(), b"synced");
    assert!(!at.join("renamed").exists());
    assert_eq!(fs::read_dir(at.join("inner")).unwrap().count(), 0);
    // A failed sync has lost what it was for, although the next one succeeds.
    let mut file = fs::OpenOptions::new().append(true).open(at.join("synced")).unwrap();
    disk.refuse(Refusals { syncs: 1, ..Refusals::default() });
    file.write_all(b" again").unwrap();
    assert!(file.sync_all().is_err());
    file.sync_all().unwrap();
    disk.cut(None);
    drop((file, mounted));
    disk.power_on();
    let _mounted = disk.mount(&at);
    assert_eq!(fs::read(at.join("synced")).unwrap(), b"synced\0\0\0\0\0\0");
    disk.refuse(Refusals { writes: Some(Errno::ENOSPC), syncs: 0 });
    let full = fs::write(at.join("synced"), "more").unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
}
