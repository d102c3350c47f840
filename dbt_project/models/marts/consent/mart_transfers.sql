-- One row per data set that left the platform under the GBA Standard Contract, until the build. What may have left, because a
-- share died on its way, counts as left.
with transfers as (
    select * from {{ ref('stg_ops__transfers') }}
),

open_build as (
    {{ release_columns() }}
),

final as (
    select
        transfers.transfer_id,
        transfers.mart,
        transfers.shared_release_no,
        transfers.recipient,
        transfers.recipient_city,
        transfers.purpose as transfer_purpose,
        transfers.contract_no,
        transfers.row_count,
        transfers.content_sha256,
        transfers.begun_at as transferred_at,
        transfers.done_at is not null as is_complete,
        open_build.release_no
    from transfers
    cross join open_build
)

select * from final
