-- Cells that published tables leave out. Applied as sampan_loader after 50_retention; safe to apply again.
create table if not exists ops.suppression (
    table_name text not null,
    series text not null,
    period date not null,
    row_key text not null,
    column_key text not null,
    reason text not null check (reason in ('primary', 'secondary')),
    primary key (table_name, series, period, row_key, column_key)
);
comment on table ops.suppression is 'Cells of published tables that the build under way, or the last one, leaves out; * is a sum.';
comment on column ops.suppression.reason is 'primary: too few enterprises or one that dominates; secondary: would give a primary away. Not published.';
grant select, insert, delete on ops.suppression to sampan_builder;
