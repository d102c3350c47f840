-- Requests: what people at the desks and in Airflow ask the platform to do. They have no other way to change anything.
create table if not exists ops.request (
    request_id bigint generated always as identity primary key,
    action text not null check (
        action in (
            'accept_batch', 'reject_batch', 'accept_finding', 'reject_finding', 'accept_proposal', 'reject_proposal',
            'correct_rows', 'accept_request', 'reject_request'
        )
    ),
    feed text,
    subject jsonb not null check (octet_length(subject::text) <= 6000000),
    reason text not null check (reason ~ '[^[:space:]]' and length(reason) <= 2000),
    requested_by text not null,
    requested_as text not null,
    requested_at timestamptz not null default clock_timestamp(),
    state text not null check (state in ('asked', 'waiting', 'done', 'refused', 'failed')),
    started_at timestamptz,
    ended_at timestamptz,
    outcome text,
    constraint ended_with_outcome check (
        (state in ('done', 'refused', 'failed')) = (ended_at is not null) and (ended_at is null or outcome is not null)
    )
);
create index if not exists request_open on ops.request (request_id) where state in ('asked', 'waiting');
comment on table ops.request is 'What people asked for at the desks and in Airflow, why, and what became of it. `sampan requests run` carries it out. Rows are never deleted.';
comment on column ops.request.requested_by is 'The login that asked, or the user of Airflow.';
comment on column ops.request.requested_as is 'The role that allowed it, asked again when it is carried out; airflow for what was decided there.';
comment on column ops.request.state is 'asked: an operator has to decide. waiting: for the next run. refused: by an operator. failed: outcome says why; nothing was changed.';
comment on column ops.request.subject is 'What it is about. Of corrected rows the number only, once they are decided.';
