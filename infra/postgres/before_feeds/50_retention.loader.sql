-- Deletions at the end of a retention, with proof.
create table if not exists ops.deletion (
    deletion_id bigint generated always as identity primary key,
    kind text not null check (kind in ('batch', 'delivery', 'release', 'consents', 'upload', 'pages')),
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
alter table ops.deletion add constraint deletion_kind_check
check (kind in ('batch', 'delivery', 'release', 'consents', 'upload', 'pages'));
alter table ops.deletion add column if not exists source_uri text;
alter table ops.deletion add column if not exists looked_at text;
create unique index if not exists deletion_of_delivery on ops.deletion (source_uri) where verified_at is null;
-- The name of a file is the partner's text, and may name a person: it goes with what it names. The folder stays: bucket,
-- partner, feed and business date.
create or replace function ops.without_name(address text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select regexp_replace(
        address,
        case
            when address ~ '^(s3://[^/]+/)?([a-z0-9_]+/){1,2}\d{4}-\d\d-\d\d/'
                then '^((s3://[^/]+/)?([a-z0-9_]+/){1,2}\d{4}-\d\d-\d\d/).*'
            else '^(s3://[^/]+/)?.*'
        end,
        '\1deleted'
    )
$$;
-- The same for the objects of a deletion. Keys in landing are hashes, which prove what was deleted; those in the lake are
-- made of the feed, the business date and the number of the batch.
create or replace function ops.without_names(objects jsonb) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select coalesce(
        jsonb_agg(
            case
                when item ->> 'key' ~ '/[0-9a-f]{64}[.][a-z0-9.]+$' then item
                when item ->> 'key' ~ '^[a-z0-9_]+/business_date=\d{4}-\d\d-\d\d/b[0-9]+[.]parquet$' then item
                else item || jsonb_build_object('key', ops.without_name(item ->> 'key'))
            end
        ),
        '[]'
    )
    from jsonb_array_elements(objects) as item
$$;
update ops.delivery set deleted_at = deletion.verified_at from ops.deletion
where deletion.batch_id = delivery.batch_id and deletion.verified_at is not null and delivery.deleted_at is null;
update ops.batch set source_uri = ops.without_name(source_uri), problem = problem - 'file'
where origin = 'delivery' and batch_id in (select batch_id from ops.deletion where verified_at is not null)
    and (source_uri <> ops.without_name(source_uri) or problem ? 'file');
update ops.delivery set
    source_uri = ops.without_name(source_uri) || '-' || gen_random_uuid(),
    problem = problem - 'file'
where deleted_at is not null and source_uri !~ '/deleted-[0-9a-f-]{36}$';
update ops.deletion set source_uri = ops.without_name(source_uri), objects = ops.without_names(objects)
where verified_at is not null
    and (source_uri <> ops.without_name(source_uri) or objects <> ops.without_names(objects));
comment on table ops.deletion is 'One row per deletion at the end of a retention: what was deleted, when, and when it was verified to be gone.';
comment on column ops.deletion.content_sha256 is 'SHA-256 of the delivery: it identifies what was deleted without containing it.';
comment on column ops.deletion.source_uri is 'Address of a delivery that was refused and never became a batch, of an upload in parts that was never completed, or of the pages of a release; without the name of the file once it is verified to be gone.';
comment on column ops.deletion.objects is 'Every version of every object that contained the delivery: bucket, key, version and bytes; in SeaweedFS also the file ids of its content. Keys are without the name of the file once they are verified to be gone.';
comment on column ops.deletion.looked_at is 'Where the object store was searched before verified_at.';
comment on column ops.deletion.rows_derived is 'Number of rows of dbt''s persistent tables that came from the batch; or of consents; or of the release''s rows.';
comment on column ops.deletion.verified_at is 'When a search of every place confirmed that nothing is left; null while the deletion is incomplete.';
grant select on ops.deletion to sampan_builder;
