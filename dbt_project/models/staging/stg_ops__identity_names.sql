-- One row per name of an entity in a delivery, with what its source says of who it is. The linkage reads only here: a feed
-- that names enterprises, with or without their numbers, gets a branch.
with register as (
    select * from {{ ref('stg_registers__business_register') }}
),

companies as (
    select * from {{ ref('stg_registers__companies_registry') }}
),

participants as (
    select * from {{ ref('stg_hktdc__festival_participants') }}
),

orders as (
    select * from {{ ref('stg_platforms__platform_orders') }}
),

missions as (
    select * from {{ ref('stg_hktdc__trade_missions') }}
),

marks as (
    select * from {{ ref('stg_marks__quality_marks') }}
),

applications as (
    select * from {{ ref('stg_tid__funding_applications') }}
),

policies as (
    select * from {{ ref('stg_hkecic__policies') }}
),

{% set sources = [
    {'from': 'register', 'source': "'number'", 'key': 'brn', 'names': ['name_en', 'name_zh'], 'number': 'brn', 'on_register': 'true',
     'registry_number': "case when cr_no is null then null when legal_form = 'non_hong_kong_company' then " ~ dbt.concat(["'F'", "lpad(cr_no, 7, '0')"])
        ~ " else " ~ dbt.concat(["'C'", "lpad(cr_no, 7, '0')"]) ~ " end"},
    {'from': 'companies', 'source': "'number'", 'key': 'brn', 'names': ['name_en', 'name_zh'], 'number': 'brn', 'on_register': 'true'},
    {'from': 'applications', 'source': "'number'", 'key': 'brn', 'names': ['applicant_name'], 'number': 'brn'},
    {'from': 'policies', 'source': "'number'", 'key': 'brn', 'names': ['policyholder_name'], 'number': 'brn'},
    {'from': 'participants', 'source': "'shop'", 'key': dbt.concat(["platform", "':'", "store_id"]), 'names': ['shop_name', 'merchant_name'],
     'number': 'brn', 'basis': "'festival_registration'", 'merchant': 'merchant_no', 'operator': 'operator_uscc', 'stated_on': 'joined_on'},
    {'from': 'orders', 'source': "'shop'", 'key': dbt.concat(["platform", "':'", "store_id"]), 'names': ['shop_name']},
    {'from': 'missions', 'source': "'mission'", 'key': dbt.concat(["event_id", "':'", "participant_no"]), 'names': ['enterprise_name'], 'number': 'brn'},
    {'from': 'marks', 'source': "'certificate'", 'key': dbt.concat(["scheme", "':'", "certificate_no"]), 'names': ['holder_name'], 'number': 'holder_brn'}
] -%}

final as (
    {%- for entry in sources %}
    {%- set outer = loop %}
    {%- for name in entry.names %}
    select
        {{ entry.source }} as source,
        {{ entry.key }} as source_key,
        {{ name }} as name,
        {{ entry.number or 'cast(null as text)' }} as number,
        {{ entry.basis or "'registration_number'" }} as number_basis,
        {{ entry.registry_number or 'cast(null as text)' }} as registry_number,
        {{ entry.merchant or 'cast(null as text)' }} as merchant,
        {{ entry.operator or 'cast(null as text)' }} as operator_uscc,
        cast({{ entry.on_register or 'false' }} as boolean) as is_on_register,
        cast({{ 'true' if entry.number else 'false' }} as boolean) as is_stated,
        cast({{ entry.stated_on or 'business_date' }} as date) as stated_on,
        batch_id,
        business_date,
        received_at
    from {{ entry.from }}
    {{ '' if outer.last and loop.last else 'union all' }}
    {%- endfor %}
    {%- endfor %}
)

select * from final
