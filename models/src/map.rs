//! The part of dashmap's interface that the gateway uses, over one lock that loom knows: one shard, entries in a list.
//!
//! What holds for entries of one shard is checked with this. Entries of different shards order less among each other than
//! here; nothing in the files that are checked relies on an order between two keys of one map.

use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use loom::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

type List<K, V> = Vec<(K, V)>;

pub(crate) struct DashMap<K, V>(RwLock<List<K, V>>);

pub(crate) struct Ref<'a, K, V> {
    list: RwLockReadGuard<'a, List<K, V>>,
    at: usize,
}

pub(crate) struct RefMut<'a, K, V> {
    list: RwLockWriteGuard<'a, List<K, V>>,
    at: usize,
}

pub(crate) enum Entry<'a, K, V> {
    Occupied(RefMut<'a, K, V>),
    Vacant(Vacant<'a, K, V>),
}

pub(crate) struct Vacant<'a, K, V> {
    list: RwLockWriteGuard<'a, List<K, V>>,
    key: K,
}

/// All entries of one moment; of a map with more shards that holds for each of them.
pub(crate) struct Iter<'a, K, V> {
    list: Rc<RwLockReadGuard<'a, List<K, V>>>,
    next: usize,
}

/// An entry met while all are gone through.
pub(crate) struct Met<'a, K, V> {
    list: Rc<RwLockReadGuard<'a, List<K, V>>>,
    at: usize,
}

impl<K: Eq, V> DashMap<K, V> {
    pub(crate) fn with_shard_amount(_shards: usize) -> Self {
        Self(RwLock::new(Vec::new()))
    }

    fn read(&self) -> RwLockReadGuard<'_, List<K, V>> {
        self.0.read().unwrap()
    }

    fn write(&self) -> RwLockWriteGuard<'_, List<K, V>> {
        self.0.write().unwrap()
    }

    pub(crate) fn get<Q>(&self, key: &Q) -> Option<Ref<'_, K, V>>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let list = self.read();
        let at = list.iter().position(|(one, _)| one.borrow() == key)?;
        Some(Ref { list, at })
    }

    pub(crate) fn get_mut(&self, key: &K) -> Option<RefMut<'_, K, V>> {
        let list = self.write();
        let at = list.iter().position(|(one, _)| one == key)?;
        Some(RefMut { list, at })
    }

    pub(crate) fn entry(&self, key: K) -> Entry<'_, K, V> {
        let list = self.write();
        match list.iter().position(|(one, _)| *one == key) {
            Some(at) => Entry::Occupied(RefMut { list, at }),
            None => Entry::Vacant(Vacant { list, key }),
        }
    }

    pub(crate) fn remove(&self, key: &K) {
        self.write().retain(|(one, _)| one != key);
    }

    pub(crate) fn retain(&self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.write().retain_mut(|(key, value)| keep(key, value));
    }

    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }

    pub(crate) fn iter(&self) -> Iter<'_, K, V> {
        Iter { list: Rc::new(self.read()), next: 0 }
    }
}

impl<'a, K: Eq, V> IntoIterator for &'a DashMap<K, V> {
    type Item = Met<'a, K, V>;
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = Met<'a, K, V>;

    fn next(&mut self) -> Option<Met<'a, K, V>> {
        let at = self.next;
        self.next += 1;
        (at < self.list.len()).then(|| Met { list: self.list.clone(), at })
    }
}

impl<K, V> Met<'_, K, V> {
    pub(crate) fn key(&self) -> &K {
        &self.list[self.at].0
    }

    pub(crate) fn value(&self) -> &V {
        &self.list[self.at].1
    }
}

impl<K, V> Deref for Met<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.value()
    }
}

impl<K, V> Deref for Ref<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.list[self.at].1
    }
}

impl<K, V> Deref for RefMut<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.list[self.at].1
    }
}

impl<K, V> DerefMut for RefMut<'_, K, V> {
    fn deref_mut(&mut self) -> &mut V {
        &mut self.list[self.at].1
    }
}

impl<K, V> RefMut<'_, K, V> {
    pub(crate) fn get(&self) -> &V {
        self
    }

    pub(crate) fn insert(&mut self, value: V) {
        **self = value;
    }
}

impl<'a, K, V> Vacant<'a, K, V> {
    pub(crate) fn insert(self, value: V) -> RefMut<'a, K, V> {
        let Self { mut list, key } = self;
        let at = list.len();
        list.push((key, value));
        RefMut { list, at }
    }
}

impl<'a, K, V> Entry<'a, K, V> {
    pub(crate) fn and_modify(mut self, change: impl FnOnce(&mut V)) -> Self {
        if let Self::Occupied(entry) = &mut self {
            change(entry);
        }
        self
    }

    pub(crate) fn or_insert(self, value: V) -> RefMut<'a, K, V> {
        self.or_insert_with(|| value)
    }

    pub(crate) fn or_insert_with(self, value: impl FnOnce() -> V) -> RefMut<'a, K, V> {
        match self {
            Self::Occupied(entry) => entry,
            Self::Vacant(place) => place.insert(value()),
        }
    }
}
