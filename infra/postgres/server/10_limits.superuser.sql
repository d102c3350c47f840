-- What only a superuser may set. The local stack runs this at each start. On a server of your own, a superuser runs it once in
-- the database of the warehouse, before `sampan init`: `psql -d <database> -f 10_limits.superuser.sql`. It can be run again.

-- No one needs these functions here, and by default every login may call them.
do $$
declare
    item record;
    called regprocedure;
begin
    for item in
        select oid from pg_catalog.pg_proc
        where pronamespace = 'pg_catalog'::regnamespace and (
            -- Large objects fill the disk, regardless of rights on tables.
            proname ~ '^lo_' or proname in ('loread', 'lowrite')
            -- Locks of a session's own making fill the lock table of the server.
            or proname ~ '^pg_(try_)?advisory_'
            -- They keep locks on what their caller has no right on: partitions, schemas, roles, and thousands of functions.
            or proname in ('pg_partition_tree', 'pg_get_partition_constraintdef', 'pg_get_object_address')
            -- Writes any number of bytes to the write-ahead log.
            or proname = 'pg_logical_emit_message'
            -- Makes a file with each call.
            or proname = 'pg_export_snapshot'
            -- Counts of rows read and written, of each table, for readers of none of them.
            or (proname ~ '^pg_stat_get_' and proname !~ '^pg_stat_get_db_' and pronargs = 1 and proargtypes[0] = 'oid'::regtype)
        )
    loop
        called := item.oid;
        execute format('revoke execute on function %s from public', called);
    end loop;
end $$;

-- Databases beside the warehouse give no one a place for temporary tables.
do $$
declare
    item record;
begin
    for item in select datname from pg_catalog.pg_database where datname in ('postgres', 'template1') loop
        execute format('revoke all on database %I from public', item.datname);
    end loop;
end $$;

-- The owner of the warehouse, which runs `sampan init`, limits the others.
do $$
declare
    owner name;
begin
    select pg_catalog.pg_get_userbyid(datdba) into owner
    from pg_catalog.pg_database where datname = pg_catalog.current_database();
    execute format('grant set on parameter temp_file_limit, log_min_messages to %I', owner);
    -- A loop with COMMIT in a DO block keeps its rows past the transaction. The owner passes the right on to loader and builder.
    revoke usage on language plpgsql from public;
    execute format('grant usage on language plpgsql to %I with grant option', owner);
    execute format('grant pg_use_reserved_connections to %I with admin option', owner);
end $$;

-- GRANT and REVOKE of a role that may give nothing, and DROP OWNED, which revokes, change nothing, and yet keep the row of what
-- they name until their transaction ends: a release could not rename the schema `marts`, nor `init` replace what the desks read, as long as a reader's session lived.
-- ALTER DEFAULT PRIVILEGES keeps the schema that it names, and is a row of each session's own: with one in each of nested
-- savepoints a login filled the server's table of locks within seconds. Event triggers do not know a GRANT on a database: publish changes no row of it.
create or replace function public.refuse_grants_of_readers() returns event_trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if not has_database_privilege(current_user, current_database(), 'create') then
        raise exception 'this login may not give or take rights' using errcode = 'insufficient_privilege';
    end if;
end $$;
do $$ begin
    -- Earlier versions did not refuse all of these.
    if not exists (
        select from pg_catalog.pg_event_trigger where evtname = 'refuse_grants_of_readers' and 'ALTER DEFAULT PRIVILEGES' = any(evttags)
    ) then
        drop event trigger if exists refuse_grants_of_readers;
        create event trigger refuse_grants_of_readers on ddl_command_start when tag in ('GRANT', 'REVOKE', 'DROP OWNED', 'ALTER DEFAULT PRIVILEGES')
        execute function public.refuse_grants_of_readers();
    end if;
end $$;
