-- One row per country code of C&SD, and one for all of them together. A code that a declaration or a mission gives and the list of
-- C&SD lacks has a row too, named by its code, so that every market of a mart has a name.
with countries as (
    select * from {{ ref('csd_countries') }}
),

named as (
    select market_csd_code from {{ ref('int_trade__monthly') }}
    union distinct
    select market_code as market_csd_code from {{ ref('int_missions__versioned') }}
),

names as (
    select * from {{ ref('code_names') }} where code_list = 'market'
),

open_build as (
    {{ release_columns() }}
),

listed as (
    select
        csd_code as market_csd_code,
        iso2_code as market_iso2_code,
        name_en,
        name_zh,
        true as is_listed
    from countries
    union all
    select
        code as market_csd_code,
        null as market_iso2_code,
        name_en,
        name_zh,
        true as is_listed
    from names
    union all
    select
        market_csd_code,
        null as market_iso2_code,
        {{ dbt.concat(["'C&SD code '", 'market_csd_code']) }} as name_en,
        {{ dbt.concat(["'統計處代號 '", 'market_csd_code']) }} as name_zh,
        false as is_listed
    from named
    where market_csd_code not in (select countries.csd_code from countries)
),

final as (
    select
        cast(listed.market_csd_code as {{ dbt.type_string() }}) as market_csd_code,
        cast(listed.market_iso2_code as {{ dbt.type_string() }}) as market_iso2_code,
        cast(listed.name_en as {{ dbt.type_string() }}) as name_en,
        cast(listed.name_zh as {{ dbt.type_string() }}) as name_zh,
        listed.is_listed,
        open_build.release_no
    from listed
    cross join open_build
)

select * from final
