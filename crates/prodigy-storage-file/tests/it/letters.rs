//! Changes of dead letters.

use prodigy_storage_backend::{Change, Claim, ItemId, LeaseToken, Settlement};

/// The item that the token took is done.
pub fn acknowledged(token: &LeaseToken) -> Settlement {
    Settlement::new(Claim::Lease(token.clone()), Change::Remove)
}

/// The item that the token took is pending again.
pub fn released(token: &LeaseToken) -> Settlement {
    let delay = std::time::Duration::ZERO;
    Settlement::new(Claim::Lease(token.clone()), Change::Release { delay })
}

/// The item goes.
pub fn removed(id: &ItemId) -> Settlement {
    Settlement::new(Claim::Item(id.clone()), Change::Remove)
}
