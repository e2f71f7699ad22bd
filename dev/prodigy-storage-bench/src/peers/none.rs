//! Replaces the modules of peers in a build without the cargo feature `peers`: each function returns no works.

/// Replaces the peers that append events.
pub(crate) mod append {
    use crate::lab::Lab;
    use crate::row::Contestant;

    pub(crate) fn one_by_one(_: &Lab, _: bool) -> Vec<Contestant> {
        Vec::new()
    }

    pub(crate) fn in_batches(_: &Lab) -> Vec<Contestant> {
        Vec::new()
    }

    pub(crate) fn from_threads(_: &Lab, _: usize) -> Vec<Contestant> {
        Vec::new()
    }

    pub(crate) fn from_processes(_: &Lab, _: usize, _: bool) -> Vec<Contestant> {
        Vec::new()
    }
}

/// Replaces the peers that read events.
pub(crate) mod scan {
    use crate::lab::Lab;
    use crate::row::Contestant;

    pub(crate) fn works(_: &Lab, _: usize) -> anyhow::Result<Vec<Contestant>> {
        Ok(Vec::new())
    }
}

/// Replaces the peers that keep checkpoints.
pub(crate) mod documents {
    use crate::lab::Lab;
    use crate::row::Contestant;

    pub(crate) fn saves(_: &Lab) -> Vec<Contestant> {
        Vec::new()
    }

    pub(crate) fn loads(_: &Lab) -> Vec<Contestant> {
        Vec::new()
    }
}

/// Replaces the peer that keeps dead letters.
pub(crate) mod queue {
    use crate::lab::Lab;
    use crate::row::Contestant;

    pub(crate) fn pushes(_: &Lab, _: usize) -> anyhow::Result<Option<Contestant>> {
        Ok(None)
    }

    pub(crate) fn cycles(_: &Lab, _: usize, _: usize) -> anyhow::Result<Option<Contestant>> {
        Ok(None)
    }
}
