-- Deletions at the end of a retention, with proof.
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
alter table ops.deletion add column if not exists looked_at text;
create unique index if not exists deletion_of_delivery on ops.deletion (source_uri) where verified_at is null;
update ops.delivery set deleted_at = deletion.verified_at from ops.deletion
where deletion.batch_id = delivery.batch_id and deletion.verified_at is not null and delivery.deleted_at is null;
comment on table ops.deletion is 'One row per deletion at the end of a retention: what was deleted, when, and when it was verified to be gone.';
comment on column ops.deletion.content_sha256 is 'SHA-256 of the delivery: it identifies what was deleted without containing it.';
comment on column ops.deletion.source_uri is 'Address of a delivery that was refused and never became a batch.';
comment on column ops.deletion.objects is 'Every version of every object that contained the delivery: bucket, key, version and bytes; in SeaweedFS also the file ids of its content.';
comment on column ops.deletion.looked_at is 'Where the object store was searched before verified_at.';
comment on column ops.deletion.rows_derived is 'Number of rows of dbt''s persistent tables that came from the batch; or of consents; or of the release''s rows.';
comment on column ops.deletion.verified_at is 'When a search of every place confirmed that nothing is left; null while the deletion is incomplete.';
grant select on ops.deletion to sampan_builder;
