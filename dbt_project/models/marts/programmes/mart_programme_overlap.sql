-- One row per enterprise: which programmes reached it by the release day, and whether it exports. Reached means: ever granted
-- BUD or EMF funding, ever held a policy of HKECIC, took part in a festival; missions and Design Gallery are shown too,
-- but do not count as programmes. Only who is live on the register can still be reached. Who sells online and
-- which policies it has are columns of their own.
{{ config(indexes=[{'columns': ['programme_group']}]) }}

with smes as (
    select * from {{ ref('dim_sme') }}
),

programmes as (
    select * from {{ ref('int_sme__programmes') }}
),

trade as (
    select * from {{ ref('int_sme__last_12_months') }}
),

links as (
    select * from {{ ref('int_sme__linked') }}
),

open_build as (
    {{
        release_columns(
            [
                'business_register', 'customs_declarations', 'funding_applications', 'hkecic_policies',
                'festival_participants'
            ]
        )
    }}
),

last_12_months as (
    select * from {{ ref('int_calendar__last_12_months') }}
),

online as (
    select distinct links.sme_id
    from {{ ref('int_orders__daily') }} as daily
    inner join links on links.source = 'shop' and links.source_key = {{ shop_key('daily') }}
    inner join last_12_months on daily.day between last_12_months.first_month and last_12_months.last_day
    where daily.paid_cny > 0
),

policies as (
    select
        links.sme_id,
        {{ any_true('covers.is_in_force') }} as is_insured,
        {{ any_true("covers.policy_type = 'online_micro_business'") }} as has_online_micro_policy
    from {{ ref('int_insurance__covers') }} as covers
    inner join links on links.source = 'number' and covers.brn = links.source_key
    group by links.sme_id
),

reached as (
    select
        smes.sme_id,
        smes.sme_class,
        smes.is_sme,
        smes.counts_as_sme,
        smes.register_status,
        smes.industry_section,
        coalesce(programmes.bud_project_count, 0) > 0 as has_bud,
        coalesce(programmes.emf_project_count, 0) > 0 as has_emf,
        coalesce(programmes.policy_count, 0) > 0 as has_hkecic,
        coalesce(programmes.festival_count, 0) > 0 as has_festival,
        coalesce(programmes.mission_count, 0) > 0 as has_mission,
        coalesce(programmes.gallery_sale_day_count, 0) > 0 as has_design_gallery,
        coalesce(trade.is_exporter, false) as is_exporter,
        coalesce(trade.export_value_hkd, 0) as export_value_12m_hkd,
        online.sme_id is not null as is_online_seller,
        coalesce(policies.is_insured, false) as is_insured,
        coalesce(policies.has_online_micro_policy, false) as has_online_micro_policy
    from smes
    left join online on smes.sme_id = online.sme_id
    left join policies on smes.sme_id = policies.sme_id
    left join programmes on smes.sme_id = programmes.sme_id
    left join trade on smes.sme_id = trade.sme_id
),

counted as (
    select
        reached.*,
        case when has_bud then 1 else 0 end + case when has_emf then 1 else 0 end
        + case when has_hkecic then 1 else 0 end + case when has_festival then 1 else 0 end as programme_count
    from reached
),

final as (
    select
        counted.sme_id,
        counted.sme_class,
        counted.is_sme,
        counted.counts_as_sme,
        counted.register_status,
        counted.industry_section,
        counted.has_bud,
        counted.has_emf,
        counted.has_hkecic,
        counted.has_festival,
        counted.has_mission,
        counted.has_design_gallery,
        cast(counted.programme_count as integer) as programme_count,
        case
            when counted.programme_count = 0 then 'none'
            when counted.programme_count > 1 then 'several'
            when counted.has_bud then 'bud_only'
            when counted.has_emf then 'emf_only'
            when counted.has_hkecic then 'hkecic_only'
            else 'festival_only'
        end as programme_group,
        counted.is_exporter,
        counted.is_exporter and counted.programme_count = 0 and coalesce(counted.register_status = 'live', false)
            as is_unserved_exporter,
        cast(counted.export_value_12m_hkd as numeric(20, 2)) as export_value_12m_hkd,
        counted.is_online_seller,
        counted.is_insured,
        counted.has_online_micro_policy,
        last_12_months.last_day as period_end,
        open_build.as_of_date,
        open_build.last_complete_date,
        cast('merchants without a known number are not counted' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from counted
    cross join open_build
    cross join last_12_months
)

select * from final
