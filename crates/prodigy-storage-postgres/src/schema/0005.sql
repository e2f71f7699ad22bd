-- A lease is found by its token, which is random. In an index that begins with the job, the server may look through the entries of
-- all leases of the job, and through those that vacuum has not removed yet.
drop index @.item_token;
create index item_token on @.item (token) where token is not null;
