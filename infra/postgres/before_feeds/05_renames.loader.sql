-- Earlier versions used other names. The rows stay; only the names change. Each statement does nothing the second time.
alter table if exists ops.look rename to feed_poll;
alter table if exists ops.applied rename to schema_version;
alter table if exists ops.release_switch rename to release_activation;
alter view if exists ops.waiting rename to open_problem;

do $$
declare
    renamed record;
begin
    for renamed in
        select attribute.attrelid::regclass as table_name, names.old_name, names.new_name
        from (
            values
            ('ops.feed_poll', 'looked_at', 'polled_at'),
            ('ops.release_activation', 'switch_no', 'activation_no'),
            ('ops.release_activation', 'switched_at', 'activated_at'),
            ('ops.batch', 'shape', 'proven_rules_sha256')
        ) as names (table_name, old_name, new_name)
        inner join pg_attribute as attribute
            on to_regclass(names.table_name) = attribute.attrelid and names.old_name = attribute.attname
    loop
        execute format('alter table %s rename column %I to %I', renamed.table_name, renamed.old_name, renamed.new_name);
    end loop;

    -- Names that PostgreSQL derived from a table's old name.
    for renamed in
        select constraints.conrelid::regclass as table_name, constraints.conname as old_name,
            replace(constraints.conname, names.old_name, names.new_name) as new_name
        from (
            values
            ('ops.feed_poll', 'look_', 'feed_poll_'), ('ops.release_activation', 'release_switch_', 'release_activation_')
        ) as names (table_name, old_name, new_name)
        inner join pg_constraint as constraints
            on to_regclass(names.table_name) = constraints.conrelid
            and starts_with(constraints.conname, names.old_name)
    loop
        execute format('alter table %s rename constraint %I to %I', renamed.table_name, renamed.old_name, renamed.new_name);
    end loop;
end $$;
alter sequence if exists ops.release_switch_switch_no_seq rename to release_activation_activation_no_seq;
