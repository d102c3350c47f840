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

-- What was published of a month once, stays as it is: the same cell in two releases, one less the other, is what one enterprise
-- declared in between.
create table if not exists ops.published_cell (
    build_no bigint not null references ops.build,
    table_name text not null,
    series text not null,
    period date not null,
    row_key text not null,
    column_key text not null,
    value numeric,
    is_suppressed boolean not null default false,
    primary key (build_no, table_name, series, period, row_key, column_key)
);
comment on table ops.published_cell is 'Cells of months that a build was the first to publish. They count when it was released.';
comment on column ops.published_cell.value is 'Empty when the cell is left out.';
create table if not exists ops.published_revision (
    revision_id bigint generated always as identity primary key,
    period date not null,
    -- The newest build then: what it and those before it published of the month counts no more.
    until_build_no bigint not null references ops.build,
    reason text not null check (reason <> ''),
    decided_by text not null,
    decided_at timestamptz not null default clock_timestamp()
);
comment on table ops.published_revision is 'Months that a person let be published again, and why.';
create or replace view ops.published_known as
with counted as (
    select
        cell.table_name,
        cell.series,
        cell.period,
        min(cell.build_no) as build_no
    from ops.published_cell as cell
    inner join ops.release on cell.build_no = release.release_no
    where
        ops.as_known_no() is null
        -- A release that has the marts of another one has not shown these cells.
        and not exists (
            select from ops.carried
            where carried.build_no = cell.build_no and carried.mart = 'mart_published_' || cell.table_name
        )
        and not exists (
            select from ops.published_revision as revision
            where revision.period = cell.period and cell.build_no <= revision.until_build_no
        )
    group by cell.table_name, cell.series, cell.period
)

select
    cell.table_name,
    cell.series,
    cell.period,
    cell.row_key,
    cell.column_key,
    cell.value,
    cell.is_suppressed
from ops.published_cell as cell
inner join counted using (build_no, table_name, series, period);
comment on view ops.published_known is 'The cells that releases have shown of each month and table, as they were shown first; none in a session that builds marts as known on an earlier date.';
grant select on ops.published_known to sampan_builder;
grant select, insert, update, delete on ops.published_cell to sampan_builder;
grant select, insert on ops.published_revision to sampan_builder;
