-- One row per direction, pair of neighbouring editions of the HKHS, code and code that it became (or came from), with the share of
-- its trade. The editions list codes only: what became what is inferred, and link_basis says from what.
with editions as (
    select * from {{ ref('int_hkhs__editions') }}
),

published as (
    select * from {{ ref('int_csd__hsccit_versioned') }} where is_current
),

open_build as (
    {{ release_columns() }}
),

years as (
    select
        edition_year as year_before,
        lead(edition_year) over (order by edition_year) as year_since
    from (select distinct edition_year from editions) as listed
),

pairs as (
    select * from years where year_since is not null
),

traded as (
    select
        cast(extract(year from month_start) as integer) as edition_year,
        hs_code as hkhs_code,
        sum(import_value_hkd + domestic_export_value_hkd + re_export_value_hkd) as value_hkd
    from published
    group by extract(year from month_start), hs_code
),

codes as (
    select
        pairs.year_before,
        pairs.year_since,
        editions.edition_year,
        editions.hkhs_code,
        lower(editions.description_en) as description,
        coalesce(traded.value_hkd, 0) as value_hkd
    from pairs
    inner join editions on editions.edition_year in (pairs.year_before, pairs.year_since)
    left join traded on editions.edition_year = traded.edition_year and editions.hkhs_code = traded.hkhs_code
),

codes_before as (
    select * from codes where edition_year = year_before
),

codes_since as (
    select * from codes where edition_year = year_since
),

kept as (
    select codes_before.*
    from codes_before
    inner join codes_since
        on codes_before.year_before = codes_since.year_before and codes_before.hkhs_code = codes_since.hkhs_code
),

dropped as (
    select codes_before.*
    from codes_before
    left join codes_since
        on codes_before.year_before = codes_since.year_before and codes_before.hkhs_code = codes_since.hkhs_code
    where codes_since.hkhs_code is null
),

added as (
    select codes_since.*
    from codes_since
    left join codes_before
        on codes_since.year_before = codes_before.year_before and codes_since.hkhs_code = codes_before.hkhs_code
    where codes_before.hkhs_code is null
),

-- The nearer a kinship, the lower its rank; of each code only the nearest kin count. A code that is kept and traded has a
-- part in what was added beside it; one that is not traded was hardly split.
candidates as (
    select
        dropped.year_before,
        dropped.hkhs_code as code_before,
        added.hkhs_code as code_since,
        case
            when dropped.description = added.description then 'same_description'
            when substring(dropped.hkhs_code, 1, 6) = substring(added.hkhs_code, 1, 6) then 'same_subheading'
            else 'same_heading'
        end as link_basis,
        case
            when dropped.description = added.description then 0
            when substring(dropped.hkhs_code, 1, 6) = substring(added.hkhs_code, 1, 6) then 1
            else 4
        end as kinship
    from dropped
    inner join added
        on
            dropped.year_before = added.year_before
            and substring(dropped.hkhs_code, 1, 4) = substring(added.hkhs_code, 1, 4)
    union all
    select
        kept.year_before,
        kept.hkhs_code as code_before,
        added.hkhs_code as code_since,
        'same_subheading' as link_basis,
        case when kept.value_hkd > 0 then 2 else 3 end as kinship
    from kept
    inner join added
        on kept.year_before = added.year_before and substring(kept.hkhs_code, 1, 6) = substring(added.hkhs_code, 1, 6)
    union all
    select
        dropped.year_before,
        dropped.hkhs_code as code_before,
        kept.hkhs_code as code_since,
        'same_subheading' as link_basis,
        2 as kinship
    from dropped
    inner join kept
        on dropped.year_before = kept.year_before and substring(dropped.hkhs_code, 1, 6) = substring(kept.hkhs_code, 1, 6)
),

ranked as (
    select
        candidates.*,
        case
            when dropped.hkhs_code is not null
                then min(candidates.kinship) over (partition by candidates.year_before, candidates.code_before)
        end as nearest_of_dropped,
        case
            when added.hkhs_code is not null
                then min(candidates.kinship) over (partition by candidates.year_before, candidates.code_since)
        end as nearest_of_added
    from candidates
    left join dropped on candidates.year_before = dropped.year_before and candidates.code_before = dropped.hkhs_code
    left join added on candidates.year_before = added.year_before and candidates.code_since = added.hkhs_code
),

