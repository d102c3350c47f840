-- Schemas and their owners. Applied by the bootstrap role; safe to apply again.
create schema if not exists ops authorization sampan_loader;
create schema if not exists intake authorization sampan_loader;
create schema if not exists raw authorization sampan_loader;
create schema if not exists quarantine authorization sampan_loader;
create schema if not exists staging authorization sampan_builder;
create schema if not exists intermediate authorization sampan_builder;
create schema if not exists marts authorization sampan_builder;

grant usage on schema ops, raw, quarantine to sampan_builder;
alter default privileges for role sampan_loader in schema ops, raw, quarantine grant select on tables to sampan_builder;
revoke create on schema public from public;
