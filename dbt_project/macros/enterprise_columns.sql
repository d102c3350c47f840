{#- Generated from the contracts by `sampan contracts derive`; edit those, not this. -#}
{% macro enterprise_columns(kind) -%}
    {{ return({
        'enterprise_number': [
            {'feed': 'business_register', 'model': 'stg_registers__business_register', 'column': 'brn'},
            {'feed': 'customs_declarations', 'model': 'stg_customs__declarations', 'column': 'trader_id'},
            {'feed': 'design_gallery_sales', 'model': 'stg_hktdc__design_gallery_sales', 'column': 'supplier_brn'},
            {'feed': 'festival_participants', 'model': 'stg_hktdc__festival_participants', 'column': 'brn'},
            {'feed': 'funding_applications', 'model': 'stg_tid__funding_applications', 'column': 'brn'},
            {'feed': 'funding_payments', 'model': 'stg_tid__funding_payments', 'column': 'brn'},
            {'feed': 'hkecic_policies', 'model': 'stg_hkecic__policies', 'column': 'brn'},
            {'feed': 'quality_marks', 'model': 'stg_marks__quality_marks', 'column': 'holder_brn'},
            {'feed': 'trade_missions', 'model': 'stg_hktdc__trade_missions', 'column': 'brn'},
        ],
        'enterprise_name': [
            {'feed': 'business_register', 'model': 'stg_registers__business_register', 'column': 'name_en'},
            {'feed': 'business_register', 'model': 'stg_registers__business_register', 'column': 'name_zh'},
            {'feed': 'companies_registry', 'model': 'stg_registers__companies_registry', 'column': 'name_en'},
            {'feed': 'companies_registry', 'model': 'stg_registers__companies_registry', 'column': 'name_zh'},
            {'feed': 'festival_participants', 'model': 'stg_hktdc__festival_participants', 'column': 'shop_name'},
            {'feed': 'festival_participants', 'model': 'stg_hktdc__festival_participants', 'column': 'merchant_name'},
            {'feed': 'funding_applications', 'model': 'stg_tid__funding_applications', 'column': 'applicant_name'},
            {'feed': 'hkecic_policies', 'model': 'stg_hkecic__policies', 'column': 'policyholder_name'},
            {'feed': 'platform_orders', 'model': 'stg_platforms__platform_orders', 'column': 'shop_name'},
            {'feed': 'quality_marks', 'model': 'stg_marks__quality_marks', 'column': 'holder_name'},
            {'feed': 'trade_missions', 'model': 'stg_hktdc__trade_missions', 'column': 'enterprise_name'},
        ],
    }[kind]) }}
{%- endmacro %}
