-- What `sampan init` applied last.
create table if not exists ops.schema_version (
    digest text not null,
    applied_at timestamptz not null default clock_timestamp()
);
comment on table ops.schema_version is 'One row: SHA-256 of the statements that `sampan init` applied last.';
