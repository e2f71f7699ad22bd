//! One segment of a log, in any form.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prodigy_storage_layout::{SegmentForm, SegmentName};

use crate::root::Root;

/// Identifies a segment: the root, the folder of its log, and its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentRef<'a> {
    pub(crate) root: &'a Arc<Root>,
    pub(crate) folder: &'a Path,
    pub(crate) name: &'a SegmentName,
}

impl<'a> SegmentRef<'a> {
    pub(crate) fn new(root: &'a Arc<Root>, folder: &'a Path, name: &'a SegmentName) -> Self {
        Self { root, folder, name }
    }

    /// The path of the segment's file in this form.
    pub(crate) fn path(self, form: SegmentForm) -> PathBuf {
        self.folder.join(self.name.file_name(form))
    }
    /// True if the segment exists in no form.
    pub(crate) fn is_gone(self) -> bool {
        SegmentForm::ALL.into_iter().all(|form| {
            let found = self.root.fs.metadata(&self.path(form));
            found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        })
    }
}
