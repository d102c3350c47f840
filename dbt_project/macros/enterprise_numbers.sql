{#- Generated from the contracts by `sampan contracts derive`; edit those, not this. -#}
{% macro enterprise_numbers() -%}
    select brn as number from {{ ref('stg_registers__business_register') }} where {{ in_build('business_register') }}
    union distinct
    select trader_id as number from {{ ref('stg_customs__declarations') }} where {{ in_build('customs_declarations') }}
    union distinct
    select supplier_brn as number from {{ ref('stg_hktdc__design_gallery_sales') }} where {{ in_build('design_gallery_sales') }}
    union distinct
    select brn as number from {{ ref('stg_hktdc__festival_participants') }} where {{ in_build('festival_participants') }}
    union distinct
    select brn as number from {{ ref('stg_tid__funding_applications') }} where {{ in_build('funding_applications') }}
    union distinct
    select brn as number from {{ ref('stg_tid__funding_payments') }} where {{ in_build('funding_payments') }}
    union distinct
    select brn as number from {{ ref('stg_hkecic__policies') }} where {{ in_build('hkecic_policies') }}
    union distinct
    select holder_brn as number from {{ ref('stg_marks__quality_marks') }} where {{ in_build('quality_marks') }}
    union distinct
    select brn as number from {{ ref('stg_hktdc__trade_missions') }} where {{ in_build('trade_missions') }}
{%- endmacro %}
