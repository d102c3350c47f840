-- One row per registration number that any feed has shown. The sme_id follows from the number alone, so it is the same
-- in every run; a number once seen stays.
{{ config(unique_key='number', incremental_strategy='delete+insert', indexes=[{'columns': ['number'], 'unique': true}]) }}

with seen as (
    select brn as number from {{ ref('stg_registers__business_register') }} where {{ in_build('business_register') }}
    union distinct
    select trader_id as number from {{ ref('stg_customs__declarations') }} where {{ in_build('customs_declarations') }}
    union distinct
    select brn as number from {{ ref('stg_tid__funding_applications') }} where {{ in_build('funding_applications') }}
    union distinct
    select brn as number from {{ ref('stg_tid__funding_payments') }} where {{ in_build('funding_payments') }}
    union distinct
    select brn as number from {{ ref('stg_hkecic__policies') }} where {{ in_build('hkecic_policies') }}
    union distinct
    select brn as number from {{ ref('stg_hktdc__festival_participants') }} where {{ in_build('festival_participants') }}
    union distinct
    select brn as number from {{ ref('stg_hktdc__trade_missions') }} where {{ in_build('trade_missions') }}
    union distinct
    select supplier_brn as number from {{ ref('stg_hktdc__design_gallery_sales') }} where {{ in_build('design_gallery_sales') }}
    union distinct
    select holder_brn as number from {{ ref('stg_marks__quality_marks') }} where {{ in_build('quality_marks') }}
),

final as (
    select
        number,
        case
            when substring(number, 1, 1) = 'p' then 'hkid_pseudonym'
            when substring(number, 1, 1) between '0' and '9' then 'brn'
            else 'ubi'
        end as number_scheme,
        {{ dbt.concat(["'sme_'", "substring(" ~ dbt.hash('number') ~ ", 1, 16)"]) }} as sme_id
    from seen
    where number is not null
)

select * from final
