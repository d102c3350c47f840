-- What festivals and quality marks changed at shops, estimated in each build.
create table if not exists ops.shop_effect (
    build_no bigint not null references ops.build,
    study text not null,
    event text not null,
    measure text not null,
    time_window text not null,
    audience text not null,
    status text not null check (status in ('estimated', 'too_few')),
    shop_count integer not null,
    compared_shop_count integer not null,
    other_shop_count integer not null,
    ratio double precision,
    ratio_low double precision,
    ratio_high double precision,
    own_change double precision,
    others_change double precision,
    risen_share double precision,
    primary key (build_no, study, event, measure, time_window, audience),
    constraint estimated_has_an_interval
    check ((status = 'estimated') = (num_nonnulls(ratio, ratio_low, ratio_high) = 3))
);
alter table ops.shop_effect drop constraint if exists shop_effect_study_check;
alter table ops.shop_effect add constraint shop_effect_study_check
check (study in ('festival', 'gallery', 'live_stream', 'mark'));
comment on table ops.shop_effect is 'One row per build, study, event, measure, window and audience: shops compared with others, or with themselves.';
comment on column ops.shop_effect.ratio is 'Change of the shops in question over that of the others; 1 means no effect.';

grant select, insert, delete on ops.shop_effect to sampan_builder;