edges as (
    select
        year_before,
        code_before,
        code_since,
        link_basis
    from ranked
    where kinship = nearest_of_dropped or kinship = nearest_of_added
    union all
    select
        year_before,
        hkhs_code as code_before,
        hkhs_code as code_since,
        'same_code' as link_basis
    from kept
),

-- Trade since of each code, shared among those that it came from by their trade before.
allocated as (
    select
        edges.*,
        codes_before.year_since,
        case
            when sum(codes_before.value_hkd) over (partition by edges.year_before, edges.code_since) > 0
                then
                    codes_since.value_hkd * codes_before.value_hkd
                    / sum(codes_before.value_hkd) over (partition by edges.year_before, edges.code_since)
            else 0
        end as shared_hkd
    from edges
    inner join codes_before
        on edges.year_before = codes_before.year_before and edges.code_before = codes_before.hkhs_code
    inner join codes_since on edges.year_before = codes_since.year_before and edges.code_since = codes_since.hkhs_code
),

directed as (
    select
        'forward' as mapping_direction,
        year_before as from_edition,
        year_since as to_edition,
        code_before as from_code,
        code_since as to_code,
        link_basis,
        shared_hkd
    from allocated
    union all
    select
        'backward' as mapping_direction,
        year_since as from_edition,
        year_before as to_edition,
        code_since as from_code,
        code_before as to_code,
        link_basis,
        shared_hkd
    from allocated
),

counted as (
    select
        directed.*,
        count(*) over (partition by mapping_direction, from_edition, from_code) as to_count,
        count(*) over (partition by mapping_direction, from_edition, to_code) as from_count,
        sum(shared_hkd) over (partition by mapping_direction, from_edition, from_code) as shared_of_from_hkd
    from directed
),

summed as (
    select
        counted.*,
        max(from_count) over (partition by mapping_direction, from_edition, from_code) as siblings
    from counted
),

linked as (
    select
        mapping_direction,
        from_edition,
        to_edition,
        from_code,
        to_code,
        link_basis,
        case
            when to_count = 1 and siblings = 1 and from_code = to_code then 'kept'
            when to_count = 1 and siblings = 1 then 'renumbered'
            when siblings = 1 then case when mapping_direction = 'forward' then 'split' else 'merged' end
            when to_count = 1 then case when mapping_direction = 'forward' then 'merged' else 'split' end
            else 'rearranged'
        end as relation,
        case
            when to_count = 1 then 'single'
            when shared_of_from_hkd > 0 then 'published_trade'
            else 'equal'
        end as weight_basis,
        case
            when to_count = 1 then 1.0
            when shared_of_from_hkd > 0 then shared_hkd / shared_of_from_hkd
            else 1.0 / to_count
        end as weight
    from summed
),

all_rows as (
    select
        mapping_direction,
        from_edition,
        to_edition,
        from_code,
        to_code,
        relation,
        link_basis,
        weight,
        weight_basis
    from linked
    union all
    select
        'forward' as mapping_direction,
        dropped.year_before as from_edition,
        dropped.year_since as to_edition,
        dropped.hkhs_code as from_code,
        'none' as to_code,
        'unlinked' as relation,
        'none' as link_basis,
        1.0 as weight,
        'single' as weight_basis
    from dropped
    left join edges on dropped.year_before = edges.year_before and dropped.hkhs_code = edges.code_before
    where edges.code_before is null
    union all
    select
        'backward' as mapping_direction,
        added.year_since as from_edition,
        added.year_before as to_edition,
        added.hkhs_code as from_code,
        'none' as to_code,
        'unlinked' as relation,
        'none' as link_basis,
        1.0 as weight,
        'single' as weight_basis
    from added
    left join edges on added.year_before = edges.year_before and added.hkhs_code = edges.code_since
    where edges.code_since is null
),

final as (
    select
        cast(all_rows.mapping_direction as {{ dbt.type_string() }}) as mapping_direction,
        all_rows.from_edition,
        all_rows.to_edition,
        cast(all_rows.from_code as {{ dbt.type_string() }}) as from_code,
        cast(all_rows.to_code as {{ dbt.type_string() }}) as to_code,
        cast(all_rows.relation as {{ dbt.type_string() }}) as relation,
        cast(all_rows.link_basis as {{ dbt.type_string() }}) as link_basis,
        cast(all_rows.weight as numeric(18, 12)) as weight,
        cast(all_rows.weight_basis as {{ dbt.type_string() }}) as weight_basis,
        open_build.release_no
    from all_rows
    cross join open_build
)

select * from final
