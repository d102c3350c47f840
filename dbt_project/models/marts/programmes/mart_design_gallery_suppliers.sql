-- One row per supplier of Design Gallery: when it first sold there, whether it sold in a shop of its own before, and whether it went
-- on to one, or to a festival, within 180 days.
with gallery as (
    select * from {{ ref('int_gallery__daily') }} where units_sold > 0
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

smes as (
    select * from {{ ref('dim_sme') }}
),

sales as (
    select * from {{ ref('int_shops__daily') }} where paid_cny > 0
),

festivals as (
    select * from {{ ref('int_festival__participants') }}
),

shop_links as (
    select * from {{ ref('int_sme__linked') }} where source = 'shop'
),

open_build as (
    {{ release_columns(['design_gallery_sales', 'platform_orders', 'festival_participants']) }}
),

ordered as (
    {{ first_whole_order_day() }}
),

history as (
    select
        sold.first_date as first_supply_known,
        ordered.first_day as first_order_known
    from {{ ref('int_feeds__completeness') }} as sold
    left join ordered on true
    where sold.feed = 'design_gallery_sales'
),

suppliers as (
    select
        links.sme_id,
        min(gallery.day) as first_supplied_on
    from gallery
    inner join links on gallery.supplier_brn = links.source_key
    group by links.sme_id
),

dated as (
    select
        suppliers.*,
        cast({{ dbt.dateadd('day', -180, 'suppliers.first_supplied_on') }} as date) as known_from,
        cast({{ dbt.dateadd('day', 180, 'suppliers.first_supplied_on') }} as date) as followed_until
    from suppliers
),

sold as (
    select
        dated.sme_id,
        min(case when sales.day > dated.first_supplied_on then sales.day end) as first_sale_after,
        {{ any_true('sales.day between dated.known_from and dated.first_supplied_on') }} as sold_before
    from dated
    inner join sales on dated.sme_id = sales.sme_id
    group by dated.sme_id
),

joined as (
    select distinct dated.sme_id
    from dated
    inner join shop_links on dated.sme_id = shop_links.sme_id
    inner join festivals
        on
            shop_links.source_key = {{ shop_key('festivals') }}
            and dated.first_supplied_on < festivals.first_day
            and dated.followed_until >= festivals.first_day
),

judged as (
    select
        dated.*,
        smes.sme_class,
        smes.counts_as_sme,
        dated.known_from >= history.first_supply_known as is_first_supply_certain,
        case
            when dated.known_from < history.first_supply_known then null
            when coalesce(sold.sold_before, false) then true
            when dated.known_from >= history.first_order_known then false
        end as sold_online_before,
        sold.first_sale_after,
        joined.sme_id is not null as joined_festival,
        coalesce(open_build.last_complete_date >= dated.followed_until, false) as is_followed,
        open_build.last_complete_date,
        open_build.release_no
    from dated
    cross join open_build
    cross join history
    inner join smes on dated.sme_id = smes.sme_id
    left join sold on dated.sme_id = sold.sme_id
    left join joined on dated.sme_id = joined.sme_id
),

final as (
    select
        sme_id,
        sme_class,
        counts_as_sme,
        first_supplied_on,
        is_first_supply_certain,
        sold_online_before,
        case when not sold_online_before then first_sale_after end as first_own_sale_on,
        case when not sold_online_before then {{ dbt.datediff('first_supplied_on', 'first_sale_after', 'day') }} end
            as days_to_own_sale,
        is_followed,
        {{ happened_within('not sold_online_before', 'first_sale_after <= followed_until', 'is_followed') }}
            as opened_shop_within_180_days,
        {{ happened_within('is_first_supply_certain', 'joined_festival', 'is_followed') }} as joined_festival_within_180_days,
        last_complete_date,
        cast('shops that share their data and are linked; who supplied when the history begins has no certain first day' as {{ dbt.type_string() }})
            as coverage_note,
        release_no
    from judged
)

select * from final
