-- One row per year of movement and HKHS code that declarations name: whether the edition of the year lists it. Codes of no edition
-- are kept as declared, and reported here.
with used as (
    select * from {{ ref('int_trade__codes_used') }}
),

editions as (
    select * from {{ ref('int_hkhs__editions') }}
),

open_build as (
    {{ release_columns(['customs_declarations']) }}
),

known_years as (
    select distinct edition_year from editions
),

other_editions as (
    select
        hkhs_code,
        max(edition_year) as edition_year
    from editions
    group by hkhs_code
),

final as (
    select
        used.edition_year,
        cast(used.hkhs_code as {{ dbt.type_string() }}) as hkhs_code,
        cast(
            case
                when editions.hkhs_code is not null then 'in_edition'
                when known_years.edition_year is null then 'edition_not_there'
                when other_editions.hkhs_code is not null then 'in_other_edition'
                else 'unknown'
            end as {{ dbt.type_string() }}
        ) as code_status,
        other_editions.edition_year as newest_edition,
        cast(editions.description_en as {{ dbt.type_string() }}) as description_en,
        cast(editions.description_zh as {{ dbt.type_string() }}) as description_zh,
        cast(editions.unit_en as {{ dbt.type_string() }}) as unit,
        used.first_declared_on,
        used.last_declared_on,
        open_build.last_complete_date,
        open_build.release_no
    from used
    cross join open_build
    left join editions on used.edition_year = editions.edition_year and used.hkhs_code = editions.hkhs_code
    left join known_years on used.edition_year = known_years.edition_year
    left join other_editions on used.hkhs_code = other_editions.hkhs_code
)

select * from final
