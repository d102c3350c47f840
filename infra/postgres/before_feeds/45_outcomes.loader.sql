-- Outcomes of funded enterprises, estimated in each build.
create table if not exists ops.funding_outcome (
    build_no bigint not null references ops.build,
    measure text not null check (measure in ('exports', 'online_net_sales')),
    programme text not null,
    window_months integer not null default 12,
    status text not null,
    funded_count integer not null,
    existed_before_count integer not null default 0,
    matched_funded_count integer not null,
    unfunded_count integer not null,
    placebo_funded_count integer not null default 0,
    applicants_count integer not null default 0,
    first_start_month date,
    last_start_month date,
    funded_before_hkd numeric,
    funded_after_hkd numeric,
    unfunded_before_hkd numeric,
    unfunded_after_hkd numeric,
    paid_hkd numeric,
    effect double precision,
    effect_low double precision,
    effect_high double precision,
    p_value double precision,
    p_value_adjusted double precision,
    placebo double precision,
    placebo_low double precision,
    placebo_high double precision,
    applicants_effect double precision,
    applicants_effect_low double precision,
    applicants_effect_high double precision,
    primary key (build_no, measure, programme, window_months)
);
-- Earlier versions had one window, and no state for trends that differed.
alter table ops.funding_outcome add column if not exists window_months integer not null default 12;
alter table ops.funding_outcome add column if not exists existed_before_count integer not null default 0;
alter table ops.funding_outcome add column if not exists placebo_funded_count integer not null default 0;
alter table ops.funding_outcome add column if not exists applicants_count integer not null default 0;
alter table ops.funding_outcome add column if not exists paid_hkd numeric;
alter table ops.funding_outcome add column if not exists p_value double precision;
alter table ops.funding_outcome add column if not exists p_value_adjusted double precision;
alter table ops.funding_outcome add column if not exists applicants_effect double precision;
alter table ops.funding_outcome add column if not exists applicants_effect_low double precision;
alter table ops.funding_outcome add column if not exists applicants_effect_high double precision;
do $$ begin
    if not exists (
        select from pg_constraint
        where conrelid = 'ops.funding_outcome'::regclass and contype = 'p' and cardinality(conkey) = 4
    ) then
        alter table ops.funding_outcome drop constraint if exists funding_outcome_pkey,
            add primary key (build_no, measure, programme, window_months);
    end if;
end $$;
alter table ops.funding_outcome drop constraint if exists funding_outcome_status_check;
alter table ops.funding_outcome add constraint funding_outcome_status_check
check (status in ('estimated', 'trends_differ', 'too_few'));
alter table ops.funding_outcome drop constraint if exists estimated_has_an_interval;
alter table ops.funding_outcome add constraint estimated_has_an_interval
check ((status = 'estimated') = (num_nonnulls(effect, effect_low, effect_high) = 3));
comment on table ops.funding_outcome is 'One row per build, measure, group of programmes and length of the windows: funded enterprises compared with unfunded ones.';
comment on column ops.funding_outcome.effect is 'Ratio of what the funded enterprises sold to what is expected without funding; 1 means no effect.';
comment on column ops.funding_outcome.placebo is 'The same ratio of the window before the application to the window before that, where it should be 1.';
comment on column ops.funding_outcome.applicants_effect is 'The same ratio against enterprises that applied and were not funded by then.';

create table if not exists ops.funding_outcome_month (
    build_no bigint not null references ops.build,
    measure text not null,
    programme text not null,
    window_months integer not null,
    event_month integer not null,
    effect double precision not null,
    band_low double precision not null,
    band_high double precision not null,
    funded_count integer not null,
    primary key (build_no, measure, programme, window_months, event_month)
);
comment on table ops.funding_outcome_month is 'The ratio of ops.funding_outcome by month before the application (negative) and after the start of the project; 0 is between them.';

grant select, insert, delete on ops.funding_outcome, ops.funding_outcome_month to sampan_builder;
