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

numbered_companies as (
    select
        register.*,
        case
            when cr_no is null then null
            when legal_form = 'non_hong_kong_company' then {{ dbt.concat(["'F'", "lpad(cr_no, 7, '0')"]) }}
            else {{ dbt.concat(["'C'", "lpad(cr_no, 7, '0')"]) }}
        end as registry_number
    from register
),

final as (
    {{ names_of(
        'numbered_companies', 'number', 'brn', ['name_en', 'name_zh'], number='brn', registry_number='registry_number',
        on_register=true
    ) }}
    union all
    {{ names_of('companies', 'number', 'brn', ['name_en', 'name_zh'], on_register=true) }}
    union all
    {{ names_of('applications', 'number', 'brn', ['applicant_name']) }}
    union all
    {{ names_of('policies', 'number', 'brn', ['policyholder_name']) }}
    union all
    {{ names_of(
        'participants', 'shop', shop_key(), ['shop_name', 'merchant_name'], number='brn',
        basis='festival_registration', merchant='merchant_no', operator_uscc='operator_uscc', stated_on='joined_on'
    ) }}
    union all
    {{ names_of('orders', 'shop', shop_key(), ['shop_name']) }}
    union all
    {{ names_of(
        'missions', 'mission', dbt.concat(["event_id", "':'", "participant_no"]), ['enterprise_name'], number='brn'
    ) }}
    union all
    {{ names_of(
        'marks', 'certificate', dbt.concat(["scheme", "':'", "certificate_no"]), ['holder_name'], number='holder_brn'
    ) }}
)

select * from final
