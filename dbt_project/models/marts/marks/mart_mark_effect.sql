-- One row per change of a mark (won or lost), scope, measure and window: how shops changed within themselves in the three months
-- after against the three before, and against shops without a mark in the same category, with a 95% interval.
-- `placebo` compares months 4 to 6 before with months 1 to 3 before.
with effects as (
    select * from {{ ref('stg_ops__shop_effects') }} where study = 'mark'
),

open_build as (
    {{ release_columns(['platform_orders', 'quality_marks']) }}
),

wanted as (
    {% for change in ['won', 'lost'] %}
        {%- set is_last_change = loop.last %}
        {% for scope in ['any', 'shop'] %}
            {%- set is_last_scope = loop.last %}
            {% for measure in ['net_sales', 'refund_rate'] %}
                {%- set is_last_measure = loop.last %}
                {% for time_window in ['placebo', 'after'] %}
                    select
                        '{{ change }}' as mark_change,
                        '{{ scope }}' as mark_scope,
                        '{{ measure }}' as measure,
                        '{{ time_window }}' as time_window
                    {{ 'union all' if not (is_last_change and is_last_scope and is_last_measure and loop.last) }}
                {% endfor %}
            {% endfor %}
        {% endfor %}
    {% endfor %}
),

final as (
    select
        wanted.mark_change,
        wanted.mark_scope,
        wanted.measure,
        wanted.time_window,
        coalesce(effects.status, 'too_few') as estimate_status,
        coalesce(effects.shop_count, 0) as shop_count,
        coalesce(effects.compared_shop_count, 0) as compared_shop_count,
        cast(effects.ratio as numeric(20, 4)) as effect_ratio,
        cast(effects.ratio_low as numeric(20, 4)) as effect_low_ratio,
        cast(effects.ratio_high as numeric(20, 4)) as effect_high_ratio,
        open_build.last_complete_date,
        cast('shops that share their data and are linked; months that may still change are left out' as {{ dbt.type_string() }}) as coverage_note,
        open_build.release_no
    from wanted
    cross join open_build
    left join effects
        on
            wanted.mark_change = effects.event
            and wanted.mark_scope = effects.audience
            and wanted.measure = effects.measure
            and wanted.time_window = effects.time_window
)

select * from final
