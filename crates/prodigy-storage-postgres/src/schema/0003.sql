-- The items whose contents changed since they got their place: of these alone an earlier one may become eligible again.
create index item_changed on @.item (job, revision) where eligible and revision > place;
-- Leases are renewed by their ids.
create index lock_lease on @.lock (lease);
