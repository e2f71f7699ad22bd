-- The branch of the server's history in which the store was last seen: its timeline, and the transaction that wrote the row. Locks
-- are given out again when `seen` is older than a lease.
create table @.branch (
  one boolean primary key default true,
  timeline text not null,
  written_by bigint not null,
  seen timestamptz not null
);
