-- Outcomes of funded enterprises, estimated in each build.
create table if not exists ops.funding_outcome (
    build_no bigint not null references ops.build,
    measure text not null check (measure in ('exports', 'online_net_sales')),
    programme text not null,
    status text not null check (status in ('estimated', 'too_few')),
    funded_count integer not null,
    matched_funded_count integer not null,
    unfunded_count integer not null,
    first_start_month date,
    last_start_month date,
    funded_before_hkd numeric,
    funded_after_hkd numeric,
    unfunded_before_hkd numeric,
    unfunded_after_hkd numeric,
    effect double precision,
    effect_low double precision,
    effect_high double precision,
    placebo double precision,
    placebo_low double precision,
    placebo_high double precision,
    primary key (build_no, measure, programme),
    constraint estimated_has_an_interval
    check ((status = 'estimated') = (num_nonnulls(effect, effect_low, effect_high) = 3))
);
comment on table ops.funding_outcome is 'One row per build, measure and group of programmes: funded enterprises compared with matched unfunded ones.';
comment on column ops.funding_outcome.effect is 'Ratio of the funded enterprises'' figure to its estimate without funding; 1 means no effect.';
comment on column ops.funding_outcome.placebo is 'The same ratio between the two halves of the window before the funding, where it should be 1.';

grant select, insert, delete on ops.funding_outcome to sampan_builder;
