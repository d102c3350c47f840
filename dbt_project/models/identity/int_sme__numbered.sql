-- One row per registration number in a column that a contract marks as the number of an enterprise. Other feeds only refer to
-- enterprises: their numbers alone make none. The sme_id of an enterprise follows from its number alone, so it is the same in
-- every run; that of a person is random, so that guessing an HKID number does not find it. A number once seen stays.
{{ config(unique_key='number', incremental_strategy='delete+insert', indexes=[{'columns': ['number'], 'unique': true}]) }}

with new as (
    {{ enterprise_numbers() }}
),

seen as (
    select * from new
    {% if is_incremental() %}
        union distinct
        -- A pseudonym may turn out to be another one of a person who is known already.
        select known.number from {{ this }} as known
        where known.number_kind = 'hkid_pseudonym'
    {% endif %}
),

persons as (
    select * from {{ ref('stg_ops__persons') }}
),

final as (
    select
        seen.number,
        case
            when substring(seen.number, 1, 1) = 'p' then 'hkid_pseudonym'
            when substring(seen.number, 1, 1) between '0' and '9' then 'brn'
            else 'ubi'
        end as number_kind,
        case
            when substring(seen.number, 1, 1) = 'p' then persons.sme_id
            else {{ dbt.concat(["'sme_'", "substring(" ~ dbt.hash('seen.number') ~ ", 1, 16)"]) }}
        end as sme_id
    from seen
    left join persons on seen.number = persons.pseudonym
    where seen.number is not null
)

select * from final
