//! A home folder and a project in a temporary folder, and an environment that names them.

use std::fs;
use std::path::{Path, PathBuf};

use prodigy_storage_config::{ConfigErrors, Loaded, Loader, MapEnvironment};
use tempfile::TempDir;

pub struct Fixture {
    pub folder: TempDir,
    pub environment: MapEnvironment,
}

impl Fixture {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "project"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let environment = MapEnvironment::new().with("HOME", folder.path().join("home"));
        Self { folder, environment }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file below the temporary folder, and creates the folders on its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn variable(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.environment = self.environment.with(name, value.as_ref());
        self
    }

    pub fn loader(&self) -> Loader<MapEnvironment> {
        Loader::new(self.environment.clone()).project_dir(self.path("project"))
    }

    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        self.loader().load()
    }

    /// The text without the path of the temporary folder.
    pub fn stripped(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }

    pub fn errors(&self) -> String {
        self.stripped(&self.load().unwrap_err().to_string())
    }

    pub fn notices(&self) -> Vec<String> {
        self.load()
            .unwrap()
            .notices
            .iter()
            .map(|notice| self.stripped(&notice.to_string()))
            .collect()
    }
}
