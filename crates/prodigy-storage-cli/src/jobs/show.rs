//! The command `job show`.

use super::parts::Parts;
use super::row::count_in;
use super::{OneJob, open_all};
use crate::app::{Access, App};
use crate::errors::Result;
use crate::exit::Exit;

pub(crate) fn run(app: &mut App<'_>, arguments: &OneJob) -> Result<Exit> {
    let jobs = std::slice::from_ref(&arguments.job);
    for opened in open_all(app, &arguments.repo, jobs, Access::Read)? {
        let parts = Parts::of(&opened.job)?;
        parts.print_damage(app);
        if parts.is_nothing() {
            opened.must_be_known()?;
        }
        let events = parts.events(app, &opened)?;
        if app.json() {
            let mut json = parts.json();
            count_in(&mut json, events);
            app.json_line(&json)?;
            continue;
        }
        for line in parts.lines(app, events) {
            app.line(line)?;
        }
    }
    Ok(Exit::Done)
}
