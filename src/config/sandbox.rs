//! `[sandbox]`

use super::reader::Table;
use super::shape;

/// `[sandbox]`: what `portcullis run` gives up before it serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sandbox {
    /// `user`: who the process becomes once its ports are bound, by name or number; by default it stays who started it.
    pub user: Option<String>,
    /// `no_new_privileges`: neither this process nor one it starts can ever gain any. `true` by default, and always with
    /// `restrict_files`, which is nothing without.
    pub no_new_privileges: bool,
    /// `drop_capabilities`: those of the superuser are given up once the ports are bound. `true` by default.
    pub drop_capabilities: bool,
    /// `private_files`: files that are made can be read by their owner alone. `true` by default.
    pub private_files: bool,
    /// `restrict_files`: only what the configuration names, and what the system's libraries need, can be opened. `false`
    /// by default.
    pub restrict_files: bool,
    /// `core_dumps`: whether a crash may write the memory, with every key in it, to the disk. `false` by default.
    pub core_dumps: bool,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            user: None,
            no_new_privileges: true,
            drop_capabilities: true,
            private_files: true,
            // A path that leads elsewhere one day, such as a link that each release turns, would be out of bounds then.
            restrict_files: false,
            core_dumps: false,
        }
    }
}

pub(super) fn sandbox(root: &Table<'_>) -> Sandbox {
    let table = root.section("sandbox", &shape::SANDBOX);
    let flag = |key, default| table.get(key).and_then(|value| value.flag()).unwrap_or(default);
    let default = Sandbox::default();
    Sandbox {
        user: table.get("user").and_then(|value| value.name("the name of a user")).map(str::to_owned),
        no_new_privileges: flag("no_new_privileges", default.no_new_privileges),
        drop_capabilities: flag("drop_capabilities", default.drop_capabilities),
        private_files: flag("private_files", default.private_files),
        restrict_files: flag("restrict_files", default.restrict_files),
        core_dumps: flag("core_dumps", default.core_dumps),
    }
}
