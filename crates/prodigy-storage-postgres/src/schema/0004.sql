-- What was moved to another store. A repository has an empty name, and the whole store an empty repository, too. A job's row shows whether
-- a mark covers it.
create table @.moved (
  repo text collate "C" not null,
  name text collate "C" not null,
  target text not null,
  moved_at bigint not null,
  primary key (repo, name)
);
alter table @.job add column moved boolean not null default false;
