-- The identity of a writer. A server that lost its last commits gives the ordinal of a lost writer to another one.
alter table @.writer add column id uuid not null default gen_random_uuid();
