-- What was deleted because its retention ended, and the proof of it. Applied as sampan_loader after 40_consent; safe to apply again.
create table if not exists ops.deletion (
    deletion_id bigint generated always as identity primary key,
    kind text not null check (kind in ('batch', 'delivery', 'release', 'consents')),
    feed text,
    batch_id bigint unique references ops.batch,
    release_no bigint unique references ops.release,
    reason text not null,
    content_sha256 text,
    objects jsonb not null default '[]',
    rows_raw bigint,
    rows_quarantined bigint,
    rows_derived bigint,
    begun_at timestamptz not null default clock_timestamp(),
    database_at timestamptz,
    verified_at timestamptz,
    constraint of_one_thing check (
        (kind = 'batch') = (batch_id is not null) and (kind = 'release') = (release_no is not null)
    )
);
alter table ops.deletion drop constraint if exists deletion_kind_check;
alter table ops.deletion add constraint deletion_kind_check check (kind in ('batch', 'delivery', 'release', 'consents'));
alter table ops.deletion add column if not exists source_uri text;
create unique index if not exists deletion_of_delivery on ops.deletion (source_uri) where verified_at is null;
update ops.delivery set deleted_at = deletion.verified_at from ops.deletion
where deletion.batch_id = delivery.batch_id and deletion.verified_at is not null and delivery.deleted_at is null;
comment on table ops.deletion is 'One row per thing whose retention ended: what it was, when it was deleted and found to be gone.';
comment on column ops.deletion.content_sha256 is 'SHA-256 of the delivery, which says what was deleted without holding it.';
comment on column ops.deletion.source_uri is 'Where a delivery lay that was refused and so became no batch.';
comment on column ops.deletion.objects is 'Every version of every object that held the delivery: bucket, key, version and bytes.';
comment on column ops.deletion.rows_derived is 'Rows of the persistent tables of dbt that came from the batch, or consents, or rows of a release.';
comment on column ops.deletion.verified_at is 'When it was looked for again, everywhere, and found nowhere; null while the deletion is not complete.';
grant select on ops.deletion to sampan_builder;
