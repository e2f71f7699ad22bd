//! Creates settlements of dead letters.

use prodigy_storage_backend::{Change, Claim, ItemId, LeaseToken, Settlement};

/// The settlement that acknowledges the item leased under this token.
pub fn acknowledged(token: &LeaseToken) -> Settlement {
    Settlement::new(Claim::Lease(token.clone()), Change::Remove)
}

/// The settlement that releases the item leased under this token.
pub fn released(token: &LeaseToken) -> Settlement {
    let delay = std::time::Duration::ZERO;
    Settlement::new(Claim::Lease(token.clone()), Change::Release { delay })
}

/// The settlement that removes an item.
pub fn removed(id: &ItemId) -> Settlement {
    Settlement::new(Claim::Item(id.clone()), Change::Remove)
}
