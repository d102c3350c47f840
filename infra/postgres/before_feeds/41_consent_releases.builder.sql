-- Releases of earlier versions: banks, or people with a bank's role and another one, could name their tables, and the views on
-- them had no barrier, so that a bank's condition could be tried on a row before its consent was checked.
do $$
declare
    item record;
begin
    for item in
        select n.oid::regnamespace as release_schema, r.rolname from pg_namespace n
        join pg_roles r on r.rolname ~ '^bank_b[0-9]{3}$' and has_schema_privilege(r.rolname, n.oid, 'usage')
        where n.nspname ~ '^release_[0-9]+$' and pg_has_role(n.nspowner, 'usage')
    loop
        execute format('revoke usage on schema %s from %I', item.release_schema, item.rolname);
    end loop;
    for item in
        select c.oid::regclass as table_name, replace(n.nspname, 'release_', 'consented_') as consented from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where c.relkind = 'r' and c.relrowsecurity and n.nspname ~ '^release_[0-9]+$' and pg_has_role(c.relowner, 'usage')
    loop
        execute format('create schema if not exists %I', item.consented);
        execute format('alter table %s set schema %I', item.table_name, item.consented);
    end loop;
    for item in
        select c.oid::regclass as view_name, rtrim(pg_get_viewdef(c.oid), ';') as definition from pg_class c
        where c.relkind = 'v' and c.relnamespace::regnamespace::text ~ '^marts' and pg_has_role(c.relowner, 'usage')
            and 'security_invoker=true' = any(c.reloptions) and pg_get_viewdef(c.oid) !~ 'MATERIALIZED'
    loop
        execute format(
            'create or replace view %s with (security_invoker = true) as with readable as materialized (%s)'
            ' select * from readable', item.view_name, item.definition
        );
    end loop;
end $$;
