-- One row per order line with a refund that was granted: what was paid back under all its requests. A platform tells the newest
-- request of a line only, so each run of granted states is one request, with the amount that it was told last. A state
-- without any request takes back those before it.
{{
    config(
        incremental_strategy='replace_changed',
        changed='int_orders__refunds_changed',
        changed_key=['platform', 'oid'],
        indexes=[{'columns': ['platform', 'oid'], 'unique': true}]
    )
}}

with versions as (
    select * from {{ ref('int_orders__lines_versioned') }}
),

changed as (
    select * from {{ ref('int_orders__refunds_changed') }}
),

granted_lines as (
    select distinct
        versions.platform,
        versions.oid
    from versions
    {%- if is_incremental() %}
    inner join changed on versions.platform = changed.platform and versions.oid = changed.oid
    {%- endif %}
    where versions.refund_status = 'SUCCESS'
),

told as (
    select
        versions.platform,
        versions.oid,
        versions.modified_at,
        versions.refund_status,
        versions.refund_fee_cny,
        row_number() over (
            partition by versions.platform, versions.oid, versions.modified_at
            order by versions.business_date desc, versions.received_at desc, versions.batch_id desc
        ) as recency
    from versions
    inner join granted_lines on versions.platform = granted_lines.platform and versions.oid = granted_lines.oid
),

followed as (
    select
        platform,
        oid,
        modified_at,
        refund_status,
        refund_fee_cny,
        lead(refund_status) over (partition by platform, oid order by modified_at) as next_status,
        max(case when refund_status is null then modified_at end) over (partition by platform, oid) as taken_back_at
    from told
    where recency = 1
),

final as (
    select
        platform,
        oid,
        sum(refund_fee_cny) as refunded_cny
    from followed
    where
        refund_status = 'SUCCESS'
        and coalesce(next_status, 'none') <> 'SUCCESS'
        and (taken_back_at is null or modified_at > taken_back_at)
    group by platform, oid
)

select * from final
