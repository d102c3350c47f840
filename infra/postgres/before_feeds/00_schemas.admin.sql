-- Schemas and their owners.
create schema if not exists ops authorization sampan_loader;
create schema if not exists intake authorization sampan_loader;
create schema if not exists raw authorization sampan_loader;
create schema if not exists quarantine authorization sampan_loader;
-- Views and one function for the people at the desks. Each decides by the login what it shows or takes.
create schema if not exists desk authorization sampan_loader;
create schema if not exists staging authorization sampan_builder;
create schema if not exists intermediate authorization sampan_builder;
create schema if not exists marts authorization sampan_builder;
-- One empty table for each lock that a role takes: see sampan.database.lock.
create schema if not exists loader_lock authorization sampan_loader;
create schema if not exists builder_lock authorization sampan_builder;

grant usage on schema ops, raw, quarantine to sampan_builder;
alter default privileges for role sampan_loader in schema ops, raw, quarantine grant select on tables to sampan_builder;
revoke create on schema public from public;

-- Every bank that a consent names gets a role at once: without login or password, and with no right but to connect and to ask
-- at the desk. Only the admin role can create roles, so the loader calls this function, which creates nothing else.
create or replace function ops.ensure_bank_role(bank_id text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    role_name text := 'bank_' || lower(bank_id);
begin
    if bank_id !~ '^B[0-9]{3}$' then
        raise exception 'invalid bank identifier %: expected B and 3 digits', bank_id using errcode = 'invalid_parameter_value';
    end if;
    begin
        if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
            execute format('create role %I', role_name);
        end if;
    exception when duplicate_object or unique_violation then
        null;
    end;
    execute format('grant sampan_bank to %I', role_name);
end $$;
revoke all on function ops.ensure_bank_role(text) from public;
grant execute on function ops.ensure_bank_role(text) to sampan_loader;
-- Banks of earlier versions had these rights each for itself.
do $$
declare
    item name;
begin
    for item in select rolname from pg_catalog.pg_roles where rolname ~ '^bank_b[0-9]{3}$' loop
        execute format('grant sampan_bank to %I', item);
    end loop;
end $$;
