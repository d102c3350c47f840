-- One row per SME, scheme and period in which neither its grants nor a rule changed, of every period since 2012 and of
-- enterprises that never applied too: `where date '2025-03-13' between valid_from and coalesce(valid_to, '9999-12-31')`.
{{ config(materialized='view') }}

with headroom as (
    select * from {{ ref('mart_funding_headroom') }}
),

rules as (
    select * from {{ ref('dim_funding_rule') }}
),

-- The rules of each scheme and, where it takes no more applications, what follows them.
periods as (
    select
        funding_scheme,
        valid_from,
        valid_to,
        true as is_open,
        government_share_pct,
        cumulative_ceiling_hkd,
        in_force_cap_hkd,
        least(cumulative_ceiling_hkd, coalesce(in_force_cap_hkd, cumulative_ceiling_hkd)) as headroom_hkd,
        bud_general_application_cap_hkd,
        bud_easy_application_cap_hkd,
        bud_ecommerce_easy_application_cap_hkd,
        emf_application_cap_hkd
    from rules
    union all
    select
        funding_scheme,
        cast({{ dbt.dateadd('day', 1, 'max(valid_to)') }} as date) as valid_from,
        null as valid_to,
        false as is_open,
        null as government_share_pct,
        null as cumulative_ceiling_hkd,
        null as in_force_cap_hkd,
        0 as headroom_hkd,
        null as bud_general_application_cap_hkd,
        null as bud_easy_application_cap_hkd,
        null as bud_ecommerce_easy_application_cap_hkd,
        null as emf_application_cap_hkd
    from rules
    group by funding_scheme
    having count(valid_to) = count(*)
),

never_applied as (
    select
        headroom.sme_id,
        headroom.funding_scheme,
        periods.valid_from,
        periods.valid_to,
        {{ in_force_on('periods', 'headroom.as_of_date') }} as is_current,
        false as has_applied,
        periods.is_open,
        periods.government_share_pct,
        periods.cumulative_ceiling_hkd,
        periods.in_force_cap_hkd,
        0 as project_count,
        0 as granted_hkd,
        0 as in_force_hkd,
        periods.headroom_hkd,
        case
            when periods.bud_general_application_cap_hkd is not null
                then least(periods.bud_general_application_cap_hkd, periods.headroom_hkd)
        end as bud_general_headroom_hkd,
        case
            when periods.bud_easy_application_cap_hkd is not null
                then least(periods.bud_easy_application_cap_hkd, periods.headroom_hkd)
        end as bud_easy_headroom_hkd,
        case
            when periods.bud_ecommerce_easy_application_cap_hkd is not null
                then least(periods.bud_ecommerce_easy_application_cap_hkd, periods.headroom_hkd)
        end as bud_ecommerce_easy_headroom_hkd,
        case
            when periods.emf_application_cap_hkd is not null
                then least(periods.emf_application_cap_hkd, periods.headroom_hkd)
        end as emf_headroom_hkd,
        headroom.as_of_date,
        headroom.last_complete_date,
        headroom.release_no
    from headroom
    inner join periods on headroom.funding_scheme = periods.funding_scheme
    where not headroom.has_applied
),

final as (
    {%- set columns = [
        'sme_id', 'funding_scheme', 'valid_from', 'valid_to', 'is_current', 'has_applied', 'is_open', 'government_share_pct',
        'cumulative_ceiling_hkd', 'in_force_cap_hkd', 'project_count', 'granted_hkd', 'in_force_hkd', 'headroom_hkd',
        'bud_general_headroom_hkd', 'bud_easy_headroom_hkd', 'bud_ecommerce_easy_headroom_hkd', 'emf_headroom_hkd',
        'as_of_date', 'last_complete_date', 'release_no'
    ] %}
    select
        {{ columns | join(',\n        ') }}
    from headroom
    where has_applied
    union all
    select
        {{ columns | join(',\n        ') }}
    from never_applied
)

select * from final
