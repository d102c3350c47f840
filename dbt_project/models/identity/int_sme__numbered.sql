-- One row per registration number that the business register, a trader, an applicant, a policyholder, a participant of an event,
-- a supplier or a holder of a mark has shown. Consents, requests for financing, credit checks and payments only refer to enterprises,
-- and the Companies Registry only adds names: their numbers alone make none. The sme_id follows from the number alone, so it is
-- the same in every run; a number once seen stays.
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
