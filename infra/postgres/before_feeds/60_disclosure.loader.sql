-- Suppressed cells of published tables.
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
-- Earlier versions had one set of cells, and a key without the build.
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
comment on table ops.suppression is 'Suppressed cells of published tables; * as a key is a total.';
comment on column ops.suppression.build_no is 'Build of marts as known on an earlier date; 0 for the current or latest build.';
comment on column ops.suppression.reason is 'primary: too few enterprises, or one dominates; secondary: would reveal a primary cell. The reason is not published.';
create or replace view ops.suppression_known as
select
    table_name,
    series,
    period,
    row_key,
    column_key,
    reason
from ops.suppression
where build_no = coalesce(ops.as_known_no(), 0);
comment on view ops.suppression_known is 'Suppressed cells of the current build or, in a session that builds marts as known on an earlier date, of that build.';
grant select on ops.suppression_known to sampan_builder;
grant select, insert, delete on ops.suppression to sampan_builder;
