-- The lake: raw as Parquet in the object store.
create table if not exists ops.lake_object (
    batch_id bigint primary key references ops.batch,
    token bigint not null,
    layout text not null,
    begun_at timestamptz not null default clock_timestamp(),
    rows bigint,
    bytes bigint,
    content_sha256 text,
    etag text,
    written_at timestamptz,
    constraint written_whole check (num_nulls(rows, bytes, content_sha256, etag, written_at) in (0, 5))
);
comment on table ops.lake_object is 'One row for each batch that has, or may have, an object in the lake. It is there before the object, and goes after it.';
comment on column ops.lake_object.token is 'Token of the batch whose rows the object has: a batch with another token has been changed since.';
comment on column ops.lake_object.layout is 'SHA-256 of names, types and order of its columns: an object with another layout is written again.';
comment on column ops.lake_object.content_sha256 is 'SHA-256 of the object; null while it is being written.';
comment on column ops.lake_object.etag is 'What the object store calls this content: another one there means that the object was changed.';
