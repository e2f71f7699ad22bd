//! Constructors for changes of dead letters.

use prodigy_storage_backend::{Change, Claim, ItemId, LeaseToken, Settlement};

/// Acknowledges the item under a token.
pub fn acknowledged(token: &LeaseToken) -> Settlement {
    Settlement::new(Claim::Lease(token.clone()), Change::Remove)
}

/// Releases the item under a token.
pub fn released(token: &LeaseToken) -> Settlement {
    let delay = std::time::Duration::ZERO;
    Settlement::new(Claim::Lease(token.clone()), Change::Release { delay })
}

/// Removes an item.
pub fn removed(id: &ItemId) -> Settlement {
    Settlement::new(Claim::Item(id.clone()), Change::Remove)
}
