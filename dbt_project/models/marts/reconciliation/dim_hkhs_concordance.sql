-- One row per direction, pair of neighbouring editions of the HKHS, code and code that it became (or came from), with the share of
-- its trade. The editions list codes only: what became what is inferred, and link_basis says from what.
with editions as (
    select * from {{ ref('int_hkhs__editions') }}
),

published as (
    select * from {{ ref('int_csd__hsccit_versioned') }} where is_current
),

open_build as (
    select * from {{ ref('stg_ops__open_build') }}
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

codes_before as (
    select
        pairs.year_before,
        pairs.year_since,
        editions.hkhs_code,
        lower(editions.description_en) as description,
        coalesce(traded.value_hkd, 0) as value_hkd
    from pairs
    inner join editions on pairs.year_before = editions.edition_year
    left join traded on editions.edition_year = traded.edition_year and editions.hkhs_code = traded.hkhs_code
),

codes_since as (
    select
        pairs.year_before,
        pairs.year_since,
        editions.hkhs_code,
        lower(editions.description_en) as description,
        coalesce(traded.value_hkd, 0) as value_hkd
    from pairs
    inner join editions on pairs.year_since = editions.edition_year
    left join traded on editions.edition_year = traded.edition_year and editions.hkhs_code = traded.hkhs_code
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
-- part in what was added beside it; one that nobody trades hardly was split.
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
        count(*) over (partition by edges.year_before, edges.code_before) as since_count,
        count(*) over (partition by edges.year_before, edges.code_since) as before_count,
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

summed as (
    select
        allocated.*,
        sum(shared_hkd) over (partition by year_before, code_before) as shared_of_before_hkd,
        sum(shared_hkd) over (partition by year_before, code_since) as shared_of_since_hkd,
        max(before_count) over (partition by year_before, code_before) as siblings_before,
        max(since_count) over (partition by year_before, code_since) as siblings_since
    from allocated
),

linked as (
    select
        'forward' as direction,
        year_before as from_edition,
        year_since as to_edition,
        code_before as from_code,
        code_since as to_code,
        link_basis,
        case
            when since_count = 1 and siblings_before = 1 and code_before = code_since then 'kept'
            when since_count = 1 and siblings_before = 1 then 'renumbered'
            when siblings_before = 1 then 'split'
            when since_count = 1 then 'merged'
            else 'rearranged'
        end as relation,
        case
            when since_count = 1 then 'single'
            when shared_of_before_hkd > 0 then 'published_trade'
            else 'equal'
        end as weight_basis,
        case
            when since_count = 1 then 1.0
            when shared_of_before_hkd > 0 then shared_hkd / shared_of_before_hkd
            else 1.0 / since_count
        end as weight
    from summed
    union all
    select
        'backward' as direction,
        year_since as from_edition,
        year_before as to_edition,
        code_since as from_code,
        code_before as to_code,
        link_basis,
        case
            when before_count = 1 and siblings_since = 1 and code_before = code_since then 'kept'
            when before_count = 1 and siblings_since = 1 then 'renumbered'
            when siblings_since = 1 then 'merged'
            when before_count = 1 then 'split'
            else 'rearranged'
        end as relation,
        case
            when before_count = 1 then 'single'
            when shared_of_since_hkd > 0 then 'published_trade'
            else 'equal'
        end as weight_basis,
        case
            when before_count = 1 then 1.0
            when shared_of_since_hkd > 0 then shared_hkd / shared_of_since_hkd
            else 1.0 / before_count
        end as weight
    from summed
),

unlinked as (
    select
        'forward' as direction,
        dropped.year_before as from_edition,
        dropped.year_since as to_edition,
        dropped.hkhs_code as from_code
    from dropped
    left join edges on dropped.year_before = edges.year_before and dropped.hkhs_code = edges.code_before
    where edges.code_before is null
    union all
    select
        'backward' as direction,
        added.year_since as from_edition,
        added.year_before as to_edition,
        added.hkhs_code as from_code
    from added
    left join edges on added.year_before = edges.year_before and added.hkhs_code = edges.code_since
    where edges.code_since is null
),

all_rows as (
    select
        direction,
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
        direction,
        from_edition,
        to_edition,
        from_code,
        'none' as to_code,
        'unlinked' as relation,
        'none' as link_basis,
        1.0 as weight,
        'single' as weight_basis
    from unlinked
),

final as (
    select
        cast(all_rows.direction as text) as direction,
        all_rows.from_edition,
        all_rows.to_edition,
        cast(all_rows.from_code as text) as from_code,
        cast(all_rows.to_code as text) as to_code,
        cast(all_rows.relation as text) as relation,
        cast(all_rows.link_basis as text) as link_basis,
        cast(all_rows.weight as numeric(18, 12)) as weight,
        cast(all_rows.weight_basis as text) as weight_basis,
        open_build.build_no as release_no
    from all_rows
    cross join open_build
)

select * from final
