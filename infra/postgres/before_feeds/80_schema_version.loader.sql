-- What `sampan init` applied, newest last: the warehouse is what the last row says.
create table if not exists ops.schema_version (
    digest text not null,
    applied_at timestamptz not null default clock_timestamp()
);
-- Null in what earlier versions applied.
alter table ops.schema_version add column if not exists version text, add column if not exists applied_by text;
comment on table ops.schema_version is 'One row each time that `sampan init` changed the schema, or another version ran it: the newest row is in force.';
comment on column ops.schema_version.digest is 'SHA-256 of the statements that define schemas, tables and grants.';
comment on column ops.schema_version.version is 'Version of the platform that applied them.';
comment on column ops.schema_version.applied_by is 'Who ran `sampan init`.';
grant select on ops.schema_version to sampan_builder;
