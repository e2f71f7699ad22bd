//! Stubs without peers, for a build without the cargo feature.

/// The peers' rows of appending: none.
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

/// The peers' rows of reading events: none.
pub(crate) mod scan {
    use crate::lab::Lab;
    use crate::row::Contestant;

    pub(crate) fn works(_: &Lab, _: usize) -> anyhow::Result<Vec<Contestant>> {
        Ok(Vec::new())
    }
}

/// The peers' rows of checkpoints: none.
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

/// The peers' rows of dead letters: none.
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
