-- What the warehouse was last brought to. Applied as sampan_loader after 70_transfer; safe to apply again.
create table if not exists ops.applied (
    digest text not null,
    applied_at timestamptz not null default clock_timestamp()
);
comment on table ops.applied is 'One row: SHA-256 of the scripts, contracts and library that `sampan init` applied last.';
