//! Processes: their identity, and whether they are alive.

use std::sync::OnceLock;

use prodigy_storage_backend::Holder;

/// The inode of the machine's first process namespace. A process in it sees all processes.
#[cfg(target_os = "linux")]
const FIRST_NAMESPACE: &str = "4026531836";

/// The state of a process that signed a lock file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessState {
    Alive,
    Ended,
    /// The process belongs to another host or container, where this process can't check it.
    OutOfSight,
}

/// The name of this host.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Distinguishes this process from every other that has or had the same id: boot id, process namespace and start time,
/// joined by `/`. `None` if the system does not report them.
pub(crate) fn instance() -> Option<String> {
    static OWN: OnceLock<(u32, Option<String>)> = OnceLock::new();
    let pid = std::process::id();
    let of_this = || Some(format!("{}/{}", space()?, started(pid)?));
    let (of, known) = OWN.get_or_init(|| (pid, of_this()));
    // The process has forked: the stored value describes its parent.
    if *of == pid { known.clone() } else { of_this() }
}

pub(crate) fn state_of(signer: &Holder) -> ProcessState {
    if signer.host != host() {
        return ProcessState::OutOfSight;
    }
    let Some((space_then, started_then)) = signer.instance.as_deref().and_then(|text| text.rsplit_once('/'))
    else {
        return if is_alive(signer.pid) {
            ProcessState::Alive
        } else {
            ProcessState::Ended
        };
    };
    let Some(space_now) = space() else {
        return if is_alive(signer.pid) {
            ProcessState::Alive
        } else {
            ProcessState::Ended
        };
    };
    if space_then != space_now {
        let boot = |space: &str| space.split('/').next().map(str::to_owned);
        // After a reboot, every process of the earlier boot has ended. In the same boot, the process is in another
        // namespace.
        return if boot(space_then) == boot(&space_now) {
            ProcessState::OutOfSight
        } else {
            ProcessState::Ended
        };
    }
    if is_alive(signer.pid) && started(signer.pid).is_some_and(|now| now == started_then) {
        ProcessState::Alive
    } else {
        ProcessState::Ended
    }
}

/// True if a process with this id exists on this host, under any user.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    !matches!(
        rustix::process::test_kill_process(pid),
        Err(rustix::io::Errno::SRCH)
    )
}

/// True if a process was stopped by a signal, or by a debugger: it keeps its locks, and does nothing.
#[cfg(target_os = "linux")]
pub(crate) fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('T' | 't'))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_stopped(_pid: u32) -> bool {
    false
}

/// The boot id and the process namespace, joined by `/`.
#[cfg(target_os = "linux")]
fn space() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{}/{}", boot.trim(), namespace()?))
}

#[cfg(target_os = "linux")]
fn namespace() -> Option<String> {
    let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let text = link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?;
    Some(text.to_owned())
}

/// True if this process sees the locks of every process of the machine.
#[cfg(target_os = "linux")]
pub(super) fn sees_all() -> bool {
    namespace().is_some_and(|namespace| namespace == FIRST_NAMESPACE)
}

/// The start time of a process, in ticks since the boot.
#[cfg(target_os = "linux")]
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may contain any character.
    let behind_name = stat.rsplit_once(')')?.1;
    behind_name.split_ascii_whitespace().nth(19).map(str::to_owned)
}

#[cfg(not(target_os = "linux"))]
fn space() -> Option<String> {
    None
}

#[cfg(not(target_os = "linux"))]
fn started(_pid: u32) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use prodigy_storage_layout::Timestamp;

    use super::*;

    fn holder(pid: u32, instance: Option<String>) -> Holder {
        Holder::new(pid, host(), Timestamp::MIN, String::new()).instance(instance)
    }

    #[test]
    fn processes_live_or_not() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(0));
        assert!(!is_alive(u32::MAX));
        assert!(!is_alive(i32::MAX as u32));
    }

    #[test]
    fn a_process_without_an_instance_goes_by_its_id() {
        assert_eq!(state_of(&holder(std::process::id(), None)), ProcessState::Alive);
        assert_eq!(state_of(&holder(i32::MAX as u32, None)), ProcessState::Ended);
        let mut elsewhere = holder(std::process::id(), None);
        elsewhere.host = "another host".into();
        assert_eq!(state_of(&elsewhere), ProcessState::OutOfSight);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_got_the_id_of_an_ended_one_is_another() {
        let pid = std::process::id();
        let own = instance().unwrap();
        assert_eq!(state_of(&holder(pid, Some(own.clone()))), ProcessState::Alive);
        let (space, started) = own.rsplit_once('/').unwrap();
        let (boot, namespace) = space.split_once('/').unwrap();
        let state = |text: String| state_of(&holder(pid, Some(text)));
        assert_eq!(state(format!("{space}/{started}0")), ProcessState::Ended);
        assert_eq!(
            state(format!("another-boot/{namespace}/{started}")),
            ProcessState::Ended
        );
        assert_eq!(state(format!("{boot}/1/{started}")), ProcessState::OutOfSight);
    }
}
