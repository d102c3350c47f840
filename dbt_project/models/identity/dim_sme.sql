-- One row per enterprise on the business register, or that traded, applied, was insured, took part, supplied or held a mark.
-- Whether it is an SME is known only where the register knows its size. Of one with several numbers the register says what it has
-- under the number that survived, or else under another of them. Persons are in int_sme__persons.
{{
    config(
        schema='build',
        materialized='table',
        contract={'enforced': true},
        indexes=[{'columns': ['brn']}],
        post_hook='{{ add_primary_key() }}'
    )
}}

with survivors as (
    select * from {{ ref('stg_ops__identity_survivors') }}
),

numbers as (
    select *
    from {{ ref('int_sme__numbered') }}
    where
        number_kind <> 'hkid_pseudonym'
        and sme_id not in (select survivors.sme_id from survivors)
),

links as (
    select * from {{ ref('int_sme__linked') }} where source = 'number'
),

register as (
    select * from {{ ref('int_register__versioned') }} where is_current
),

size_classes as (
    select * from {{ ref('size_classes') }}
),

open_build as (
    {{ release_columns() }}
),

branches as (
    select
        register.*,
        links.sme_id,
        row_number() over (
            partition by links.sme_id
            order by
                case when numbers.number is null then 1 else 0 end,
                -- Branch 000 is the main business. It ends with the enterprise, even if a branch is left.
                register.branch_no,
                register.brn
        ) as position
    from register
    inner join links on register.brn = links.source_key
    left join numbers on register.brn = numbers.number
),

main_businesses as (
    select
        branches.*,
        case when industry_section = 'C' then 'manufacturing' else 'other' end as industry_group
    from branches
    where position = 1
),

final as (
    select
        numbers.sme_id,
        numbers.number as brn,
        numbers.number_kind,
        main_businesses.name_en,
        main_businesses.name_zh,
        main_businesses.legal_form,
        main_businesses.status as register_status,
        main_businesses.commencement_date,
        main_businesses.cessation_date,
        main_businesses.industry_section,
        main_businesses.hsic_code,
        main_businesses.district,
        cast(main_businesses.persons_engaged_count as integer) as persons_engaged_count,
        main_businesses.size_as_of,
        coalesce(size_classes.sme_class, 'unknown') as sme_class,
        case when size_classes.sme_class is null then 'unknown' else main_businesses.size_basis end as sme_class_basis,
        size_classes.is_sme,
        {{ counts_as_sme('size_classes.is_sme') }} as counts_as_sme,
        main_businesses.brn is not null as is_on_register,
        open_build.release_no
    from numbers
    cross join open_build
    left join main_businesses on numbers.sme_id = main_businesses.sme_id
    left join size_classes
        on
            main_businesses.industry_group = size_classes.industry_group
            and main_businesses.persons_engaged_count >= size_classes.min_persons
            and (size_classes.max_persons is null or main_businesses.persons_engaged_count <= size_classes.max_persons)
)

select * from final
