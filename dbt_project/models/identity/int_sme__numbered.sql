-- One row per registration number in a column that a contract marks as the number of an enterprise. Other feeds only refer to
-- enterprises: their numbers alone make none. The sme_id follows from the number alone, so it is the same in every run; a number
-- once seen stays.
{{ config(unique_key='number', incremental_strategy='delete+insert', indexes=[{'columns': ['number'], 'unique': true}]) }}

with seen as (
    {{ enterprise_numbers() }}
),

final as (
    select
        number,
        case
            when substring(number, 1, 1) = 'p' then 'hkid_pseudonym'
            when substring(number, 1, 1) between '0' and '9' then 'brn'
            else 'ubi'
        end as number_kind,
        {{ dbt.concat(["'sme_'", "substring(" ~ dbt.hash('number') ~ ", 1, 16)"]) }} as sme_id
    from seen
    where number is not null
)

select * from final
