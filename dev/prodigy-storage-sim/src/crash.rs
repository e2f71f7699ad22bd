//! The disks that a crash may leave: all of them, or a sample.

use std::fmt;

use crate::disk::Disk;
use crate::journal::Call;
use crate::replay::{CallOutcome, Moment, SECTOR};

/// Up to this number of pending calls, every subset is tried.
const ALL_SUBSETS: usize = 6;

/// The kind of a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// All processes die; written data is kept.
    Death,
    /// The power fails; data that was not synced may be lost.
    Power,
}

/// The number of disks that are checked for each moment of a crash.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The number of random subsets at each point at which not every subset is tried.
    pub subsets: usize,
    /// If true, every sector boundary of a write is tried as a cut, each pending call is left out by itself, and so on;
    /// otherwise only a few disks are tried.
    pub thorough: bool,
}

/// A disk after a crash.
#[derive(Clone, Debug)]
pub struct Crash {
    /// The kind of the crash.
    pub loss: Loss,
    /// The outcome of each pending call.
    pub outcomes: Vec<CallOutcome>,
    /// True if the crash came during the last call: the call did not return, and no later answer exists.
    pub within: bool,
    /// The disk and its pending calls when the next run begins.
    pub after: Moment,
}

impl Crash {
    /// The disk that the next run finds.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        self.after.live()
    }
}

/// The number of disks that were drawn at random.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drawn(pub usize);

/// All disks that are checked for a crash at this moment. If `fresh` is true, the last pending call was also the last
/// call made, and the crash may have interrupted it.
#[must_use]
pub fn crashes(
    moment: &Moment,
    fresh: bool,
    effort: Effort,
    random: &mut fastrand::Rng,
) -> (Vec<Crash>, Drawn) {
    let mut found = Vec::new();
    let cuts = if fresh { cuts(moment, effort) } else { Vec::new() };
    found.push(Crash {
        loss: Loss::Death,
        outcomes: vec![CallOutcome::There; moment.pending().len()],
        within: false,
        after: moment.clone(),
    });
    for &cut in &cuts {
        let mut outcomes = vec![CallOutcome::There; moment.pending().len()];
        if let Some(last) = outcomes.last_mut() {
            *last = CallOutcome::Cut(cut);
        }
        found.push(Crash {
            loss: Loss::Death,
            outcomes,
            within: true,
            after: moment.cut_last(cut),
        });
    }
    let (sets, drawn) = outcomes(moment, &cuts, effort, random);
    found.extend(sets.into_iter().map(|outcomes| Crash {
        loss: Loss::Power,
        after: Moment::new(moment.after(&outcomes)),
        within: false,
        outcomes,
    }));
    (found, drawn)
}

/// The positions at which a crash cuts the last write: at its beginning, after one byte, at each sector boundary,
/// before its last byte.
fn cuts(moment: &Moment, effort: Effort) -> Vec<usize> {
    let Some(Call::Write { offset, bytes, .. }) = moment.pending().last().map(|entry| &entry.call) else {
        return Vec::new();
    };
    let len = bytes.len();
    let first = (SECTOR - offset % SECTOR) as usize;
    let mut cuts = vec![0, 1, len - 1];
    if effort.thorough {
        cuts.extend((first..len).step_by(SECTOR as usize));
    } else {
        cuts.extend((first < len).then_some(first));
        cuts.push(len / 2);
    }
    cuts.retain(|cut| *cut < len);
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

fn outcomes(
    moment: &Moment,
    cuts: &[usize],
    effort: Effort,
    random: &mut fastrand::Rng,
) -> (Vec<Vec<CallOutcome>>, Drawn) {
    let pending = moment.pending();
    let count = pending.len();
    let writes: Vec<bool> = pending
        .iter()
        .map(|entry| matches!(entry.call, Call::Write { .. }))
        .collect();
    let of_file = |entry: &Call| {
        matches!(
            entry,
            Call::Write { .. } | Call::SetLen { .. } | Call::SetMode { .. }
        )
    };
    let files: Vec<bool> = pending.iter().map(|entry| of_file(&entry.call)).collect();
    let pick = |keep: &dyn Fn(usize) -> CallOutcome| (0..count).map(keep).collect::<Vec<CallOutcome>>();
    let there = |yes: bool| {
        if yes {
            CallOutcome::There
        } else {
            CallOutcome::Gone
        }
    };
    let is = |list: &[bool], at: usize| list.get(at).copied().unwrap_or_default();

    let mut sets = vec![
        pick(&|_| CallOutcome::Gone),
        pick(&|_| CallOutcome::There),
        // Three disks: names without data, data without names, and lengths with zeros as data.
        pick(&|at| there(!is(&files, at))),
        pick(&|at| there(is(&files, at))),
        pick(&|at| {
            if is(&writes, at) {
                CallOutcome::Zeros
            } else {
                CallOutcome::There
            }
        }),
    ];
    // Two disks: all calls except the last, and the last call alone.
    sets.push(pick(&|at| there(at + 1 < count)));
    sets.push(pick(&|at| there(at + 1 == count)));
    if count > 0 && is(&writes, count - 1) {
        // Two disks: every second sector of the last write, and the other sectors.
        for bits in [0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa] {
            sets.push(pick(&|at| {
                if at + 1 == count {
                    CallOutcome::Sectors(bits)
                } else {
                    CallOutcome::There
                }
            }));
        }
    }
    if effort.thorough {
        if count <= ALL_SUBSETS {
            sets.extend((0u32..1 << count).map(|bits| pick(&|at| there(bits >> at & 1 == 1))));
        }
        for point in 0..count {
            sets.push(pick(&|at| there(at < point)));
            sets.push(pick(&|at| there(at != point)));
            if is(&writes, point) {
                sets.push(pick(&|at| {
                    if at == point {
                        CallOutcome::Zeros
                    } else {
                        CallOutcome::There
                    }
                }));
            }
        }
    }
    for &cut in cuts {
        for rest in [CallOutcome::There, CallOutcome::Gone] {
            sets.push(pick(&|at| {
                if at + 1 == count {
                    CallOutcome::Cut(cut)
                } else {
                    rest
                }
            }));
        }
        if !effort.thorough {
            break;
        }
        // Names are kept without data: each written file has its new name and is empty, except for the cut last
        // write.
        sets.push(pick(&|at| {
            if at + 1 == count {
                CallOutcome::Cut(cut)
            } else {
                there(!is(&files, at))
            }
        }));
    }
    let mut drawn = 0;
    if count > 1 {
        for _ in 0..effort.subsets {
            drawn += 1;
            let set = pending.iter().map(|entry| match &entry.call {
                Call::Write { bytes, .. } => match random.u8(..8) {
                    0 => CallOutcome::Zeros,
                    1 => CallOutcome::Cut(random.usize(..bytes.len().max(1))),
                    2 => CallOutcome::Sectors(random.u64(..)),
                    3..5 => CallOutcome::Gone,
                    _ => CallOutcome::There,
                },
                _ => there(random.bool()),
            });
            sets.push(set.collect());
        }
    }
    (sets, Drawn(drawn))
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Death => "every process died",
            Self::Power => "the power failed",
        })
    }
}
