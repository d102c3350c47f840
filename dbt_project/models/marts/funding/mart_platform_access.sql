-- One row per E-commerce Easy application that was granted: whether the enterprise sold on the funded platform before, and when a
-- shop of it was first paid there after the grant.
{{ config(indexes=[{'columns': ['sme_id']}]) }}

with applications as (
    select * from {{ ref('int_funding__applications') }} where programme = 'bud_ecommerce_easy' and outcome = 'approved'
),

smes as (
    select * from {{ ref('dim_sme') }}
),

sales as (
    select * from {{ ref('int_shops__daily') }} where paid_cny > 0
),

countries as (
    select * from {{ ref('csd_countries') }}
),

open_build as (
    {{ release_columns(['funding_applications', 'platform_orders']) }}
),

beginning as (
    {{ first_whole_order_day() }}
),

-- No one delivers the orders of other platforms.
platforms as (
    select distinct platform from {{ ref('int_orders__daily') }}
),

grants as (
    select
        applications.application_no,
        applications.sme_id,
        applications.market_iso2_code,
        applications.platform,
        applications.decided_on as granted_on,
        platforms.platform is not null as is_delivered,
        cast({{ dbt.dateadd('day', -180, 'applications.decided_on') }} as date) as known_from,
        cast({{ dbt.dateadd('day', 180, 'applications.decided_on') }} as date) as followed_until
    from applications
    left join platforms on applications.platform = platforms.platform
    where applications.sme_id is not null
),

sold as (
    select
        grants.application_no,
        min(case when sales.platform = grants.platform and sales.day > grants.granted_on then sales.day end) as first_sale_after,
        {{ any_true('sales.platform = grants.platform and sales.day between grants.known_from and grants.granted_on') }}
            as sold_before
    from grants
    inner join sales on grants.sme_id = sales.sme_id
    group by grants.application_no
),

judged as (
    select
        grants.*,
        smes.sme_class,
        smes.counts_as_sme,
        countries.csd_code as market_csd_code,
        case
            when not grants.is_delivered then null
            when coalesce(sold.sold_before, false) then true
            when grants.known_from >= beginning.first_day then false
        end as sold_on_platform_before,
        sold.first_sale_after,
        sold.application_no is not null as has_shop,
        coalesce(open_build.last_complete_date >= grants.followed_until, false) as is_followed,
        open_build.last_complete_date,
        open_build.release_no
    from grants
    cross join open_build
    left join beginning on true
    inner join smes on grants.sme_id = smes.sme_id
    left join sold on grants.application_no = sold.application_no
    left join countries on grants.market_iso2_code = countries.iso2_code
),

final as (
    select
        application_no,
        sme_id,
        sme_class,
        counts_as_sme,
        market_csd_code,
        market_iso2_code,
        platform as funded_platform,
        granted_on,
        has_shop,
        sold_on_platform_before,
        case when not sold_on_platform_before then first_sale_after end as first_sale_on,
        case when not sold_on_platform_before then {{ dbt.datediff('granted_on', 'first_sale_after', 'day') }} end
            as days_to_first_sale,
        is_followed,
        {{ happened_within('not sold_on_platform_before', 'first_sale_after <= followed_until', 'is_followed') }}
            as entered_within_180_days,
        last_complete_date,
        cast('shops that share their data and are linked' as {{ dbt.type_string() }}) as coverage_note,
        release_no
    from judged
)

select * from final
