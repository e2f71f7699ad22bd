//! A private PostgreSQL server in a temporary folder.
#![allow(dead_code, reason = "each crate that includes this file uses a part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running server. Dropping it stops the server and removes its folder.
pub struct Server {
    folder: TempDir,
    binaries: PathBuf,
    port: u16,
    process: Child,
}

/// The folder of the server's programs: that of the newest version in Debian's folder, or one in `PATH`.
fn binaries() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.splice(0..0, std::env::split_paths(&path));
    found
        .into_iter()
        .rev()
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

/// The ids of a user and group other than root, since the server refuses to run as root.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = ["postgres", "nobody"].into_iter().find_map(|name| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse().unwrap());
        Some((ids.next()?, ids.next()?))
    });
    Some(user.expect("a server needs a user who is not root"))
}

/// A temporary folder to which the server's user may write.
fn own_folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    if let Some((user, group)) = unprivileged() {
        std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
    }
    folder
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = unprivileged() {
        command.gid(group).uid(user);
    }
    command
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

impl Server {
    /// Starts a server. `None` if no server is installed; then it prints that the test is skipped.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts a server like `start`, with more arguments for `initdb`.
    pub fn start_with(arguments: &[&str]) -> Option<Self> {
        let Some(binaries) = binaries() else {
            // `cargo xtask ci` counts the lines that begin with this word.
            eprintln!("SKIPPED: no PostgreSQL server is installed (apt install postgresql)");
            return None;
        };
        let folder = own_folder();
        let data = folder.path().join("data");
        let made = command(&binaries.join("initdb"))
            .args([
                "--username=app",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .args(arguments)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(Self::run(binaries, folder))
    }

    fn run(binaries: PathBuf, folder: TempDir) -> Self {
        let port = free_port();
        let process = Self::spawn(&binaries, folder.path(), port);
        let mut server = Self {
            folder,
            binaries,
            port,
            process,
        };
        server.wait_until_ready();
        server
    }

    /// Starts a synchronous standby of this server. After that, each commit on this server waits for the standby.
    pub fn standby(&self) -> Self {
        let standby = self.asynchronous_standby();
        self.set("synchronous_standby_names", "*");
        self.wait_for("select count(*) = 1 from pg_stat_replication where sync_state = 'sync'");
        standby
    }

    /// Starts a standby of this server, for which no commit waits.
    pub fn asynchronous_standby(&self) -> Self {
        let folder = own_folder();
        let copied = command(&self.binaries.join("pg_basebackup"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "app"])
            .args(["-R", "-X", "stream", "-c", "fast", "-D"])
            .arg(folder.path().join("data"))
            .output()
            .unwrap();
        assert!(
            copied.status.success(),
            "{}",
            String::from_utf8_lossy(&copied.stderr)
        );
        Self::run(self.binaries.clone(), folder)
    }

    /// Waits until a standby has everything that is stored on this server, and cuts it off.
    pub fn cut_off(&self, standby: &Self) {
        let end = self.psql("select pg_current_wal_lsn()");
        standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{}'", end.trim()));
        standby.set("primary_conninfo", "");
        self.wait_for("select count(*) = 0 from pg_stat_replication");
    }

    /// Kills this server, and makes the standby the primary.
    pub fn fail_over(&mut self, standby: &Self) {
        self.kill();
        standby.psql("select pg_promote()");
    }

    /// Waits until a query says yes.
    fn wait_for(&self, query: &str) {
        let began = Instant::now();
        while self.psql(query).trim() != "t" {
            assert!(began.elapsed() < Duration::from_secs(60), "{query} stays false");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The statements that create this server's database as it is now, as `pg_dump` writes them.
    pub fn dump(&self) -> PathBuf {
        let dumped = command(&self.binaries.join("pg_dump"))
            .args(["--clean", "--if-exists", "--dbname", &self.url()])
            .output()
            .unwrap();
        assert!(
            dumped.status.success(),
            "{}",
            String::from_utf8_lossy(&dumped.stderr)
        );
        let text = String::from_utf8(dumped.stdout).unwrap();
        self.private_file("dump.sql", &text)
    }

    /// Puts a dump back.
    pub fn put_back(&self, dump: &Path) {
        let put = self.psql_command().arg("-f").arg(dump).output().unwrap();
        assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    }

    /// A connection string for this server and another one, of which the primary is searched for.
    pub fn url_with(&self, other: &Self) -> String {
        let second = format!(",127.0.0.1:{}/postgres", other.port);
        self.url().replace("/postgres", &second)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes a setting that needs no restart, and waits until new sessions use it.
    pub fn set(&self, name: &str, value: &str) {
        self.psql(&format!("alter system set {name} = '{value}'"));
        self.psql("select pg_reload_conf()");
        let began = Instant::now();
        while self.psql(&format!("select current_setting('{name}')")).trim() != value {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{name} does not become {value}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes a file that only the server's user can read.
    pub fn private_file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = unprivileged() {
            std::os::unix::fs::chown(&path, Some(user), Some(group)).unwrap();
        }
        path
    }

    /// Kills all processes of the server.
    pub fn kill(&mut self) {
        self.signal("-KILL");
        self.process.wait().unwrap();
    }

    fn spawn(binaries: &Path, folder: &Path, port: u16) -> Child {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .unwrap();
        command(&binaries.join("postgres"))
            .arg("-D")
            .arg(folder.join("data"))
            .arg("-k")
            .arg(folder)
            .args([
                "-p",
                &port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "max_connections=200",
            ])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn wait_until_ready(&mut self) {
        let began = Instant::now();
        loop {
            let asked = command(&self.binaries.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status();
            let has_ended = self.process.try_wait().unwrap().is_some();
            if !has_ended && asked.is_ok_and(|status| status.success()) {
                return;
            }
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "the server does not start: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(50));
            if has_ended {
                // The start failed since a process of the killed server still uses the shared memory. It is tried
                // again.
                self.process = Self::spawn(&self.binaries, self.folder.path(), self.port);
            }
        }
    }

    /// Kills all processes of the server, and starts the server again.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.process = Self::spawn(&self.binaries, self.folder.path(), self.port);
        self.wait_until_ready();
    }

    /// Sends a signal to all processes of the server.
    pub fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        let children = Command::new("pgrep").args(["-P", &pid]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        for pid in std::iter::once(pid.as_str()).chain(children.lines()) {
            let _ = Command::new("kill")
                .args([signal, pid])
                .stderr(Stdio::null())
                .status();
        }
    }

    /// The log of the server.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Runs statements with `psql`, and returns its output.
    pub fn psql(&self, statements: &str) -> String {
        self.psql_at(&self.url(), statements)
    }

    /// Like `psql`, with the user and the database of a connection string.
    pub fn psql_at(&self, url: &str, statements: &str) -> String {
        let output = self
            .psql_command_at(url)
            .args(["-c", statements])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// A `psql` command without statements.
    pub fn psql_command(&self) -> Command {
        self.psql_command_at(&self.url())
    }

    fn psql_command_at(&self, url: &str) -> Command {
        let mut psql = command(&self.binaries.join("psql"));
        psql.args(["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", url]);
        psql
    }

    pub fn url(&self) -> String {
        format!("postgresql://app@127.0.0.1:{}/postgres", self.port)
    }

    /// A connection string for the Unix socket, which processes in every network namespace can reach.
    pub fn socket_url(&self) -> String {
        let folder = self.folder.path().display();
        format!("postgresql://app@/postgres?host={folder}&port={}", self.port)
    }
}

/// A running pgbouncer in transaction mode, between clients and a server.
pub struct Pooler {
    port: u16,
    process: Child,
}

impl Server {
    /// Starts a pooler for this server. `None` if none is installed; then it prints that the test is skipped.
    pub fn pooler(&self) -> Option<Pooler> {
        let program = [
            "/usr/sbin/pgbouncer",
            "/usr/bin/pgbouncer",
            "/usr/local/bin/pgbouncer",
        ];
        let Some(program) = program
            .into_iter()
            .map(Path::new)
            .find(|program| program.is_file())
        else {
            eprintln!("SKIPPED: no pgbouncer is installed (apt install pgbouncer)");
            return None;
        };
        let port = free_port();
        let settings = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} user=app\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\nmax_client_conn = 500\n\
             default_pool_size = 20\n",
            self.port
        );
        let file = self.folder.path().join("pgbouncer.ini");
        fs::write(&file, settings).unwrap();
        let process = command(program)
            .arg("-q")
            .arg(&file)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pooler = Pooler { port, process };
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "the pooler does not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(pooler)
    }
}

impl Pooler {
    pub fn url(&self) -> String {
        format!("postgresql://app@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A small file system in memory, to which the server's user may write.
pub struct SmallDisk {
    point: TempDir,
}

impl SmallDisk {
    /// Mounts a file system of this size. `None` without the right to mount; then it prints that the test is
    /// skipped.
    pub fn mount(size: &str) -> Option<Self> {
        let Some((user, group)) = unprivileged() else {
            eprintln!("SKIPPED: only root may mount a small disk");
            return None;
        };
        let point = TempDir::new().unwrap();
        let options = format!("size={size},mode=0700,uid={user},gid={group}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(point.path())
            .output()
            .unwrap();
        if !mounted.status.success() {
            let why = String::from_utf8_lossy(&mounted.stderr);
            eprintln!("SKIPPED: no small disk can be mounted here: {}", why.trim());
            return None;
        }
        Some(Self { point })
    }

    pub fn path(&self) -> &Path {
        self.point.path()
    }

    pub fn resize(&self, size: &str) {
        let resized = Command::new("mount")
            .args(["-o", &format!("remount,size={size}")])
            .arg(self.path())
            .status();
        assert!(resized.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // With `-l` the mount is hidden at once, and freed when no process uses it any more.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Drop for Server {
    fn drop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(None)) {
            return;
        }
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.process.wait();
    }
}
