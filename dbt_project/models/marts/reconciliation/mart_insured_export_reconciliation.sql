-- One row per financial year (ended 31 March) and product of C&SD table 645-95008, TOTAL being all: what policyholders declared to
-- HKECIC as the platform holds it beside the published value. Products are assigned by chapter, so single products differ more.
with insured_by_policy as (
    select * from {{ ref('int_insurance__monthly') }}
),

published as (
    select *
    from {{ ref('int_csd__insured_versioned') }}
    where is_current and measure = 'INS_VAL' and figure_status <> 'not_available'
),

products as (
    select * from {{ ref('insured_products') }}
),

bands as (
    select * from {{ ref('reconciliation_bands') }} where reconciliation = 'insured_exports'
),

-- The first day as a number such as 20260331.
coverage as (
    select
        10000 * extract(year from first_date) + 100 * extract(month from first_date) + extract(day from first_date)
            as first_day
    from {{ ref('int_feeds__completeness') }}
    where feed = 'hkecic_shipments'
),

open_build as (
    {{ release_columns(['hkecic_shipments']) }}
),

by_year as (
    select
        cast(
            extract(year from insured_by_policy.month)
            + case when extract(month from insured_by_policy.month) >= 4 then 1 else 0 end as integer
        ) as financial_year,
        coalesce(products.product_code, 'OTHER') as product_code,
        insured_by_policy.insured_value_hkd
    from insured_by_policy
    left join products on insured_by_policy.hs_chapter = products.hs_chapter
),

by_product as (
    select
        financial_year,
        product_code,
        sum(insured_value_hkd) as insured_value_hkd
    from by_year
    group by financial_year, product_code
),

declared as (
    select
        financial_year,
        product_code,
        insured_value_hkd
    from by_product
    union all
    select
        financial_year,
        'TOTAL' as product_code,
        sum(insured_value_hkd) as insured_value_hkd
    from by_product
    group by financial_year
),

-- Figures are published to a tenth of a million.
compared as (
    select
        published.financial_year,
        published.product_code,
        published.product,
        published.unit_published,
        published.value_hkd as published_hkd,
        50000.0 as rounding_hkd,
        coalesce(published.maturity = 'p', false) as is_marked_provisional,
        coalesce(declared.insured_value_hkd, 0) as declared_hkd,
        open_build.last_complete_date,
        case
            when coalesce(coverage.first_day > 10000 * (published.financial_year - 1) + 401, true)
                then 'before_first_shipments'
            when {{ month_may_grow(
                'hkecic_shipments', "cast(concat(published.financial_year, '-03-01') as date)", 'open_build.last_complete_date'
            ) }}
                then 'shipments_still_due'
            else 'comparable'
        end as comparability
    from published
    cross join open_build
    left join coverage on coverage.first_day is not null
    left join declared
        on published.financial_year = declared.financial_year and published.product_code = declared.product_code
),

-- What is not compared has no gap: it would say how much of the history is missing.
gaps as (
    select
        compared.*,
        case when comparability = 'comparable' then declared_hkd - published_hkd end as gap_hkd
    from compared
),

measured as (
    select
        gaps.*,
        case when published_hkd > 0 then 100.0 * gap_hkd / published_hkd end as gap_pct,
        case
            when gap_hkd is not null and published_hkd > 0
                then 100.0 * greatest(abs(gap_hkd) - rounding_hkd, 0) / published_hkd
            when abs(gap_hkd) <= rounding_hkd then 0
        end as unexplained_pct
    from gaps
),

banded as (
    select
        measured.*,
        (
            select min(bands.max_gap_pct)
            from bands
            where bands.max_gap_pct >= measured.unexplained_pct
        ) as band_pct
    from measured
),

final as (
    select
        banded.financial_year,
        cast(banded.product_code as {{ dbt.type_string() }}) as product_code,
        cast(banded.product as {{ dbt.type_string() }}) as product,
        cast(banded.declared_hkd as numeric(20, 2)) as declared_hkd,
        cast(banded.published_hkd as numeric(20, 2)) as published_hkd,
        cast(banded.unit_published as {{ dbt.type_string() }}) as published_unit,
        cast(banded.rounding_hkd as numeric(20, 2)) as rounding_hkd,
        cast(banded.gap_hkd as numeric(20, 2)) as gap_hkd,
        cast(banded.gap_pct as numeric(20, 4)) as gap_pct,
        cast(banded.unexplained_pct as numeric(20, 4)) as unexplained_pct,
        cast(
            case
                when banded.comparability <> 'comparable' then 'not_compared'
                else coalesce(bands.band, 'out_of_band')
            end as {{ dbt.type_string() }}
        ) as band,
        cast(banded.comparability as {{ dbt.type_string() }}) as comparability,
        banded.is_marked_provisional or banded.comparability = 'shipments_still_due' as is_provisional,
        {{ is_quotable('banded.is_marked_provisional', "banded.comparability = 'comparable'") }} as is_quotable,
        open_build.last_complete_date,
        cast('products by chapter of the goods, a convention of this platform' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from banded
    cross join open_build
    left join bands on banded.band_pct = bands.max_gap_pct
)

select * from final
