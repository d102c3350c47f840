{#- A predicate: the row's batch is one that this run of the model has to read. Incremental runs read the batches of
    the open build, a first run or a full refresh all that builds took in. The numbers are written out, so that the
    planner opens no other partition. -#}
{% macro in_build(feed, column='batch_id', merges=none) -%}
    {%- set to_build, built = source('ops', 'batches_to_build'), source('ops', 'batches_built') -%}
    {%- set incremental = merges if merges is not none else is_incremental() -%}
    {%- if execute and flags.WHICH not in ('compile', 'docs', 'list') -%}
        {%- set batches = run_query(
            "select batch_id from " ~ (to_build if incremental else built) ~ " where feed = '" ~ feed ~ "' order by batch_id"
        ).columns[0].values() -%}
        {%- if batches | length > 0 -%}
            {{ column }} in ({{ batches | join(', ') }})
        {%- else -%}
            1 = 0
        {%- endif -%}
    {%- else -%}
        {{ column }} in (select batch_id from {{ built }} where feed = '{{ feed }}')
    {%- endif -%}
{%- endmacro %}

{#- The keys for which the open build changed a row of a versioned model, one row each. -#}
{% macro changed_in_build(relation, columns) -%}
    select distinct
        {{ columns | join(',\n        ') }}
    from {{ relation }}
    where build_no = (select open_build.build_no from {{ ref('stg_ops__open_build') }} as open_build)
{%- endmacro %}

{#- The amount that a row of a feed is about: the column of the contract and its unit. -#}
{% macro feed_amounts() -%}
    {{ return({
        'cdi_financing_requests': ('amount_requested_hkd', 'HKD'),
        'customs_declarations': ('value_hkd', 'HKD'),
        'funding_applications': ('amount_applied_hkd', 'HKD'),
        'funding_payments': ('amount_hkd', 'HKD'),
        'hkecic_claims': ('amount_claimed_hkd', 'HKD'),
        'hkecic_policies': ('max_liability_hkd', 'HKD'),
        'hkecic_shipments': ('invoice_value_hkd', 'HKD'),
        'platform_orders': ('payment_cny', 'CNY'),
    }) }}
{%- endmacro %}

{#- One row per feed whose rows are about an amount, with its unit. -#}
{% macro amounts_of_feeds() -%}
    {%- for feed, (column, unit) in feed_amounts().items() -%}
    select '{{ feed }}' as feed, '{{ unit }}' as unit
    {{ 'union all ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{#- An aggregate: the sum of the amounts of quarantined rows, as far as they are numbers. -#}
{% macro quarantined_amount(feed, fields) -%}
    sum(
        case {{ feed }}
            {%- for name, (column, unit) in feed_amounts().items() %}
            when '{{ name }}' then {{ json_number(fields, column) }}
            {%- endfor %}
        end
    )
{%- endmacro %}
