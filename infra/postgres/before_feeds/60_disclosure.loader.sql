-- Cells that published tables leave out. Applied as sampan_loader after 50_retention; safe to apply again.
create table if not exists ops.suppression (
    build_no bigint not null default 0,
    table_name text not null,
    series text not null,
    period date not null,
    row_key text not null,
    column_key text not null,
    reason text not null check (reason in ('primary', 'secondary')),
    primary key (build_no, table_name, series, period, row_key, column_key)
);
-- A warehouse from before look-backs had one set of cells, and a key without the build: each build then had one place only.
alter table ops.suppression add column if not exists build_no bigint not null default 0;
do $$ begin
    if not exists (
        select from pg_constraint
        where conrelid = 'ops.suppression'::regclass and contype = 'p' and cardinality(conkey) = 6
    ) then
        alter table ops.suppression drop constraint if exists suppression_pkey,
            add primary key (build_no, table_name, series, period, row_key, column_key);
    end if;
end $$;
comment on table ops.suppression is 'Cells of published tables that the build under way, or the last one, leaves out; * is a sum.';
comment on column ops.suppression.build_no is 'Look-back that leaves the cell out; 0 for the build under way, or the last one.';
comment on column ops.suppression.reason is 'primary: too few enterprises or one that dominates; secondary: would give a primary away. Not published.';
create or replace view ops.suppression_known as
select table_name, series, period, row_key, column_key, reason from ops.suppression
where build_no = coalesce(ops.as_known_no(), 0);
comment on view ops.suppression_known is 'What the build under way leaves out, or a look-back.';
grant select on ops.suppression_known to sampan_builder;
grant select, insert, delete on ops.suppression to sampan_builder;
