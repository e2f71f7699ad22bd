-- The removal of old events: how far each writer's events were removed, and a count that changes with each removal.
alter table @.writer add column removed bigint not null default 0;
alter table @.writer add column newest uuid;
alter table @.job add column removals bigint not null default 0;
alter table @.job add column newest uuid;
