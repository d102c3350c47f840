{#- A predicate: the row of `alias`, which holds from valid_from to valid_to (both days included, empty means still),
    was in force on `day`. -#}
{% macro in_force_on(alias, day) -%}
    {{ alias }}.valid_from <= {{ day }} and ({{ alias }}.valid_to is null or {{ alias }}.valid_to >= {{ day }})
{%- endmacro %}

{#- The first day of a date's month. -#}
{% macro month_of(column) -%}
    cast({{ dbt.date_trunc('month', column) }} as date)
{%- endmacro %}

{#- What marts say of the release: its number, its day and, with `feeds`, the last day up to which all of them are complete.
    `months_back` adds first days of months: {column: months before the month of the release day}. -#}
{% macro release_columns(feeds=[], months_back={}) -%}
    {#- The graph carries the feeds that figures are made of, for dim_mart_coverage: a mart and its coverage say the same day. -#}
    {%- if feeds -%}
        {{- config(meta={'figures_from': feeds}) -}}
    {%- endif -%}
    select
        build_no as release_no,
        {% for column, months in months_back.items() -%}
            {{ month_of(dbt.dateadd('month', -months, 'as_of_date')) }} as {{ column }},
        {% endfor -%}
        {% if feeds -%}
            {{ last_complete_date(feeds) }} as last_complete_date,
        {% endif -%}
        as_of_date
    from {{ ref('stg_ops__open_build') }}
{%- endmacro %}

{#- The last day up to which every one of the feeds is complete; empty while one of them has delivered nothing. -#}
{% macro last_complete_date(feeds) -%}
    (
        select case when count(coverage.last_complete_date) = {{ feeds | length }} then min(coverage.last_complete_date) end
        from {{ ref('int_feeds__completeness') }} as coverage
        where coverage.feed in ('{{ feeds | join("', '") }}')
    )
{%- endmacro %}

{#- The month in which a feed's history begins; it may have begun without us. Empty while the feed has delivered nothing. -#}
{% macro first_month(feed) -%}
    (select {{ month_of('history.first_date') }} from {{ ref('int_feeds__completeness') }} as history where history.feed = '{{ feed }}')
{%- endmacro %}

{#- For how many days after its last one what a feed reports of a month may still grow. Declarations are due 14 days after
    the movement or, where that day is a holiday, on the next working day, insured shipments are declared in the month after, orders are refunded for 15 days. -#}
{% macro days_to_settle(feed) -%}
    {{ {'customs_declarations': 14, 'hkecic_shipments': 31, 'platform_orders': 15}[feed] }}
{%- endmacro %}

{#- A predicate: whether what a feed reports of a month may still grow, when what is known is complete up to a day. -#}
{% macro month_may_grow(feed, month, complete_date) -%}
    coalesce({{ complete_date }} < {{ settled_on(feed, month) }}, true)
{%- endmacro %}

{#- The day after whose end what a feed reports of a month can grow no more. A declaration whose 14th day is a holiday or a
    closed day is due later. -#}
{% macro settled_on(feed, month) -%}
    {%- set plain = dbt.dateadd('day', days_to_settle(feed), dbt.last_day(month, 'month')) -%}
    {%- if feed == 'customs_declarations' -%}
        coalesce(
            (
                -- Of the one day: an engine that cannot know that there is one asks for an aggregate.
                select max(calendar.declaration_due_on)
                from {{ ref('int_calendar__days') }} as calendar
                where calendar.day = {{ dbt.last_day(month, 'month') }}
            ),
            {{ plain }}
        )
    {%- else -%}
        {{ plain }}
    {%- endif -%}
{%- endmacro %}

{#- A predicate: whether a period may be quoted: its figures are covered whole and can grow no more. -#}
{% macro is_quotable(is_provisional, is_fully_covered) -%}
    coalesce(({{ is_fully_covered }}) and not ({{ is_provisional }}), false)
{%- endmacro %}

{#- The first day of the last month that may not grow any more, when what is known is complete up to a day. -#}
{% macro last_settled_month(feed, complete_date) -%}
    {{ last_whole_month(dbt.dateadd('day', '-' ~ days_to_settle(feed), complete_date)) }}
{%- endmacro %}

{#- One row: the first day of the last month for which the reports of a feed can no longer grow. -#}
{% macro known_until(feed) -%}
    select
        case
            when {{ month_may_grow(feed, 'settled.month', 'settled.complete_date') }}
                then cast({{ dbt.dateadd('month', -1, 'settled.month') }} as date)
            else settled.month
        end as month
    from (
        select
            complete.complete_date,
            {{ last_settled_month(feed, 'complete.complete_date') }} as month
        from (
            select coalesce({{ last_complete_date([feed]) }}, as_of_date) as complete_date
            from {{ ref('stg_ops__open_build') }}
        ) as complete
    ) as settled
{%- endmacro %}

{#- The first day of the last month that is over on a day. -#}
{% macro last_whole_month(day) -%}
    {{ month_of(dbt.dateadd('month', -1, dbt.dateadd('day', 1, day))) }}
{%- endmacro %}

{#- Size class of the declarant; `individual` for a person who lodges with an HKID number. `smes` is the alias of dim_sme,
    left joined: it has no persons. -#}
{% macro declarant_class(smes) -%}
    case when {{ smes }}.sme_id is null then 'individual' else {{ smes }}.sme_class end
{%- endmacro %}

{#- Whether the declarants of a row count as SMEs; those who lodge with an HKID number do not. -#}
{% macro declarant_counts(smes) -%}
    coalesce({{ smes }}.counts_as_sme, false)
{%- endmacro %}

{#- One row: the first day whose orders are there whole. The first delivery also brings orders of earlier days that changed since,
    but not all of those days: only a Monday's has its weekend whole. -#}
{% macro first_whole_order_day() -%}
    select
        cast(
            {{ dbt.dateadd('day', 'case when ' ~ iso_weekday('history.first_date') ~ ' = 1 then -2 else 0 end', 'history.first_date') }}
            as date
        ) as first_day
    from {{ ref('int_feeds__completeness') }} as history
    where history.feed = 'platform_orders'
{%- endmacro %}

{#- A ratio, median or share, shown only when enough things are behind it: what rests on fewer is noise, and tells of single ones. -#}
{% macro shown_from(count, value, least=10) -%}
    case when {{ count }} >= {{ least }} then {{ value }} end
{%- endmacro %}

{#- One row per measure of orders, with for how many days after its last one a window may still grow: what was paid may be
    refunded, so that net of refund is complete later. -#}
{% macro order_measures() -%}
    select
        'placed' as measure,
        0 as days_to_settle
    union all
    select
        'paid' as measure,
        0 as days_to_settle
    union all
    select
        'net' as measure,
        {{ days_to_settle('platform_orders') }} as days_to_settle
{%- endmacro %}

{#- Whether something happened to one who is watched within its days; empty while these are not over, and for who is not
    watched. -#}
{% macro happened_within(is_watched, happened, is_followed) -%}
    case
        when {{ is_watched }} then
            case when {{ happened }} then true when {{ is_followed }} then false end
    end
{%- endmacro %}
