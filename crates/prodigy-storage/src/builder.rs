//! Builds a [`Storage`].

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use prodigy_storage_backend::{
    Backend, Clock, ErrorKind, Fence, Foreign, InvalidFence, Result, StorageError, SystemClock,
};
use prodigy_storage_config::{
    Environment, FENCE_VARIABLE, Loader, Notice, Origin, ProcessEnvironment, StorageConfig,
};
use prodigy_storage_layout::{Ceilings, Identity};

use crate::call::Caller;
use crate::checkpoints::Setups;
use crate::dlq::InHand;
#[cfg(feature = "file")]
use crate::doctor::Doctor;
use crate::error::refused_config;
use crate::notice::StorageNotice;
use crate::open;
use crate::storage::{Inner, Storage};

/// Options for opening [`Storage`]: the sources of its configuration, and values that the program sets itself.
///
/// ```no_run
/// use prodigy_storage::Storage;
///
/// let storage = Storage::builder().config_file("storage.yaml").read_only(true).open()?;
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[must_use = "a builder does nothing until `open` is called"]
pub struct StorageBuilder {
    environment: Box<dyn Environment + Send + Sync>,
    home: Option<PathBuf>,
    project_dir: Option<PathBuf>,
    config_file: Option<PathBuf>,
    config: Option<StorageConfig>,
    flags: Vec<(String, OsString)>,
    settings: Vec<(String, OsString)>,
    backend: Option<Arc<dyn Backend>>,
    clock: Arc<dyn Clock>,
    read_only: bool,
    interrupt: Option<&'static AtomicBool>,
    announce: Option<fn(&str)>,
}

impl StorageBuilder {
    pub(crate) fn new() -> Self {
        Self {
            environment: Box::new(ProcessEnvironment),
            home: None,
            project_dir: None,
            config_file: None,
            config: None,
            flags: Vec::new(),
            settings: Vec::new(),
            backend: None,
            clock: Arc::new(SystemClock),
            read_only: false,
            interrupt: None,
            announce: None,
        }
    }

    /// Sets the source of environment variables. Default: the environment of the process.
    pub fn environment(mut self, environment: impl Environment + Send + Sync + 'static) -> Self {
        self.environment = Box::new(environment);
        self
    }

    /// Sets the home folder, instead of the one that the environment names.
    pub fn home(mut self, home: impl Into<PathBuf>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// Sets a path in the project whose `.prodigy/config.*` is read; by default the current folder. If the path is
    /// in a git worktree, the file at the root of the worktree is read.
    pub fn project_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.project_dir = Some(path.into());
        self
    }

