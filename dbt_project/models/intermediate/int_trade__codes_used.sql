-- One row per year of movement and HKHS code that a declaration ever named, with the first and last business date of one.
{{ config(unique_key=['edition_year', 'hkhs_code'], incremental_strategy='delete+insert') }}

with open_build as (
    select * from {{ ref('stg_ops__open_build') }}
),

-- A build changes every row that it takes in, so the number of the build finds them without reading the rest.
lines as (
    select *
    from {{ ref('int_customs__lines_versioned') }}
    where
        {{ in_build('customs_declarations') }}
        {%- if is_incremental() %}
            and build_no = (select open_build.build_no from open_build)
        {%- endif %}
),

seen as (
    select
        cast(extract(year from movement_date) as integer) as edition_year,
        hkhs_code,
        business_date as first_declared_on,
        business_date as last_declared_on
    from lines
    {%- if is_incremental() %}
        union all
        select
            edition_year,
            hkhs_code,
            first_declared_on,
            last_declared_on
        from {{ this }}
    {%- endif %}
),

final as (
    select
        edition_year,
        hkhs_code,
        min(first_declared_on) as first_declared_on,
        max(last_declared_on) as last_declared_on
    from seen
    group by edition_year, hkhs_code
)

select * from final
