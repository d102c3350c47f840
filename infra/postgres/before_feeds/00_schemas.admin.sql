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

-- A bank that consents name gets a role of its own at once: without a login, a password or any right but to connect. Only
-- the bootstrap role may make roles, so the loader asks it by this function, which makes nothing else.
create or replace function ops.ensure_bank_role(bank_id text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    role_name text := 'bank_' || lower(bank_id);
begin
    if bank_id !~ '^B[0-9]{3}$' then
        raise exception 'no bank''s identifier' using errcode = 'invalid_parameter_value';
    end if;
    begin
        if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
            execute format('create role %I', role_name);
        end if;
    exception when duplicate_object or unique_violation then
        null;
    end;
    execute format('grant connect on database %I to %I', current_database(), role_name);
end $$;
revoke all on function ops.ensure_bank_role(text) from public;
grant execute on function ops.ensure_bank_role(text) to sampan_loader;