    /// Sets the path of the configuration file. The file must exist.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config_file = Some(path.into());
        self
    }

    /// Sets the whole configuration. No configuration file is read. Of the variables only
    /// `GIT_CEILING_DIRECTORIES` is read and, if [`base_dir`](crate::config::FileSettings::base_dir) has its
    /// default, those that decide the default: `PRODIGY_HOME` and the home folder.
    pub fn config(mut self, config: StorageConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// Sets a value that a command line gave for the key at this path. It overrides files and variables.
    pub fn flag(mut self, key: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.flags.push((key.into(), value.into()));
        self
    }

    /// Sets a value of the program for the key at this path. It overrides all other sources.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }

    /// Sets the root of all data; the same as `set("backend_config.base_dir", path)`.
    pub fn base_dir(self, path: impl Into<PathBuf>) -> Self {
        self.set("backend_config.base_dir", path.into())
    }

    /// Sets a backend to use instead of the configured one. Retries, limit and cache still apply.
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Sets the wall clock, for tests. A backend that was set by [`backend`](Self::backend) keeps its own clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The configuration of the backend that would be opened; `None` if the program passed a backend.
    pub(crate) fn configured(&self) -> Result<Option<StorageConfig>> {
        match self.backend {
            Some(_) => Ok(None),
            None => Ok(Some(self.load()?.0)),
        }
    }

    /// The clock that [`clock`](Self::clock) set, or else the system's.
    pub(crate) fn clock_in_use(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// If true, opens for reading only: nothing is created, moved, registered or repaired, and every write fails
    /// as [`ReadOnly`](crate::ErrorKind::ReadOnly). Works on a read-only mount, and for a root that does not
    /// exist.
    pub fn read_only(mut self, yes: bool) -> Self {
        self.read_only = yes;
        self
    }

    /// Sets a flag that ends waits, for example raised by a signal handler. When it is raised, waits for locks of
    /// other processes and pauses before retries end, and their calls fail as
    /// [`Interrupted`](crate::ErrorKind::Interrupted). A call that begins after the flag was raised is not ended,
    /// so that a program can still store its data.
    pub fn interrupt(mut self, raised: &'static AtomicBool) -> Self {
        self.interrupt = Some(raised);
        self
    }

    /// Sets a function that reports long waits, for example to a person at a terminal. A call that has waited for more than a second
    /// for a lock that another process holds calls it once, with a text that names the lock and its holder. Waits for named locks
    /// are not reported: their caller chose how long to wait.
    pub fn on_wait(mut self, announce: fn(&str)) -> Self {
        self.announce = Some(announce);
        self
    }

    /// Loads the configuration and opens the backend. The root of a file backend is created by the first write.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig), whose [`source`](std::error::Error::source) is the
    /// [`ConfigErrors`](crate::config::ConfigErrors) with everything that is wrong;
    /// [`Refused`](crate::ErrorKind::Refused) for a root that is not safe;
    /// [`NewerFormat`](crate::ErrorKind::NewerFormat) for a root that a newer version wrote;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a backend whose cargo feature is off.
    pub fn open(self) -> Result<Storage> {
        let (config, mut notices) = self.load()?;
        if !config.enable_locking {
            notices.push(StorageNotice::LockingDisabled);
        }
        if self.backend.is_none()
            && config.backend == prodigy_storage_config::BackendKind::Memory
            && !config.memory.persist_to_disk
        {
            notices.push(StorageNotice::NothingKept);
        }
        let ceilings = self.ceilings();
        let fence = self.fence()?;
        #[cfg(feature = "file")]
        let given = self.backend.is_some();
        let backend = match self.backend {
            Some(backend) => backend,
            None => open::open(&config, self.read_only, &self.clock)?,
        };
        let capabilities = backend.capabilities();
        if let (Some(root), Some(owner)) = (capabilities.root, capabilities.foreign_owner) {
            notices.push(StorageNotice::ForeignOwner { root, owner });
        }
        warn(&notices);
        Ok(Storage::from_inner(Inner {
            caller: Caller::new(backend, &config, self.read_only).interruptible(self.interrupt),
            config,
            notices,
            clock: self.clock,
            #[cfg(feature = "file")]
            given,
            setups: Setups::default(),
            in_hand: InHand::default(),
            foreign: Foreign::default(),
            ceilings,
            interrupt: self.interrupt,
            announce: self.announce,
            fence,
        }))
    }

    /// Loads the configuration and returns the doctor, which finds damage and moves it to quarantine. Unlike
    /// [`open`](Self::open), this also works on a root whose `format.json` is damaged.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig); [`Refused`](crate::ErrorKind::Refused) for a root that is not
    /// safe; [`Unsupported`](crate::ErrorKind::Unsupported) for a backend that keeps neither files nor a snapshot.
    #[cfg(feature = "file")]
    pub fn doctor(self) -> Result<Doctor> {
        let config = self.load_and_warn()?;
        Doctor::of(&config, self.read_only, &self.clock)
    }

    /// Loads the configuration and returns the backup, which writes a store or one of its jobs to an archive, and
    /// restores an archive. Unlike [`open`](Self::open), this also works on a root with an unfinished restore.
    ///
    /// ```
    /// use std::io::Cursor;
    /// use prodigy_storage::Storage;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let at = |name: &str| Storage::builder().flag("backend_config.base_dir", folder.path().join(name));
    /// at("root").open()?.repo("shop")?.job("mapreduce-7")?.events().append(&"started")?;
    ///
    /// let mut archive = Vec::new();
    /// at("root").backup()?.write(None, &mut archive)?;
    /// at("copy").backup()?.restore(&mut Cursor::new(archive), None)?;
    /// let copy = at("copy").open()?;
    /// assert_eq!(copy.repo("shop")?.job("mapreduce-7")?.events().read::<String>()?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig); [`Refused`](crate::ErrorKind::Refused) for a root that is not
    /// safe.
    #[cfg(feature = "backup")]
    pub fn backup(self) -> Result<crate::Backup> {
        let config = self.load_and_warn()?;
        let fence = self.fence()?;
        crate::backup::of(config, self.read_only, self.clock, self.interrupt, fence)
    }

    /// Loads the configuration and returns the schema of its database. The schema need not exist yet.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig); [`Unsupported`](crate::ErrorKind::Unsupported) if the
    /// configured backend is not `postgres`.
    #[cfg(feature = "postgres")]
    pub fn schema(self) -> Result<crate::Schema> {
        let config = self.load_and_warn()?;
        crate::Schema::of(&config, &self.clock)
    }

    /// Loads the configuration, and logs warnings about it.
    #[cfg(any(feature = "file", feature = "postgres"))]
    fn load_and_warn(&self) -> Result<StorageConfig> {
        let (config, notices) = self.load()?;
        warn(&notices);
        Ok(config)
    }

    fn load(&self) -> Result<(StorageConfig, Vec<StorageNotice>)> {
        let project = self.project();
        if let Some(config) = &self.config {
            let environment = Homed {
                environment: &*self.environment,
                home: self.home.as_deref(),
            };
            let config = config
                .resolved(&environment, project.as_deref())
                .map_err(refused_config)?;
            let local =
                !config.file.use_global && config.backend == prodigy_storage_config::BackendKind::File;
            let notice = local.then(|| Notice::LocalStorage {
                origin: Origin::Code,
                path: config.file.base_dir.clone(),
            });
            return Ok((config, notice.into_iter().map(StorageNotice::from).collect()));
        }
        let mut loader = Loader::new(&*self.environment);
        if let Some(home) = &self.home {
            loader = loader.home(Some(home.clone()));
        }
        if let Some(project) = project {
            loader = loader.project_dir(project);
        }
        if let Some(file) = &self.config_file {
            loader = loader.file(file);
        }
        for (key, value) in &self.flags {
            loader = loader.flag(key, value);
        }
        for (key, value) in &self.settings {
            loader = loader.set(key, value);
        }
        let loaded = loader.load().map_err(refused_config)?;
        Ok((
            loaded.config,
            loaded.notices.into_iter().map(StorageNotice::from).collect(),
        ))
    }

    /// The fencing token in the environment variable that `prodigy-storage lock run` sets for its command.
    fn fence(&self) -> Result<Option<Fence>> {
        if self.config.is_some() {
            return Ok(None);
        }
        let variable = self.environment.var(FENCE_VARIABLE);
        let Some(value) = variable.filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let fence = value.to_string_lossy().parse().map_err(|error: InvalidFence| {
            let kind = ErrorKind::InvalidConfig;
            StorageError::new(kind, "open storage", FENCE_VARIABLE, error.to_string())
                .with_hint("`lock run` sets it for its command; unset it to write without a fencing token")
        })?;
        Ok(Some(fence))
    }

    /// The root of the git worktree that contains the project's path; the path itself if it is in none.
    fn project(&self) -> Option<PathBuf> {
        let path = match &self.project_dir {
            Some(path) => path.clone(),
            None => std::env::current_dir().ok()?,
        };
        // A broken `.git` file is ignored here, since the configuration does not depend on git. `repo_at` reports
        // it.
        let identity = Identity::below(&path, &self.ceilings()).ok();
        Some(identity.and_then(|identity| identity.worktree).unwrap_or(path))
    }

    /// The folders at which the search for a git repository ends, from the variable of git.
    fn ceilings(&self) -> Ceilings {
        let value = self.environment.var("GIT_CEILING_DIRECTORIES");
        value.map(|value| Ceilings::parse(&value)).unwrap_or_default()
    }
}

fn warn(notices: &[StorageNotice]) {
    for notice in notices {
        tracing::warn!("{notice}");
    }
}

impl fmt::Debug for StorageBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageBuilder")
            .field("config_file", &self.config_file)
            .field("project_dir", &self.project_dir)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

/// An environment in which the home folder is replaced.
struct Homed<'a> {
    environment: &'a (dyn Environment + Send + Sync),
    home: Option<&'a Path>,
}

impl Environment for Homed<'_> {
    fn var(&self, name: &str) -> Option<OsString> {
        self.environment.var(name)
    }

    fn names(&self) -> Vec<OsString> {
        self.environment.names()
    }

    fn home(&self) -> Option<PathBuf> {
        self.home.map(Path::to_owned).or_else(|| self.environment.home())
    }

    fn user(&self) -> u32 {
        self.environment.user()
    }
}
